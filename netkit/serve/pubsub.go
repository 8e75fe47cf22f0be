package serve

import (
	"errors"
	"slices"

	"dibber/netkit/gossip"
	"dibber/netkit/replicate"
)

// ErrNoPubsub means that a node does not speak gossip.
var ErrNoPubsub = errors.New("this node does not relay topics")

func (s *Server) startPubsub() error {
	if s.cfg.Pubsub == nil {
		return nil
	}
	cfg := *s.cfg.Pubsub
	cfg.Trusted = slices.Clone(cfg.Trusted)
	for _, p := range s.cfg.Peers {
		cfg.Trusted = append(cfg.Trusted, p.ID)
	}
	if allowed := cfg.Topics; allowed != nil && s.cfg.Replicate != nil {
		cfg.Topics = func(name string) bool { return name == replicate.LiveTopic || allowed(name) }
	}
	cfg.On = func(e gossip.Event) { s.tell(Event{Gossip: &e}) }
	g, err := gossip.New(s.n, cfg)
	if err != nil {
		return err
	}
	s.gossip = g
	s.add(&s.forAll, RolePubsub, g.Close)
	return nil
}

// Gossip is the node's part in gossip; nil without that role.
func (s *Server) Gossip() *gossip.Service { return s.gossip }

// Topics lists the topics that the node or a peer has to do with; ErrNoPubsub without that role.
func (s *Server) Topics() ([]gossip.Mesh, error) {
	if s.gossip == nil {
		return nil, ErrNoPubsub
	}
	return s.gossip.Topics(), nil
}
