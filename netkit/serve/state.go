package serve

import (
	"slices"

	"dibber/netkit/reach"
	"dibber/netkit/rendezvous"
	"dibber/netkit/vantage"
)

// Roles are the roles taken now, in the order of starting but for those that a full
// node takes by itself, which come last.
func (s *Server) Roles() []string {
	out := slices.Clone(s.roles)
	if s.full == nil {
		return out
	}
	for _, r := range s.full.roles() {
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

// Reachability is what a full node knows of itself; reach.Undecided for any other.
func (s *Server) Reachability() reach.State {
	if s.full == nil {
		return reach.Undecided
	}
	return s.full.reachability()
}

// Stats counts what the rendezvous role holds; nil without it.
func (s *Server) Stats() *rendezvous.Stats {
	if s.point == nil {
		return nil
	}
	return new(s.point.Stats())
}

// Sharing tells how the rendezvous role stands with a registry that it shares; nil without one.
func (s *Server) Sharing() *rendezvous.Sharing {
	if s.point == nil {
		return nil
	}
	return s.point.Sharing()
}

// Sites are the addresses and ports of the vantage role; nil without it.
func (s *Server) Sites() []vantage.Site {
	if s.vantage == nil {
		return nil
	}
	return s.vantage.Sites()
}
