package punch

import (
	"context"
	"fmt"
	"time"

	"dibber/netkit/ping"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
)

// pace is the round trip time of a relayed connection that this end made. It is measured
// while the other end makes its offer, so that this end knows when its answer arrives, and
// both begin then: to be told would take another half of a round trip.
type pace struct {
	known chan struct{} // closed when rtt is
	rtt   time.Duration
}

// measure begins to measure the pace of c.
func (s *Service) measure(c network.Conn) {
	p := &pace{known: make(chan struct{})}
	s.mu.Lock()
	s.paces[c] = p
	s.mu.Unlock()
	s.goRun(func() {
		ctx, cancel := context.WithTimeout(s.ctx, exchangeTimeout)
		defer cancel()
		r, err := ping.Do(ctx, s.n, c.RemotePeer(), ping.Config{})
		if err == nil && r.Min != nil {
			p.rtt = time.Duration(*r.Min * float64(time.Millisecond))
			close(p.known)
		}
	})
}

// paceOf is the pace of c, which may be known only later; nil if it is not measured.
func (s *Service) paceOf(c network.Conn) *pace {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paces[c]
}

// awaitBegin returns when an answer that was sent has arrived, or when the other end says
// so, with the round trip time. It ends with the service.
func (s *Service) awaitBegin(r *run, frames *wire.Reader, sent time.Time) (time.Duration, error) {
	begin := make(chan error, 1)
	reads := s.goRun(func() { // the end of the stream ends it
		_, err := frames.Next()
		begin <- err
	})
	if !reads {
		return 0, fmt.Errorf("wait for begin: %w", context.Canceled)
	}
	told := func(err error) (time.Duration, error) {
		if err != nil {
			return 0, fmt.Errorf("wait for begin: %w", err)
		}
		return time.Since(sent), nil
	}
	var known <-chan struct{} // nil: the other end has to say it
	p := s.paceOf(r.relayed)
	if p != nil {
		known = p.known
	}
	select {
	case err := <-begin:
		return told(err)
	case <-s.ctx.Done():
		return told(s.ctx.Err())
	case <-known:
	}
	due := time.NewTimer(time.Until(sent.Add(p.rtt / 2)))
	defer due.Stop()
	select {
	case err := <-begin:
		return told(err)
	case <-s.ctx.Done():
		return told(s.ctx.Err())
	case <-due.C:
		return p.rtt, nil
	}
}
