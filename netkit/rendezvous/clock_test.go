package rendezvous

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"dibber/netkit/clock"
)

// TestWallClockJumps sets the wall clock forward and back by a day: no registration ends early, none lasts longer than its TTL, those made
// before as little as those refreshed after.
func TestWallClockJumps(t *testing.T) {
	for _, day := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		start := time.Now()
		after := func(d time.Duration) time.Time { return clock.Jumped(t, start.Add(d), day) }
		r := newRegistry(testLimits(t, Limits{}), start)
		mustPut(t, r, start, testClaim("before", "ns", 2*time.Hour))
		mustPut(t, r, start, testClaim("refreshed", "ns", 2*time.Hour))
		mustPut(t, r, after(time.Hour), testClaim("refreshed", "ns", 2*time.Hour))
		for _, step := range []struct {
			at   time.Duration
			gone []string
		}{
			{time.Hour, nil},
			{2*time.Hour - time.Second, nil},
			{2*time.Hour + wheelTick, []string{"before@ns"}},
			{3*time.Hour - time.Second, nil},
			{3*time.Hour + wheelTick, []string{"refreshed@ns"}},
		} {
			if got := gone(r.sweep(after(step.at))); len(got) != len(step.gone) || len(got) == 1 && got[0] != step.gone[0] {
				t.Errorf("%v: at %v ends %v, want %v", day, step.at, got, step.gone)
			}
		}
	}
}

// TestWallClockJumpsAndRestart: what was stored after a jump is taken up with what is left of it, and nothing with more than its TTL.
func TestWallClockJumpsAndRestart(t *testing.T) {
	for _, day := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		start := time.Now()
		now := clock.Jumped(t, start.Add(time.Hour), day)
		r := newRegistry(testLimits(t, Limits{}), start)
		c := testClaim(string(testPeer(t)), "ns", 2*time.Hour)
		for stored, most := range map[time.Time]time.Duration{now: 90 * time.Minute, start: 2 * time.Hour} {
			done := mustPut(t, r, stored, c)
			changes := encodeChanges([]*change{done}, stored, r.clock(stored))
			key := storedKey(done.seq)
			e, err := decodeEntry([]byte(key), changes[key], now.Add(30*time.Minute).Round(0)) // a new process has no old monotonic reading
			if err != nil {
				t.Fatal(err)
			}
			if e.left > most || stored.Equal(now) && e.left < most-time.Second {
				t.Errorf("%v: %v are left, want %v at most", day, e.left, most)
			}
		}
	}
}

func testPeer(t *testing.T) peer.ID {
	t.Helper()
	id, err := peer.Decode("12D3KooWNeGGXYHyxdahjZjHssPuWPWDq6GXfoJGyXcPuk7qZZze")
	if err != nil {
		t.Fatal(err)
	}
	return id
}
