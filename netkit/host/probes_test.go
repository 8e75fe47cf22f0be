package host

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"dibber/netkit/clock"
)

// TestProbesAreCounted: no address gets more than its share in any minute, whoever
// asks, and all together no more than the rate.
func TestProbesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(Node)
		a, b := netip.MustParseAddr("17.0.0.1"), netip.MustParseAddr("17.0.0.2")
		sent := func(to netip.Addr) (count int) {
			for n.AwaitProbe(t.Context(), to) == nil {
				count++
			}
			return count
		}
		began := time.Now()
		if got := sent(a); got != ProbesPerMinute {
			t.Errorf("%d probes, want %d", got, ProbesPerMinute)
		}
		if took, least := time.Since(began), time.Second*(ProbesPerMinute-probesAtOnce)/ProbesPerSecond; took < least {
			t.Errorf("took %s, less than %s", took, least)
		}
		if got := sent(b); got != ProbesPerMinute {
			t.Errorf("%d probes to another address, want %d", got, ProbesPerMinute)
		}
		time.Sleep(time.Until(began.Add(time.Minute - time.Second)))
		if got := sent(a); got != 0 {
			t.Errorf("%d probes more within the minute", got)
		}
		time.Sleep(5 * time.Second)
		if got := sent(a); got != ProbesPerMinute {
			t.Errorf("%d probes after the minute, want %d", got, ProbesPerMinute)
		}
		c, dials := netip.MustParseAddr("17.0.0.3"), 0
		for n.SpendDial(c) == nil {
			dials++
		}
		if dials != ProbesPerMinute/ProbesOfDial {
			t.Errorf("%d dials to one address", dials)
		}
		n.RefundDial(c)
		if n.SpendDial(c) != nil || n.SpendDial(c) == nil {
			t.Error("a dial that was answered is not given back, or more than one is")
		}
		time.Sleep(2 * time.Minute)
		n.RefundDial(c)
		for dials = 0; n.SpendDial(c) == nil; dials++ {
		}
		if dials != ProbesPerMinute/ProbesOfDial {
			t.Errorf("%d dials after what was spent long ago was given back", dials)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := n.AwaitProbe(ctx, b); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// TestProbedAddressesAreFew: who asks for probes to ever more addresses is refused.
func TestProbedAddressesAreFew(t *testing.T) {
	var b probeBudget
	now := time.Unix(1e9, 0)
	at := func(i int) netip.Prefix { return sourceOf(netip.AddrFrom4([4]byte{17, 0, byte(i >> 8), byte(i)})) }
	for i := range probedKeys {
		if err := b.take(now, at(i), 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.take(now, at(probedKeys), 1); !errors.Is(err, ErrProbesSpent) {
		t.Errorf("one address more: %v", err)
	}
	if err := b.take(now.Add(2*time.Minute), at(probedKeys), 1); err != nil {
		t.Errorf("later: %v", err)
	}
}

// TestProbesDespiteWallClock sets the wall clock back and forth by a day: an address gets its share of each minute, and no more.
func TestProbesDespiteWallClock(t *testing.T) {
	for _, day := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		var b probeBudget
		start, to := time.Now(), sourceOf(netip.MustParseAddr("17.0.0.1"))
		if err := b.take(start, to, ProbesPerMinute); err != nil {
			t.Fatal(err)
		}
		if err := b.take(clock.Jumped(t, start.Add(10*time.Second), day), to, 1); !errors.Is(err, ErrProbesSpent) {
			t.Errorf("set by %s: one more within the minute: %v", day, err)
		}
		if err := b.take(clock.Jumped(t, start.Add(2*time.Minute), day), to, ProbesPerMinute); err != nil {
			t.Errorf("set by %s: after the minute: %v", day, err)
		}
	}
}
