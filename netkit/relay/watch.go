package relay

import (
	"slices"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// disconnected ends the reservation of a peer without a direct connection: it
// lasts "as long as there is an active connection from the peer to the relay".
func (s *Server) disconnected(p peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Asked under the lock, so that a reservation made at this moment either sees
	// that the peer is gone or is seen here.
	if s.table.slots[p] != nil && len(s.direct(p)) == 0 {
		s.table.drop(p)
		s.over(ReasonDisconnected, p)
	}
}

// direct returns the connections to p that do not pass a relay themselves.
func (s *Server) direct(p peer.ID) []network.Conn {
	return slices.DeleteFunc(s.host.Network().ConnsToPeer(p), func(c network.Conn) bool {
		return c.IsClosed() || c.Stat().Limited || addr.IsRelayed(c.RemoteMultiaddr())
	})
}

// over says farewell to reservations that the table holds no more. The caller
// holds s.mu, so that events come in the order in which things happened.
func (s *Server) over(why Reason, peers ...peer.ID) {
	kind := EventReservationClosed
	if why == ReasonExpired {
		kind = EventReservationExpired
	}
	for _, p := range peers {
		s.host.ConnManager().UntagPeer(p, reservationTag)
		s.emit(Event{Kind: kind, Peer: p, Reason: why})
	}
}

// watch ends reservations in time and circuits that stall, until Close.
func (s *Server) watch() {
	stalls := time.NewTicker(stallCheck)
	defer stalls.Stop()
	expiry := time.NewTimer(0)
	defer expiry.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		case <-expiry.C:
		case <-stalls.C:
			s.endStalled()
			continue
		}
		s.mu.Lock()
		s.over(ReasonExpired, s.table.expire(time.Now())...)
		next, ok := s.table.next()
		s.mu.Unlock()
		if ok {
			expiry.Reset(time.Until(next))
		}
	}
}

// endStalled ends circuits one side of which reads nothing.
func (s *Server) endStalled() {
	for _, c := range s.open() {
		if c.there.stalled() || c.back.stalled() {
			c.end(ReasonStalled)
		}
	}
}
