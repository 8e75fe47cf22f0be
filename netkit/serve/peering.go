package serve

import (
	"slices"
	"time"

	"dibber/netkit/discover"
	"dibber/netkit/mdns"
	"dibber/netkit/peering"

	"github.com/libp2p/go-libp2p/core/peer"
)

// startPeering connects with those found where the node lets itself be found. One that
// does not connect is still worth a connection to those who find it: it takes its leave.
func (s *Server) startPeering() error {
	sources := s.sources()
	if len(sources) == 0 {
		return nil
	}
	var cfg peering.Config
	if s.cfg.Peering != nil {
		cfg = *s.cfg.Peering
		cfg.Sources = sources
	} else if err := s.followOwn(); err != nil {
		return err
	}
	for _, p := range slices.Concat(s.cfg.Relays, s.cfg.Peers) {
		cfg.Except = append(cfg.Except, p.ID)
	}
	for _, r := range s.cfg.Registrations {
		cfg.Except = append(cfg.Except, r.Server.ID)
	}
	cfg.On = func(e peering.Event) { s.tell(Event{Found: &e}) }
	p, err := peering.New(s.n, cfg)
	if err != nil {
		return err
	}
	s.forUs = append(s.forUs, p.Close)
	if s.cfg.Peering != nil {
		s.peering = p
		s.roles = append(s.roles, RolePeering)
	}
	return nil
}

// sources are the places where the node is announced or registered, one for each
// namespace, whose servers are asked together, and those where it only looks.
func (s *Server) sources() []discover.Config {
	out := slices.Clone(s.cfg.Look)
	if s.cfg.MDNS {
		out = append(out, discover.Config{MDNS: &mdns.Config{Interfaces: s.cfg.MDNSInterfaces}})
	}
	for _, r := range s.cfg.Registrations {
		i := slices.IndexFunc(out, func(c discover.Config) bool {
			return c.Dropped != nil && c.Namespace == r.Namespace && c.Format == r.Format
		})
		if i < 0 {
			out = append(out, discover.Config{
				Namespace: r.Namespace, Format: r.Format, Servers: []peer.AddrInfo{r.Server},
				Dropped: func(server peer.ID, seen time.Time) { s.dropped(server, r.Namespace, seen) },
			})
			continue
		}
		out[i].Servers = append(out[i].Servers, r.Server)
	}
	return out
}
