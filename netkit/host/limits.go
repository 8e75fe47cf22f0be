package host

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/x/rate"
	"github.com/pbnjay/memory"
)

// Limits bound what strangers can make a host hold. Zero fields take a default
// that scales with the machine.
type Limits struct {
	// Conns is the most connections at once, in and out; 0 means 1,024 for each
	// GiB of Memory, at least 1,024.
	Conns int
	// ConnsPerIP is the most connections at once from one IPv4 address or IPv6
	// /56; 0 means 256, because a carrier's NAT puts many peers behind one address.
	ConnsPerIP int
	// Memory is the most bytes that libp2p may reserve; 0 means an eighth of the
	// machine's memory, at least 128 MiB.
	Memory int64
}

const (
	defaultConnsPerIP = 256
	// newConnsPerSecond refills the burst of new connections per address: a
	// client that reconnects once a second is broken or hostile.
	newConnsPerSecond = 16
	connsPerGiB       = 1024
	minMemory         = 128 << 20
	// trimGrace keeps a connection that was just opened from being trimmed
	// before it could ask for anything. A host at its limit turns newcomers away
	// for as long.
	trimGrace = 5 * time.Second
)

func (l Limits) withDefaults() Limits {
	if l.Memory == 0 {
		l.Memory = max(minMemory, int64(memory.TotalMemory()/8))
	}
	if l.Conns == 0 {
		l.Conns = max(connsPerGiB, int(l.Memory>>30)*connsPerGiB)
	}
	if l.ConnsPerIP == 0 {
		l.ConnsPerIP = defaultConnsPerIP
	}
	return l
}

// resourceManager builds libp2p's resource manager for l. Counting for metrics costs it
// something at each stream.
func (l Limits) resourceManager(counted bool) (network.ResourceManager, error) {
	base := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&base)
	streams := rcmgr.LimitVal(l.Conns * 16)
	open := rcmgr.ResourceLimits{
		Conns: rcmgr.LimitVal(l.Conns), ConnsInbound: rcmgr.LimitVal(l.Conns), ConnsOutbound: rcmgr.LimitVal(l.Conns),
		FD:      rcmgr.LimitVal(l.Conns),
		Streams: streams, StreamsInbound: streams, StreamsOutbound: streams,
		Memory: rcmgr.LimitVal64(l.Memory),
	}
	perPeer := rcmgr.ResourceLimits{
		Conns: 64, ConnsInbound: 32, ConnsOutbound: 32,
		Streams: 4096, StreamsInbound: 2048, StreamsOutbound: 4096,
		Memory: rcmgr.LimitVal64(max(64<<20, l.Memory/16)),
	}
	// The relay has limits of its own; the library's, 16 circuits a peer and fewer
	// than a thousand in all, must not come before them.
	circuits := rcmgr.ResourceLimits{Streams: streams, StreamsInbound: streams, StreamsOutbound: streams, Memory: rcmgr.LimitVal64(l.Memory / 2)}
	protocols := map[protocol.ID]rcmgr.ResourceLimits{
		proto.ProtoIDv2Hop: circuits, proto.ProtoIDv2Stop: circuits,
		p2panda: {Streams: streams, StreamsInbound: streams}, // one is held for each connection
	}
	cfg := rcmgr.PartialLimitConfig{
		System: open, Transient: open, PeerDefault: perPeer,
		Protocol: protocols, ProtocolPeer: map[protocol.ID]rcmgr.ResourceLimits{proto.ProtoIDv2Hop: perPeer, proto.ProtoIDv2Stop: perPeer},
	}
	opts := []rcmgr.Option{
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: l.ConnsPerIP}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: l.ConnsPerIP}, {PrefixLength: 48, ConnCount: 8 * l.ConnsPerIP}},
		),
		rcmgr.WithNetworkPrefixLimit(
			[]rcmgr.NetworkPrefixLimit{{Network: netip.MustParsePrefix("127.0.0.0/8"), ConnCount: math.MaxInt}},
			[]rcmgr.NetworkPrefixLimit{{Network: netip.MustParsePrefix("::1/128"), ConnCount: math.MaxInt}},
		),
		rcmgr.WithConnRateLimiters(l.newConnLimiter()),
	}
	if !counted {
		opts = append(opts, rcmgr.WithMetricsDisabled())
	}
	rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(cfg.Build(base.Scale(l.Memory, l.Conns))), opts...)
	if err != nil {
		return nil, fmt.Errorf("resource manager: %w", err)
	}
	return rm, nil
}

// newConnLimiter lets one address open ConnsPerIP connections at a burst.
func (l Limits) newConnLimiter() *rate.Limiter {
	per := func(bits, times int) rate.SubnetLimit {
		return rate.SubnetLimit{PrefixLength: bits, Limit: rate.Limit{RPS: float64(times * newConnsPerSecond), Burst: times * l.ConnsPerIP}}
	}
	return &rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{
			{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
			{Prefix: netip.MustParsePrefix("::1/128")},
		},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{per(32, 1)},
			IPv6SubnetLimits: []rate.SubnetLimit{per(56, 1), per(48, 8)},
			GracePeriod:      time.Minute,
		},
	}
}

// connManager trims idle connections before the hard limit refuses new ones.
func (l Limits) connManager() (*connmgr.BasicConnMgr, error) {
	high := l.Conns * 9 / 10
	cm, err := connmgr.NewConnManager(l.Conns*3/4, high, connmgr.WithGracePeriod(trimGrace))
	if err != nil {
		return nil, fmt.Errorf("connection manager: %w", err)
	}
	return cm, nil
}
