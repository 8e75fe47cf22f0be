package natlab_test

import (
	"fmt"
	"testing"
	"time"

	"dibber/netkit/natlab"
)

// pair is two public machines with a socket each.
func pair(t *testing.T, lab *natlab.Lab, link natlab.LinkConfig) (a, b *natlab.Machine, from, to station) {
	t.Helper()
	a = lab.Internet().Machine("a", natlab.MachineConfig{Link: link})
	b = lab.Internet().Machine("b", natlab.MachineConfig{})
	return a, b, open(t, a, 1000), open(t, b, 1000)
}

func TestCutAndRestore(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		a, b, from, to := pair(t, lab, natlab.LinkConfig{})
		for _, m := range []*natlab.Machine{a, b} {
			m.Link().Cut()
			from.send(at(b, 1000), "lost")
			to.silent("link is cut")
			m.Link().Restore()
			from.send(at(b, 1000), "arrives")
			to.from()
		}
	})
}

// lossPattern sends 1000 packets over a link that loses a fifth and returns
// which of them arrive.
func lossPattern(t *testing.T, seed uint64) (arrived [1000]bool) {
	natlab.Config{Seed: seed}.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, b, from, to := pair(t, lab, natlab.LinkConfig{Loss: 0.2})
		for i := range arrived {
			from.send(at(b, 1000), fmt.Sprint(i))
			got, _ := to.hear()
			arrived[i] = got == fmt.Sprint(i)
		}
	})
	return arrived
}

func TestLossBySeed(t *testing.T) {
	first, again, other := lossPattern(t, 1), lossPattern(t, 1), lossPattern(t, 2)
	if first != again {
		t.Error("equal seeds lose different packets")
	}
	if first == other {
		t.Error("different seeds lose the same packets")
	}
	lost := 0
	for _, ok := range first {
		if !ok {
			lost++
		}
	}
	// 200 are expected; the standard deviation is 12.6 and the seed is fixed.
	if lost < 150 || lost > 250 {
		t.Errorf("lost %d of 1000, want about 200", lost)
	}
}

func TestSetLoss(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		a, b, from, to := pair(t, lab, natlab.LinkConfig{})
		a.Link().SetLoss(1)
		from.send(at(b, 1000), "lost")
		to.silent("everything is lost")
		a.Link().SetLoss(0)
		from.send(at(b, 1000), "arrives")
		to.from()
	})
}

// TestSetLatency: a packet that has left keeps its arrival time, so a later one
// can overtake it.
func TestSetLatency(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		a, b, from, to := pair(t, lab, natlab.LinkConfig{Latency: 100 * time.Millisecond})
		from.send(at(b, 1000), "slow")
		a.Link().SetLatency(10 * time.Millisecond)
		from.send(at(b, 1000), "fast")
		for _, want := range []struct {
			content string
			at      time.Duration
		}{{"fast", 15 * time.Millisecond}, {"slow", 105 * time.Millisecond}} {
			if got, _ := to.hear(); got != want.content || lab.Elapsed() != want.at {
				t.Errorf("%q after %s, want %q after %s", got, lab.Elapsed(), want.content, want.at)
			}
		}
	})
}

func TestNegativeLatencyIsNone(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, b, from, to := pair(t, lab, natlab.LinkConfig{Latency: -1})
		from.send(at(b, 1000), "x")
		if to.from(); lab.Elapsed() != natlab.DefaultLatency {
			t.Errorf("arrived after %s, want the %s of the other link", lab.Elapsed(), natlab.DefaultLatency)
		}
	})
}

// TestRate: packets leave one after the other, and those that would wait longer
// than the queue allows are lost.
func TestRate(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		const payload, headers = 972, 28 // 1000 bytes on the wire: 8 ms at 1 Mbit/s
		_, b, from, to := pair(t, lab, natlab.LinkConfig{Rate: 1_000_000, Queue: 30 * time.Millisecond})
		for range 10 {
			from.send(at(b, 1000), string(make([]byte, payload)))
		}
		for i := 1; ; i++ {
			got, _ := to.hear()
			if got == "" {
				// The fifth waits 32 ms, longer than the queue allows.
				if i-1 != 4 {
					t.Errorf("%d packets arrived, want 4", i-1)
				}
				break
			}
			want := time.Duration(i)*8*time.Millisecond + 2*natlab.DefaultLatency
			if lab.Elapsed() != want {
				t.Errorf("packet %d of %d bytes after %s, want %s", i, payload+headers, lab.Elapsed(), want)
			}
		}
		from.send(at(b, 1000), "the queue has drained")
		to.from()
	})
}

// TestSameInstantKeepsOrder: packets sent together arrive in the order of sending.
func TestSameInstantKeepsOrder(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, b, from, to := pair(t, lab, natlab.LinkConfig{})
		for i := range 200 {
			from.send(at(b, 1000), fmt.Sprint(i))
		}
		for i := range 200 {
			if got, _ := to.hear(); got != fmt.Sprint(i) {
				t.Fatalf("heard %q as number %d", got, i)
			}
		}
	})
}
