package serve

import (
	"errors"

	"dibber/netkit/gossip"
	"dibber/netkit/replicate"
)

// Replicate says which replica is kept in step, and how. On, OnLive and Gossip of its Config are ignored: entries go by gossip as
// they are signed.
type Replicate struct {
	Replica *replicate.Replica
	Config  replicate.Config
}

// ErrNoReplicate means that a node keeps no replica.
var ErrNoReplicate = errors.New("this node replicates nothing")

// Sessions lists the sessions of replication under way; ErrNoReplicate without that role.
func (s *Server) Sessions() ([]replicate.Session, error) {
	if s.sessions == nil {
		return nil, ErrNoReplicate
	}
	return s.sessions.Sessions(), nil
}

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
