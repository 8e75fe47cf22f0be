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

// ways are the paths of the host with what the router forwards, and that as an address.
// The router's word counts for the address at which the host was seen.
func (s *Service) ways(own *situation) (paths []path, more []ma.Multiaddr) {
	s.mu.Lock()
	at := s.mappedAt
	s.mu.Unlock()
	paths = slices.Clone(own.paths)
	i := slices.IndexFunc(paths, func(p path) bool { return p.observed.Addr() == at.Addr() })
	if i < 0 || !slices.Contains(own.seenAt, at.Addr()) {
		return paths, nil
	}
	a, err := quicreuse.ToQuicMultiaddr(net.UDPAddrFromAddrPort(at), quic.Version1)
	if err != nil {
		return paths, nil
	}
	paths[i] = path{observed: at, kind: nat.Kind{NAT: true, Mapping: nat.EIM, Filtering: nat.EIF}}
	return paths, []ma.Multiaddr{a}
}
