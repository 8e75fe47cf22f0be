package punch

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/portmap"

	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

const (
	// mappedFor is how long the router forwards the port unless it is asked again, which
	// it is after half of that.
	mappedFor = 2 * time.Minute
	// unmapTimeout is how long it may take to take the mapping back.
	unmapTimeout = time.Second
)

// keepMapped has the router forward the host's UDP port until the service ends, if it
// does that. The first call counts.
func (s *Service) keepMapped() {
	s.mu.Lock()
	first := !s.mapping
	s.mapping = true
	s.mu.Unlock()
	port := s.n.QUICPort()
	if !first || port == 0 {
		return
	}
	for s.ctx.Err() == nil {
		r, err := portmap.Do(s.ctx, s.n, portmap.Config{Port: port, Lifetime: mappedFor})
		if err != nil {
			return // it does not
		}
		s.setMapped(r.External)
		host.Pause(s.ctx, mappedFor/2)
		if s.ctx.Err() != nil {
			s.setMapped(netip.AddrPort{})
			ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), unmapTimeout)
			_ = r.Remove(ctx) // it ends by itself before long
			cancel()
		}
	}
}

func (s *Service) setMapped(at netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mappedAt = at
}

// ways are the paths of the host with what the router forwards, and as addresses where
// they show the same port to everybody: the connections with the relay may have told of
// another, before the NAT forgot it. The router's word counts for the address at which the
// host was seen.
func (s *Service) ways(own *situation) (paths []path, at []ma.Multiaddr) {
	s.mu.Lock()
	mapped := s.mappedAt
	s.mu.Unlock()
	paths = slices.Clone(own.paths)
	for i, p := range paths {
		if p.observed.Addr() == mapped.Addr() && slices.Contains(own.seenAt, mapped.Addr()) {
			paths[i] = path{observed: mapped, kind: nat.Kind{NAT: true, Mapping: nat.EIM, Filtering: nat.EIF}}
		}
		if paths[i].kind.Mapping != nat.EIM {
			continue
		}
		if a, err := quicreuse.ToQuicMultiaddr(net.UDPAddrFromAddrPort(paths[i].observed), quic.Version1); err == nil {
			at = append(at, a)
		}
	}
	return paths, at
}
