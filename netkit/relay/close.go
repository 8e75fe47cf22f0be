package relay

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

// Drain refuses every new reservation, renewal and circuit from now on. Circuits
// stay, and so do the reservations of their peers until the last circuit of each
// has ended. Drain does not wait; see [Server.Wait]. It cannot be taken back.
func (s *Server) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over(ReasonDraining, s.table.drain()...)
}

// Draining reports whether Drain was called.
func (s *Server) Draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.table.draining
}

// Wait returns when no circuit is open, or with the error of ctx when that ends
// before.
func (s *Server) Wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		none := s.none
		s.mu.Unlock()
		if none == nil {
			return nil
		}
		select {
		case <-none:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close ends the relay, every circuit and every reservation, and returns when
// nothing of it runs any more.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.running.Wait()
		return nil
	}
	s.closed = true
	opening := make([]network.Stream, 0, len(s.opening))
	for st := range s.opening {
		opening = append(opening, st)
	}
	s.mu.Unlock()

	s.host.RemoveStreamHandler(proto.ProtoIDv2Hop)
	s.host.RemoveStreamHandler(IntroProtocol)
	s.host.Network().StopNotify(s.notifiee)
	s.cancel()
	for _, c := range s.open() {
		c.end(ReasonShutdown)
	}
	for _, st := range opening {
		// A deadline in the past wakes the handler, which resets the stream.
		_ = st.SetDeadline(past())
	}
	s.running.Wait()
	if err := s.intros.Close(); err != nil {
		return err
	}

	s.mu.Lock()
	for p := range s.table.slots {
		s.table.drop(p)
		s.over(ReasonShutdown, p)
	}
	s.mu.Unlock()
	s.scope.Done()
	return nil
}

// past is a deadline that wakes readers and writers at once.
func past() time.Time { return time.Unix(1, 0) }
