package replicate

import (
	"testing"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
)

// branch signs n entries of log 0 that follow some.
func branch(t testing.TB, author int, base []logstore.Record, n int, text string) []logstore.Record {
	t.Helper()
	run := append([]logstore.Record(nil), base...)
	for range n {
		var previous *bamboo.Signed
		var skip bamboo.Hash
		seq := uint64(len(run) + 1)
		if seq > 1 {
			previous = &run[seq-2].Signed
			if bamboo.HasSkiplink(seq) {
				skip = run[bamboo.Lipmaa(seq)-1].ID
			}
		}
		payload := []byte(text)
		signed, err := bamboo.Sign(keyN(author), 0, previous, skip, payload)
		if err != nil {
			t.Fatal(err)
		}
		run = append(run, logstore.Record{Signed: signed, Time: seq, Payload: payload})
	}
	return run
}

func holding(t testing.TB, runs ...[]logstore.Record) *Replica {
	t.Helper()
	r := replicaOf(t)
	for _, run := range runs {
		if _, err := r.Store.Put(run); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func forksOf(t testing.TB, r *Replica) (seqs []uint64) {
	t.Helper()
	see(t, r.Store, func(v *logstore.View) {
		if err := v.Forks(func(f logstore.Fork) error { seqs = append(seqs, f.Seq); return nil }); err != nil {
			t.Fatal(err)
		}
	})
	return seqs
}

// TestForks finds where branches part, whichever side is longer and wherever it is, leaves the proof on both sides and passes it on.
func TestForks(t *testing.T) {
	for _, c := range []struct {
		name             string
		common, one, two int
		ca               SessionConfig
		both             bool
	}{
		{"equal heights", 10, 5, 5, SessionConfig{}, true},
		{"who dials is longer", 10, 500, 5, SessionConfig{}, true},
		{"who dials is shorter", 10, 5, 500, SessionConfig{}, true},
		{"from the beginning", 0, 300, 70, SessionConfig{}, true},
		{"far down", 3000, 1000, 1, SessionConfig{}, true},
		{"near the beginning", 1, 5000, 5000, SessionConfig{}, true},
		{"reconciled", 10, 5, 500, SessionConfig{Algo: Ranges}, true},
		{"pulled", 10, 5, 500, SessionConfig{NoPush: true}, false},
		{"pushed", 10, 5, 500, SessionConfig{NoPull: true}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := branch(t, 1, nil, c.common, "common")
			one, two := branch(t, 1, base, c.one, "one"), branch(t, 1, base, c.two, "two")
			other := branch(t, 2, nil, 3, "other")
			a, b := holding(t, one, other), holding(t, two)
			ra, rb := meet(t, a, b, c.ca, SessionConfig{})
			if ra.err != nil || rb.err != nil {
				t.Fatalf("%v; %v", ra.err, rb.err)
			}
			want := uint64(c.common + 1)
			for _, r := range []outcome{ra, rb} {
				if len(r.Forks) != 1 || r.Forks[0].Seq != want {
					t.Errorf("told %+v, want entry %d", r.Forks, want)
				}
			}
			for _, r := range []*Replica{a, b} {
				if got := forksOf(t, r); len(got) != 1 || got[0] != want {
					t.Errorf("kept %v, want entry %d", got, want)
				}
			}
			// Then both hold the same as far as there is one branch.
			if c.both {
				ra, _ := met(t, a, b, SessionConfig{}, SessionConfig{})
				if len(ra.Forks) > 0 || ra.Pulled.Entries+ra.Pushed.Entries > 3 {
					t.Errorf("again: %+v", ra.Result)
				}
			}
			// A third store gets the log as one of them has it, and the proof. One that has only the proof gets what is before.
			third := replicaOf(t)
			met(t, third, b, SessionConfig{}, SessionConfig{})
			fourth := replicaOf(t)
			if _, err := fourth.Store.PutFork(one[c.common].Signed, two[c.common].Signed); err != nil {
				t.Fatal(err)
			}
			met(t, fourth, b, SessionConfig{}, SessionConfig{})
			for _, r := range []*Replica{third, fourth} {
				if got := forksOf(t, r); len(got) != 1 || got[0] != want {
					t.Errorf("another has %v, want entry %d", got, want)
				}
			}
			if h := logOf(t, fourth.Store, 1); h.Height != uint64(c.common) {
				t.Errorf("with the proof only entry %d came, want %d", h.Height, c.common)
			}
		})
	}
}

// TestProofReachesThoseInStep passes a proof on to a store that holds the same entries and knows nothing of the other branch.
func TestProofReachesThoseInStep(t *testing.T) {
	base := branch(t, 1, nil, 10, "common")
	one, two := branch(t, 1, base, 2, "one"), branch(t, 1, base, 2, "two")
	a, b := holding(t, one), holding(t, one)
	met(t, a, b, SessionConfig{}, SessionConfig{})
	if _, err := a.Store.PutFork(one[10].Signed, two[10].Signed); err != nil {
		t.Fatal(err)
	}
	met(t, b, a, SessionConfig{}, SessionConfig{})
	if got := forksOf(t, b); len(got) != 1 || got[0] != 11 {
		t.Errorf("it has %v", got)
	}
}

// TestBadSignatureInside moves a log in which the author signed badly: runs end where a signature verifies.
func TestBadSignatureInside(t *testing.T) {
	var run []logstore.Record
	for _, bad := range []int{1023, 1024, 1025, 1026, 1027, 1028, 2048, 2049, 2050, 2051, 2052} { // frames end about there
		run = branch(t, 1, run, bad-len(run), "text")
		// A signature that does not verify, with an id that covers it, is what an author can make.
		r := &run[bad-1]
		r.Entry.Signature[7] ^= 1
		signed, err := bamboo.Parse(r.Entry.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		r.Signed = signed
	}
	run = branch(t, 1, run, 3000-len(run), "text")
	a, b := holding(t, run), replicaOf(t)
	met(t, a, b, SessionConfig{}, SessionConfig{})
}
