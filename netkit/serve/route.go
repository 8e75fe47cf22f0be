package serve

import (
	"dibber/netkit/route"
)

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
