package punch

import (
	"errors"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Over a relayed connection the end that called knows of it first, half a round trip
// before the other. So it makes its offer at once, if it knows its own NAT by then; if
// not, or if that comes to nothing, it is asked: by an offer of the end that was called,
// and by DCUtR.

// call punches for the relayed connection c, which this end made, as far as that is for
// this end to begin.
func (s *Service) call(c network.Conn) {
	via, _ := addr.RelayOf(c.RemoteMultiaddr()) // it is relayed
	if !s.ready(via) {
		return
	}
	r, ok := s.beginRelayed(c, Responder)
	if !ok {
		return
	}
	err := s.answerRun(r, func() error { return s.offer(r) })
	if err != nil && !r.asked && !r.shared() {
		err = errors.Join(errUnasked, err)
	}
	s.end(r, err)
}

// ready reports whether what is known of the own NAT is known now.
func (s *Service) ready(via peer.AddrInfo) bool {
	for _, server := range append([]peer.AddrInfo{via}, s.cfg.Servers...) {
		l := s.look(server)
		select {
		case <-l.done:
			if l.found != nil && len(l.found.paths) > 0 {
				return true
			}
		default:
		}
	}
	return false
}

// expect makes room for the offer of the end that called.
func (s *Service) expect(c network.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.callers[c] = make(chan network.Stream, 1)
}

// called hands on the offer that came over the relayed connection c, which came in. It is
// false if none is expected any more.
func (s *Service) called(c network.Conn, st network.Stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.callers[c] <- st: // none expected: nil, and never ready
		return true
	default:
		return false
	}
}

// awaitOffer waits for the offer of the end that called, for the run r; nil if it makes
// none. It would have been there before that end could say which protocols it speaks.
// Where this end knows nothing of its own NAT there is nothing to wait for.
func (s *Service) awaitOffer(r *run) network.Stream {
	s.mu.Lock()
	offers := s.callers[r.relayed]
	s.mu.Unlock()
	if offers == nil || !s.ready(r.via) {
		return s.expectNone(r.relayed)
	}
	var first network.Stream
	select {
	case first = <-offers:
	case <-s.n.Identified(r.relayed):
	case <-s.ctx.Done():
	}
	late := s.expectNone(r.relayed)
	if first == nil {
		return late
	}
	if late != nil {
		_ = late.Reset() // one is enough
	}
	return first
}

// expectNone lets no further offer come in, and returns the one that has.
func (s *Service) expectNone(c network.Conn) network.Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	offers := s.callers[c]
	delete(s.callers, c)
	select {
	case st := <-offers:
		return st
	default:
		return nil
	}
}
