package relay

import (
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/clock"
)

// TestWallClockJumps sets the wall clock forward and back by a day: no reservation ends early, and none lasts longer than its time.
func TestWallClockJumps(t *testing.T) {
	from := ma.StringCast("/ip4/192.0.2.1/udp/4001/quic-v1")
	for _, day := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		start := time.Now()
		after := func(d time.Duration) time.Time { return clock.Jumped(t, start.Add(d), day) }
		limits, err := Limits{}.WithDefaults()
		if err != nil {
			t.Fatal(err)
		}
		table := newTable(limits, time.Hour, fakeASN)
		table.reserve(start, "before", from)
		table.reserve(start, "renewed", from)
		table.reserve(after(30*time.Minute), "renewed", from)
		for _, step := range []struct {
			at              time.Duration
			before, renewed bool
		}{
			{30 * time.Minute, true, true},
			{time.Hour - time.Second, true, true},
			{time.Hour, false, true},
			{90*time.Minute - time.Second, false, true},
			{90 * time.Minute, false, false},
		} {
			now := after(step.at)
			table.expire(now)
			if b, r := table.holds(now, "before"), table.holds(now, "renewed"); b != step.before || r != step.renewed {
				t.Errorf("%v: at %v: %t and %t, want %t and %t", day, step.at, b, r, step.before, step.renewed)
			}
		}
	}
}

// TestRenewalDespiteClocks: a relay whose clock is a day off is asked again in time, and not all the time.
func TestRenewalDespiteClocks(t *testing.T) {
	for left, want := range map[time.Duration]time.Duration{
		time.Hour: 45 * time.Minute, 25 * time.Hour: 45 * time.Minute, 10 * time.Minute: 450 * time.Second, -23 * time.Hour: leastHold,
	} {
		if got := renewAfter(left); got != want {
			t.Errorf("with %v left it is renewed after %v, want %v", left, got, want)
		}
	}
}
