package serve

import (
	"dibber/netkit/gossip"
	"dibber/netkit/replicate"
	"dibber/netkit/route"
)

// liveMessage is the most bytes of a message where gossip carries entries alone.
const liveMessage = 128 << 10

func (s *Server) startReplicate() error {
	if s.cfg.Replicate == nil {
		return nil
	}
	cfg := s.cfg.Replicate.Config
	cfg.On = func(e replicate.Event) { s.tell(Event{Replicated: &e}) }
	cfg.OnLive = func(e replicate.Live) { s.tell(Event{Lived: &e}) }
	if cfg.Gossip = s.gossip; cfg.Gossip == nil {
		own, err := gossip.New(s.n, gossip.Config{MaxMessage: liveMessage, Topics: func(name string) bool { return name == replicate.LiveTopic }})
		if err != nil {
			return err
		}
		s.forAll = append(s.forAll, own.Close)
		cfg.Gossip = own
	}
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
