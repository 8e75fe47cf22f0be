package wire

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestLimiterAllowsBurstThenRate(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	l := NewLimiter[peer.ID](2, 3, 10)
	var got []bool
	for range 4 {
		got = append(got, l.Allow("a", now))
	}
	got = append(got, l.Allow("b", now), l.Allow("a", now.Add(500*time.Millisecond)), l.Allow("a", now.Add(500*time.Millisecond)))
	if want := "[true true true false true true false]"; fmt.Sprint(got) != want {
		t.Errorf("allowed %v, want %s", got, want)
	}
}

// TestLimiterForgetsTheSilent keeps a busy peer's bucket while strangers pass.
func TestLimiterForgetsTheSilent(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	l := NewLimiter[peer.ID](1e-9, 1, 3)
	l.Allow("busy", now)
	for i := range 100 {
		if l.Allow("busy", now) {
			t.Fatalf("the bucket of a busy peer was forgotten after %d strangers", i)
		}
		l.Allow(peer.ID(fmt.Sprint(i)), now)
	}
	if len(l.buckets) != 3 || l.recent.Len() != 3 {
		t.Errorf("%d buckets, %d in order, want 3", len(l.buckets), l.recent.Len())
	}
}

// TestLimiterForget gives one key back what it used, and no other.
func TestLimiterForget(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	l := NewLimiter[peer.ID](1e-9, 1, 3)
	l.Allow("a", now)
	l.Allow("b", now)
	l.Forget("a")
	l.Forget("nobody")
	if !l.Allow("a", now) || l.Allow("b", now) || l.recent.Len() != len(l.buckets) {
		t.Error("not the rate of one key was taken back")
	}
}

// Who reserves more than it has waits for it; a burst is the most that counts.
func TestReserve(t *testing.T) {
	l := NewLimiter[string](10, 20, 4)
	now := time.Unix(100, 0)
	for _, c := range []struct {
		key  string
		n    int
		want time.Duration
	}{
		{"a", 20, 0},
		{"a", 5, 500 * time.Millisecond},
		{"a", 0, 500 * time.Millisecond},
		{"b", 20, 0},
		{"c", 2000, 0},
		{"c", 10, time.Second},
	} {
		if d := l.Reserve(c.key, now, c.n); d != c.want {
			t.Errorf("%d of %s: wait %s, want %s", c.n, c.key, d, c.want)
		}
	}
}
