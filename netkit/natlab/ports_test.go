package natlab

import "testing"

// TestSequentialGoesOnAbove: after a port that was taken the next one follows
// the port given out, not the one tried first.
func TestSequentialGoesOnAbove(t *testing.T) {
	a := allocator{kind: Sequential, next: 65534}
	taken := map[uint16]bool{65534: true, lowestPort: true}
	for _, want := range []uint16{65535, lowestPort + 1, lowestPort + 2} {
		got, ok := a.pick(4001, func(p uint16) bool { return !taken[p] })
		if !ok || got != want {
			t.Errorf("picked %d, want %d", got, want)
		}
	}
}
