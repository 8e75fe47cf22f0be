package punch

import (
	"context"
	"slices"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
)

// learnTimeout bounds the dial to a relay that is to tell where it sees the host.
const learnTimeout = 5 * time.Second

// punched are the transports that can be punched: those on bare UDP and TCP ports.
func punched() []string { return []string{addr.TransportQUIC, addr.TransportTCP} }

// watchRelays learns from each relay that the host reserves on where it sees the
// host by each transport, before anybody calls.
func (s *Service) watchRelays() {
	sub, err := s.n.EventBus().Subscribe(new(event.EvtAutoRelayAddrsUpdated), eventbus.Name("punch relays"))
	if err != nil {
		return // the host is closing
	}
	defer sub.Close()
	again := time.NewTicker(freshFor)
	defer again.Stop()
	for {
		for _, c := range s.n.Circuits() {
			if at, ok := addr.RelayOf(c); ok {
				s.learn(at.ID)
				s.prepare(at)
			}
		}
		select {
		case <-sub.Out():
		case <-again.C:
		case <-s.ctx.Done():
			return
		}
	}
}

// prepare looks at the own NAT from a relay, before that is needed.
func (s *Service) prepare(relay peer.AddrInfo) {
	if s.cfg.Method != MethodDCUtR {
		s.goRun(func() { s.known(s.ctx, relay, "") })
	}
}

// learn connects to a relay by the transports by which it is not connected yet: what
// a NAT does to one says nothing about the other.
func (s *Service) learn(relay peer.ID) {
	if !s.learning(relay) {
		return
	}
	s.goRun(func() {
		defer s.learnt(relay)
		ctx, cancel := context.WithTimeout(s.ctx, learnTimeout)
		defer cancel()
		conns := s.n.Conns(relay)
		if len(conns) == 0 {
			return
		}
		select {
		case <-s.n.Identified(conns[0]): // the relay has told its addresses
		case <-ctx.Done():
			return
		}
		for _, t := range punched() {
			if at, ok := s.missing(relay, t); ok {
				// A relay that cannot be reached so teaches nothing.
				_ = s.n.DialBeside(ctx, relay, at)
			}
		}
	})
}

// missing is an address of the relay by a transport that the host listens on and by
// which the relay is not connected.
func (s *Service) missing(relay peer.ID, transport string) (ma.Multiaddr, bool) {
	by := func(a ma.Multiaddr) bool { return !addr.IsRelayed(a) && addr.Transport(a) == transport }
	var scope addr.Scope
	for _, c := range s.n.Conns(relay) {
		if by(c.RemoteMultiaddr()) {
			return nil, false
		}
		scope = addr.ScopeOf(c.RemoteMultiaddr())
	}
	if !slices.ContainsFunc(s.n.ListenAddrs(), by) {
		return nil, false
	}
	// Only by an address of the same scope would it see the host as it does now.
	known := s.n.Peerstore().Addrs(relay)
	i := slices.IndexFunc(known, func(a ma.Multiaddr) bool { return by(a) && addr.ScopeOf(a) == scope })
	if i < 0 {
		return nil, false
	}
	return known[i], true
}

// learning notes that a relay is being asked; false if it is already.
func (s *Service) learning(relay peer.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked[relay] {
		return false
	}
	s.asked[relay] = true
	return true
}

func (s *Service) learnt(relay peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.asked, relay)
}
