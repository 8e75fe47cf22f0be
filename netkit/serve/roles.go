package serve

import (
	"dibber/netkit/replicate"
	"dibber/netkit/route"
)

func (s *Server) startReplicate() error {
	if s.cfg.Replicate == nil {
		return nil
	}
	cfg := s.cfg.Replicate.Config
	cfg.On = func(e replicate.Event) { s.tell(Event{Replicated: &e}) }
	r, err := replicate.New(s.n, s.cfg.Replicate.Replica, cfg)
	if err != nil {
		return err
	}
	s.sessions = r
	s.add(&s.forAll, RoleReplicate, r.Close)
	return nil
}

func (s *Server) startRoute() error {
	if s.cfg.Route == nil {
		return nil
	}
	cfg := *s.cfg.Route
	cfg.On = s.routed
	r, err := route.New(s.n, cfg)
	if err != nil {
		return err
	}
	s.route = r
	s.add(&s.forAll, RoleDHT, r.Close)
	return nil
}

// Route is the node's part in the network of the hash table; nil without that role.
func (s *Server) Route() *route.Service { return s.route }
