// Package host builds the libp2p host that every service of dibber attaches to,
// and gives what others need of it: a trace of each dial, connection lists that
// can be changed while it runs, name resolution that can be timed, streams that
// open without a round trip of negotiation, and the addresses it may announce.
//
// Only this package and the test bed build hosts.
package host

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"
)

// ProtocolVersion is what identify calls the family of protocols spoken; every
// libp2p implementation names this one.
const ProtocolVersion = "ipfs/0.1.0"

// ErrNoTransport means that no transport is left to a host, as when a private
// network key rules out every one that was asked for.
var ErrNoTransport = errors.New("no transport left: private networks need tcp or ws")

// Node is a running libp2p host. Close it to stop it and everything it started.
type Node struct {
	corehost.Host

	cfg      Config
	gater    *gater
	tracer   dialTracer
	book     *addressBook
	announce announcements
	changed  event.Emitter
	observed *observedAddrs
	held     heldStreams
	adoption *adoption
	watches  watches
	looks    looks
	known    atomic.Pointer[[]peer.AddrInfo]
	quic     *quicreuse.ConnManager // nil without a transport on QUIC
	shared   sharedSockets
	probes   probeBudget
	close    func() error // once
}

// New starts a host for cfg. It fails with a *ListenError when an address of
// cfg.Listen cannot be bound.
func New(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.Identity == nil {
		if cfg.Identity, _, err = crypto.GenerateEd25519Key(rand.Reader); err != nil {
			return nil, fmt.Errorf("generate identity: %w", err)
		}
	}
	if err := probeListen(cfg); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, gater: newGater(cfg), adoption: newAdoption()}
	n.announce.static = cfg.Announce
	n.tracer.watches = &n.watches
	if n.book, err = newAddressBook(cfg); err != nil {
		return nil, err
	}
	opts, err := n.options()
	if err != nil {
		return nil, err
	}
	if n.Host, err = libp2p.New(opts...); err != nil {
		// The library leaves behind what it was given.
		return nil, errors.Join(fmt.Errorf("start libp2p host: %w", err), n.book.Peerstore.Close())
	}
	n.guardDoor()
	if cfg.Single {
		n.gater.connected.Store(new(n.connected))
	}
	if n.changed, err = n.EventBus().Emitter(new(event.EvtAutoRelayAddrsUpdated), eventbus.Stateful); err != nil {
		return nil, errors.Join(fmt.Errorf("address events: %w", err), n.Host.Close())
	}
	if n.observed, err = newObservedAddrs(n.Host); err != nil {
		return nil, errors.Join(err, n.changed.Close(), n.Host.Close())
	}
	n.close = sync.OnceValue(func() error {
		n.observed.close()
		return errors.Join(n.changed.Close(), n.Host.Close())
	})
	if err := n.checkListeners(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.SetKnown(cfg.Known)
	return n, nil
}

// options turns the Config into libp2p's options.
func (n *Node) options() ([]libp2p.Option, error) {
	rm, err := n.cfg.Limits.resourceManager(n.cfg.Metrics != nil)
	if err != nil {
		return nil, err
	}
	cm, err := n.cfg.Limits.connManager()
	if err != nil {
		return nil, err
	}
	opts := append(transportOptions(n.cfg, &n.tracer, func(cm *quicreuse.ConnManager) { n.quic = cm }),
		libp2p.Identity(n.cfg.Identity),
		libp2p.UserAgent(n.cfg.Agent),
		libp2p.ProtocolVersion(n.cfg.ProtocolVersion),
		n.cfg.listening(),
		libp2p.Peerstore(n.book),
		libp2p.ConnectionGater(n.gater),
		libp2p.ConnectionManager(cm),
		libp2p.ResourceManager(rm),
		libp2p.SwarmOpts(append(n.cfg.swarmOptions(), swarm.WithDialRanker(n.tracer.rank))...),
		libp2p.AddrsFactory(n.advertised),
		n.cfg.metrics(),
		// The relay transport is added by hand, timed; see circuitOption.
		libp2p.DisableRelay(),
		circuitOption(&n.tracer, n.adoption),
		// A person who names an address wants it tried, whatever failed before,
		// and a server's dial-backs never prove that UDP works (go-libp2p#3491).
		libp2p.UDPBlackHoleSuccessCounter(nil),
		libp2p.IPv6BlackHoleSuccessCounter(nil),
	)
	if n.cfg.PSK != nil {
		opts = append(opts, libp2p.PrivateNetwork(n.cfg.PSK))
	}
	if n.cfg.Resolver != nil {
		opts = append(opts, libp2p.MultiaddrResolver(swarm.ResolverFromMaDNS{Resolver: n.cfg.Resolver}))
	}
	return opts, nil
}

