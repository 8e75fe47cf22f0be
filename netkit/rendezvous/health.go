package rendezvous

import (
	"fmt"
	"sync"
	"time"
)

// Sharing is how a server stands with a registry that it shares.
type Sharing struct {
	// Away is why it can answer nothing now: the registry is away, or refuses the server, or the
	// clock is wrong. Nil when it can.
	Away error
	// Since is when that began, or ended.
	Since time.Time
}

// Sharing tells how the server stands with the registry that it shares; nil when it is by itself.
func (s *Server) Sharing() *Sharing {
	b, ok := s.backend.(*shared)
	if !ok {
		return nil
	}
	b.health.mu.Lock()
	defer b.health.mu.Unlock()
	return &Sharing{b.health.away(), b.health.since}
}

// health is why a shared registry cannot be used. Nobody needs to ask it for anything for that to
// be known: the server writes its clock there all the time.
type health struct {
	// tell is told of each beginning and end, with nil for the end.
	tell func(away error)
	turn sync.Mutex // keeps what is told in order

	mu sync.Mutex
	// read is why what there is could not be read, wrote why nothing could be written, and clock
	// why it may not; nil where it could.
	read, wrote, clock error
	known              bool // whether anything was noted
	down               bool
	since              time.Time
}

// away is the first reason there is.
func (h *health) away() error {
	for _, err := range []error{h.read, h.wrote, h.clock} {
		if err != nil {
			return err
		}
	}
	return nil
}

// note takes in what was learnt, and tells what that changes.
func (h *health) note(learn func(*health)) {
	h.turn.Lock()
	defer h.turn.Unlock()
	h.mu.Lock()
	learn(h)
	err := h.away()
	changed := h.down != (err != nil)
	if changed || !h.known {
		h.since = time.Now()
	}
	h.down, h.known = err != nil, true
	h.mu.Unlock()
	if changed {
		h.tell(err)
	}
}

// sharing reports the beginning and the end of a time without the shared registry.
func (s *Server) sharing(away error) {
	if away == nil {
		s.emit(Event{Kind: EventBack})
		return
	}
	s.emit(Event{Kind: EventAway, Status: StatusUnavailable, Text: fmt.Sprint(away)})
}
