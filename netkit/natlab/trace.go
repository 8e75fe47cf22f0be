package natlab

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// step is one event in a packet's life.
type step struct {
	at       time.Duration // since the lab began
	place    string
	what     string
	src, dst netip.AddrPort
	kind     string
	bytes    int
}

// trace is a ring of the last steps.
type trace struct {
	limit int
	steps []step
	next  int // place of the oldest step once the ring is full
}

func (t *trace) add(s step) {
	if len(t.steps) < t.limit {
		t.steps = append(t.steps, s)
		return
	}
	t.steps[t.next] = s
	t.next = (t.next + 1) % t.limit
}

// String prints the steps, oldest first, one a line.
func (t *trace) String() string {
	var b strings.Builder
	for i := range t.steps {
		s := t.steps[(t.next+i)%len(t.steps)]
		fmt.Fprintf(&b, "%12.3fms %-16s %s > %s %s %d bytes: %s\n",
			float64(s.at)/float64(time.Millisecond), s.place, s.src, s.dst, s.kind, s.bytes, s.what)
	}
	return b.String()
}

// note records what happened to a packet at a place. The caller holds l.mu.
func (l *Lab) note(now time.Time, place, what string, p packet) {
	l.trace.add(step{
		at: now.Sub(l.start), place: place, what: what,
		src: p.src, dst: p.dst, kind: p.kind(), bytes: p.bytes,
	})
}