// listening is the option for where to listen: without one the library chooses.
func (c Config) listening() libp2p.Option {
	if len(c.Listen) == 0 {
		return libp2p.NoListenAddrs
	}
	return libp2p.ListenAddrs(c.Listen...)
}

// metrics is the option for what libp2p counts.
func (c Config) metrics() libp2p.Option {
	if c.Metrics == nil {
		return libp2p.DisableMetrics()
	}
	return libp2p.PrometheusRegisterer(c.Metrics)
}

// SetAccess replaces the allow and deny lists. Connections that the new lists
// deny are closed.
func (n *Node) SetAccess(a Access) {
	n.gater.access.Store(&a)
	n.enforce()
}

// SetKnown replaces the peers of Config.Known. With Config.KnownOnly, connections
// of peers that are known no longer are closed.
func (n *Node) SetKnown(known []peer.AddrInfo) {
	n.known.Store(&known)
	if n.cfg.KnownOnly {
		n.gater.known.Store(&known)
		n.enforce()
	}
	for _, k := range known {
		n.Remember(k.ID, k.Addrs, peerstore.PermanentAddrTTL)
	}
}

// Known returns the peers of Config.Known or, since then, of SetKnown.
func (n *Node) Known() []peer.AddrInfo { return *n.known.Load() }

// enforce closes the connections that the lists and bans in force deny, and returns how
// many those were.
func (n *Node) enforce() (closed int) {
	for _, c := range n.Network().Conns() {
		if !n.gater.allows(c) && !n.atDoor(c) {
			closed++
			// The connection is gone either way; its error tells nothing new.
			_ = c.CloseWithError(network.ConnGated)
		}
	}
	return closed
}

// Limits returns the limits in force, every field filled.
func (n *Node) Limits() Limits { return n.cfg.Limits }

// Close stops the host. Services attached to it must be closed before.
func (n *Node) Close() error { return n.close() }

// Dialer makes a second host with the same transports, lists and limits but an
// identity of its own and no listeners, for dial-backs that must not reuse the
// connections or ports of n. The caller closes it.
func (n *Node) Dialer() (corehost.Host, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate dialer identity: %w", err)
	}
	ps, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, fmt.Errorf("dialer peerstore: %w", err)
	}
	rm, err := n.cfg.Limits.resourceManager(false)
	if err != nil {
		return nil, err
	}
	opts := append(transportOptions(n.cfg, &dialTracer{}, nil),
		libp2p.Identity(key),
		libp2p.Peerstore(ps),
		libp2p.NoListenAddrs,
		libp2p.DisableRelay(),
		libp2p.Ping(false),
		libp2p.ConnectionGater(n.gater),
		libp2p.ResourceManager(rm),
		libp2p.SwarmOpts(append(n.cfg.swarmOptions(), swarm.WithDialRanker(swarm.NoDelayDialRanker))...),
		libp2p.DisableMetrics(),
		libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.UDPBlackHoleSuccessCounter(nil),
		libp2p.IPv6BlackHoleSuccessCounter(nil),
	)
	if n.cfg.PSK != nil {
		opts = append(opts, libp2p.PrivateNetwork(n.cfg.PSK))
	}
	if n.cfg.SOCKS != nil {
		opts = append(opts, libp2p.MultiaddrResolver(swarm.ResolverFromMaDNS{Resolver: n.cfg.Resolver}))
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("dial-back host: %w", err)
	}
	return h, nil
}

// swarm is the network of n; libp2p.New builds no other kind.
func (n *Node) swarm() *swarm.Swarm {
	s, _ := n.Network().(*swarm.Swarm)
	return s
}

// Remember adds addresses of a peer that a person, a table or a verified record
// named. It is the only way in when Config.KnownOnly is set.
func (n *Node) Remember(p peer.ID, addrs []ma.Multiaddr, ttl time.Duration) {
	n.book.remember(p, addrs, ttl)
}

// Conns returns the open connections to p, direct ones first.
func (n *Node) Conns(p peer.ID) []network.Conn {
	conns := slices.Clone(n.Network().ConnsToPeer(p))
	slices.SortStableFunc(conns, func(a, b network.Conn) int {
		return cmp.Compare(addr.Path(a.RemoteMultiaddr()), addr.Path(b.RemoteMultiaddr()))
	})
	return conns
}
