package vantage

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestLateAnswersAreBounded: what is over the bound is dropped, and nothing is sent once
// the server is closed.
func TestLateAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l late
		var sent atomic.Int64
		for i := range maxLate + 10 {
			l.after(network(i), time.Minute, func() { sent.Add(1) })
		}
		time.Sleep(59 * time.Second)
		if n := sent.Load(); n != 0 {
			t.Errorf("%d were sent too early", n)
		}
		time.Sleep(2 * time.Second)
		if n := sent.Load(); n != maxLate {
			t.Errorf("%d were sent, want %d", n, maxLate)
		}
		l.after(network(0), time.Minute, func() { sent.Add(1) })
		l.close()
		l.after(network(0), 0, func() { sent.Add(1) })
		time.Sleep(time.Hour)
		if n := sent.Load(); n != maxLate {
			t.Errorf("%d were sent, some after the end", n)
		}
	})
}

// network is one of many.
func network(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{17, byte(i >> 8), byte(i), 0}), prefix4)
}

// TestLateAnswersAreShared: one network does not take all of what may wait, and has its
// share again when its answers are sent.
func TestLateAnswersAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l late
		defer l.close()
		var one, other atomic.Int64
		for range maxLate {
			l.after(network(1), time.Minute, func() { one.Add(1) })
		}
		l.after(network(2), time.Minute, func() { other.Add(1) })
		time.Sleep(2 * time.Minute)
		if one.Load() != maxLateOfNet || other.Load() != 1 {
			t.Errorf("%d answers to one network, of %d, and %d to another", one.Load(), maxLateOfNet, other.Load())
		}
		l.after(network(1), time.Minute, func() { one.Add(1) })
		time.Sleep(2 * time.Minute)
		if one.Load() != maxLateOfNet+1 {
			t.Error("its share is used up for ever")
		}
	})
}
