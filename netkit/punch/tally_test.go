package punch_test

import (
	"testing"

	"dibber/netkit/punch"
)

// TestTallyOfRaces: of kinds that are dialled together the winner counts, and the others
// only where an attempt with them failed.
func TestTallyOfRaces(t *testing.T) {
	const quic, tcp = "/ip4/17.0.0.1/udp/4001/quic-v1", "/ip4/17.0.0.1/tcp/4001"
	attempt := func(outcome string) punch.Attempt {
		return punch.Attempt{Remote: []string{quic, tcp}, Outcome: outcome}
	}
	punched := func(at string, outcomes ...string) (r punch.Report) {
		r.Outcome = outcomes[len(outcomes)-1]
		if r.Outcome == punch.Direct {
			r.Addr = &at
		}
		for _, o := range outcomes {
			r.Attempts = append(r.Attempts, attempt(o))
		}
		return r
	}
	shares := punch.Tally([]punch.Report{
		punched(quic, punch.Direct),
		punched(quic, punch.Direct),
		punched(tcp, punch.Failed, punch.Direct),
		punched("", punch.Failed),
	})
	type counts struct{ tried, direct int }
	want := map[string]counts{"": {4, 3}, "quic": {4, 2}, "tcp": {2, 1}}
	for _, s := range shares {
		if got := (counts{s.Tried, s.Direct}); got != want[s.Transport] {
			t.Errorf("%q: %+v, want %+v", s.Transport, got, want[s.Transport])
		}
	}
	if len(shares) != len(want) {
		t.Errorf("%+v", shares)
	}
}
