package serve

import (
	"time"

	"dibber/netkit/rendezvous"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
)

// startRegistrations starts keeping registrations.
func (s *Server) startRegistrations() error {
	sealers := make(map[peer.ID]*rendezvous.Sealer)
	for _, r := range s.cfg.Registrations {
		if sealers[r.Server.ID] == nil {
			sealers[r.Server.ID] = rendezvous.NewSealer()
			s.n.Remember(r.Server.ID, r.Server.Addrs, peerstore.PermanentAddrTTL)
			stop := s.n.KeepAlive(r.Server.ID)
			s.add(&s.forUs, RoleRegistered, func() error { stop(); return nil })
		}
		c, err := rendezvous.NewRegistrar(s.n, rendezvous.RegistrarConfig{
			Server: r.Server, Namespace: r.Namespace, TTL: r.TTL, Format: r.Format,
			Addrs:    func() []ma.Multiaddr { return s.n.AddrsFor(r.Server.ID) },
			Debounce: rendezvous.QuickDebounce, LastRetry: s.cfg.Retry, Sealer: sealers[r.Server.ID],
			On: func(e rendezvous.RegistrarEvent) { s.tell(Event{Registration: &e}) },
		})
		if err != nil {
			return err
		}
		s.registrars = append(s.registrars, c)
		s.add(&s.forUs, RoleRegistered, c.Close)
	}
	return nil
}

// followOwn watches the own registrations where nobody looks for those of others: a
// server tells in no other way that it has dropped one.
func (s *Server) followOwn() error {
	for _, r := range s.cfg.Registrations {
		f, err := rendezvous.NewFollower(s.n, rendezvous.FollowerConfig{
			Server: r.Server, Namespace: r.Namespace, Format: r.Format,
			On: func(e rendezvous.FollowerEvent) {
				if e.Kind == rendezvous.FollowerGone && e.Peer == s.n.ID() {
					s.dropped(r.Server.ID, r.Namespace, e.At)
				}
			},
		})
		if err != nil {
			return err
		}
		s.forUs = append(s.forUs, f.Close)
	}
	return nil
}

// dropped has a registration made again that its server was seen without.
func (s *Server) dropped(server peer.ID, ns string, seen time.Time) {
	for i, r := range s.cfg.Registrations {
		if r.Server.ID == server && r.Namespace == ns {
			s.registrars[i].Dropped(seen)
		}
	}
}
