package main

import (
	"testing"
)

// TestNothingIsLost is a short run.
func TestNothingIsLost(t *testing.T) {
	if testing.Short() {
		t.Skip("builds dibber and kills it")
	}
	r, err := run(t.Context(), options{restarts: 6, clients: 4, seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if r.Lost+r.Stale+r.Undead+r.ByHand+r.OtherPeer != 0 {
		t.Errorf("not as acknowledged: %+v", r)
	}
	if r.Restarts < 6 || r.Registers == 0 || r.Checked == 0 || r.SlowestStartS == 0 {
		t.Errorf("nothing was tried: %+v", r)
	}
}

func TestPlaceIsChecked(t *testing.T) {
	for _, c := range []struct {
		name  string
		acked uint64
		open  []uint64
		found uint64
		want  verdict
	}{
		{"there", 3, nil, 3, good},
		{"gone", 0, nil, 0, good},
		{"cut off, taken", 3, []uint64{4}, 4, good},
		{"cut off, not taken", 3, []uint64{4}, 3, good},
		{"removal cut off, taken", 3, []uint64{0}, 0, good},
		{"lost", 3, nil, 0, lost},
		{"lost, though another was cut off", 3, []uint64{4}, 0, lost},
		{"the refresh is lost", 3, nil, 2, stale},
		{"of nobody", 3, []uint64{4}, 5, stale},
		{"removed", 0, nil, 2, undead},
	} {
		p := &place{acked: c.acked, open: c.open}
		if got := p.check(c.found); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
		if p.acked != c.found || p.open != nil {
			t.Errorf("%s: goes on from %d and %v", c.name, p.acked, p.open)
		}
	}
	p := &place{acked: 1}
	p.answered(2, false)
	p.answered(3, true)
	if p.check(2) != stale {
		t.Error("an acknowledged refresh leaves older ones open")
	}
}

func TestVersionsAreAddresses(t *testing.T) {
	for _, version := range []uint64{1, 2, 65534, 65535, 65536, 1 << 24, 1<<36 + 7} {
		if got, err := addrVersion(versionAddr(version)); err != nil || got != version {
			t.Errorf("version %d came back as %d, %v", version, got, err)
		}
	}
}
