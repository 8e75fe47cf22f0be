// Package relay serves and uses circuit relay v2 (libp2p/specs
// relay/circuit-v2.md): a relay that works on any network and tells what it
// carries, reservations that are kept alive, and the words for what a relay
// refused.
package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"dibber/netkit/wire"

	asnutil "github.com/libp2p/go-libp2p-asn-util"
	"github.com/libp2p/go-libp2p/core/crypto"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

// ServiceName is what streams and buffers of the relay are counted under at the
// resource manager. It is not that of go-libp2p's relay, whose limits of 64 streams
// a peer and 1 MiB would be reached before any of [Limits].
const ServiceName = "dibber.relay"

// Server is a running relay.
type Server struct {
	host     corehost.Host
	cfg      Config // but for Limits, which the table has
	key      crypto.PrivKey
	scope    network.ResourceScopeSpan
	rate     *wire.Limiter[peer.ID]
	buffers  sync.Pool // of *[]byte
	notifiee *network.NotifyBundle
	intros   *wire.Service
	ctx      context.Context // until Close
	cancel   context.CancelFunc
	running  sync.WaitGroup
	wake     chan struct{} // a reservation is the only one

	mu       sync.Mutex // guards what follows
	closed   bool
	table    *table
	circuits map[uint64]*circuit
	opening  map[network.Stream]struct{} // of requests being handled
	none     chan struct{}               // closed when the last circuit has left; nil while there is none
	stats    Stats                       // but for what is counted elsewhere
}

// New starts relaying on h at once, whatever is known about h's reachability.
func New(h corehost.Host, cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		host: h, cfg: cfg, key: h.Peerstore().PrivKey(h.ID()),
		rate:     wire.NewLimiter[peer.ID](cfg.Requests, cfg.Burst, ratedPeers),
		buffers:  sync.Pool{New: func() any { return new(make([]byte, bufferSize)) }},
		wake:     make(chan struct{}, 1),
		table:    newTable(cfg.Limits, cfg.TTL, asnOf),
		circuits: make(map[uint64]*circuit),
		opening:  make(map[network.Stream]struct{}),
		stats:    Stats{Refused: make(map[Reason]uint64), Closed: make(map[Reason]uint64)},
	}
	if s.key == nil {
		return nil, errors.New("relay: the host has no key to sign vouchers with")
	}
	err = h.Network().ResourceManager().ViewService(ServiceName, func(scope network.ServiceScope) (err error) {
		s.scope, err = scope.BeginSpan()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("relay: resource manager: %w", err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.notifiee = &network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) { s.disconnected(c.RemotePeer()) }}
	h.Network().Notify(s.notifiee)
	h.SetStreamHandler(proto.ProtoIDv2Hop, s.handle)
	s.intros = s.introService()
	if !cfg.NoIntro {
		h.SetStreamHandler(IntroProtocol, s.intros.Handle)
	}
	s.running.Go(s.watch)
	return s, nil
}

// asnOf tells the autonomous system of an IPv6 address; 0 when it is not known.
func asnOf(ip netip.Addr) uint32 { return asnutil.AsnForIPv6(net.IP(ip.AsSlice())) }

// Limits returns the limits in force, every field filled.
func (s *Server) Limits() Limits {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.table.limits
}

// SetLimits replaces the limits. Reservations and circuits that stand are not
// cut; new ones obey.
func (s *Server) SetLimits(l Limits) error {
	l, err := l.WithDefaults()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table.setLimits(l)
	return nil
}

func (s *Server) emit(e Event) {
	if s.cfg.On != nil {
		s.cfg.On(e)
	}
}
