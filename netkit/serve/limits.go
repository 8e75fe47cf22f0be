package serve

import (
	"dibber/netkit/blocks"
	"dibber/netkit/chain"
	"dibber/netkit/dialback"
	"dibber/netkit/gossip"
	"dibber/netkit/peering"
	"dibber/netkit/perf"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/replicate"
	"dibber/netkit/route"
	"dibber/netkit/vantage"
)

// Limits are those of the roles that have some; nil where the role is off.
type Limits struct {
	Relay      *relay.Limits
	Rendezvous *rendezvous.Limits
	AutoNAT    *dialback.Config
	Peering    *peering.Limits
	Vantage    *vantage.Config
	Replicate  *replicate.Config
	Perf       *perf.ServerConfig
	Blocks     *blocks.Limits
	DHT        *route.Limits
	Pubsub     *gossip.Config
	Chain      *chain.Config
}

// Limits are the limits in force.
func (s *Server) Limits() (l Limits) {
	if r := s.relaying(); r != nil {
		l.Relay = new(r.Limits())
	}
	if s.point != nil {
		l.Rendezvous = new(s.point.Limits())
	}
	if s.dialback != nil {
		l.AutoNAT = new(s.dialback.Limits())
	}
	if s.peering != nil {
		l.Peering = new(s.peering.Limits())
	}
	if s.vantage != nil {
		l.Vantage = new(s.vantage.Limits())
	}
	if s.perf != nil {
		l.Perf = new(s.perf.Limits())
	}
	if s.sessions != nil {
		l.Replicate = new(s.sessions.Limits())
	}
	if s.blocks != nil {
		l.Blocks = new(s.blocks.Limits())
	}
	if s.route != nil {
		l.DHT = new(s.route.Limits())
	}
	if s.gossip != nil {
		l.Pubsub = new(s.gossip.Limits())
	}
	if s.chain != nil {
		l.Chain = new(s.chain.Limits())
	}
	return l
}

// SetLimits replaces the limits of relay and rendezvous, where l has them and the
// node was given the role. What stands stays. An error leaves all as it was.
func (s *Server) SetLimits(l Limits) error {
	if l.Relay != nil {
		if _, err := l.Relay.WithDefaults(); err != nil {
			return err
		}
	}
	if s.point != nil && l.Rendezvous != nil {
		if err := s.point.SetLimits(*l.Rendezvous); err != nil {
			return err
		}
	}
	if s.relay != nil && l.Relay != nil {
		return s.relay.SetLimits(*l.Relay)
	}
	return nil
}
