package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/pprof"
	"sync"
	"sync/atomic"

	"dibber/netkit/host"
	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	stock "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

// benchProtocol carries what the sources send.
const benchProtocol = "/dibber/bench/relay/1.0.0"

// chunk is what sources write and sinks read at once.
const chunk = 64 << 10

func listenAddr(transport string) string {
	if transport == "tcp" {
		return "/ip4/127.0.0.1/tcp/0"
	}
	return "/ip4/127.0.0.1/udp/0/quic-v1"
}

// newHost starts a host without limits of its own, so that only the relay's count.
func newHost(transport string) (corehost.Host, error) {
	return libp2p.New(libp2p.ListenAddrStrings(listenAddr(transport)), libp2p.DisableMetrics(),
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.ConnectionManager(&connmgr.NullConnMgr{}))
}

func addrInfo(h corehost.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

// relayPart is a relay in its process.
type relayPart struct {
	h       corehost.Host
	r       io.Closer
	profile *os.File
}

func newRelay(o options) (_ *relayPart, err error) {
	p := &relayPart{}
	if o.kind == "full" {
		// With the limits and the connection manager of a real server.
		p.h, err = host.New(host.Config{
			Listen: []ma.Multiaddr{ma.StringCast(listenAddr(o.transport))}, Limits: host.Limits{Conns: 2 * o.reservations},
		})
	} else {
		p.h, err = newHost(o.transport)
	}
	if err != nil {
		return nil, err
	}
	if o.kind == "stock" {
		res := stock.DefaultResources()
		res.Limit, res.MaxReservations, res.MaxReservationsPerIP, res.MaxCircuits = nil, math.MaxInt, math.MaxInt, math.MaxInt
		p.r, err = stock.New(p.h, stock.WithResources(res))
	} else {
		p.r, err = relay.New(p.h, relay.Config{Requests: math.MaxInt32, Burst: math.MaxInt32, Limits: relay.Limits{
			Reservations: relay.NoLimit, ReservationsPerIP: relay.NoLimit, Circuits: relay.NoLimit, CircuitsPerPeer: relay.NoLimit,
			Duration: relay.NoLimit, Bytes: relay.NoLimit,
		}})
	}
	return p, err
}

func (p *relayPart) do(_ context.Context, op string, args json.RawMessage) (any, error) {
	switch op {
	case "info":
		return addrInfo(p.h), nil
	case "usage":
		return ownUsage()
	case "profile":
		var name string
		if err := json.Unmarshal(args, &name); err != nil {
			return nil, err
		}
		f, err := os.Create(name)
		if err != nil {
			return nil, err
		}
		p.profile = f
		return nil, pprof.StartCPUProfile(f)
	default:
		return nil, fmt.Errorf("a relay does not %s", op)
	}
}

func (p *relayPart) close() error {
	if p.profile != nil {
		pprof.StopCPUProfile()
		return errors.Join(p.r.Close(), p.h.Close(), p.profile.Close())
	}
	return errors.Join(p.r.Close(), p.h.Close())
}

// sinks are peers with reservations that swallow what they are sent.
type sinks struct {
	transport string
	hosts     []corehost.Host

	mu       sync.Mutex
	received []*atomic.Int64 // of each stream
}

func newSinks(o options) *sinks { return &sinks{transport: o.transport} }

// sinkArgs ask for sinks behind a relay.
type sinkArgs struct {
	Relay peer.AddrInfo `json:"relay"`
	Count int           `json:"count"`
}

func (s *sinks) do(ctx context.Context, op string, args json.RawMessage) (any, error) {
	switch op {
	case "listen":
		var a sinkArgs
		if err := json.Unmarshal(args, &a); err != nil {
			return nil, err
		}
		return s.listen(ctx, a)
	case "received":
		s.mu.Lock()
		defer s.mu.Unlock()
		out := make([]int64, len(s.received))
		for i, n := range s.received {
			out[i] = n.Load()
		}
		return out, nil
	default:
		return nil, fmt.Errorf("a sink does not %s", op)
	}
}

// listen starts sinks and returns the addresses of their circuits.
func (s *sinks) listen(ctx context.Context, a sinkArgs) ([]peer.AddrInfo, error) {
	var out []peer.AddrInfo
	for range a.Count {
		h, err := newHost(s.transport)
		if err != nil {
			return nil, err
		}
		s.hosts = append(s.hosts, h)
		h.SetStreamHandler(benchProtocol, s.swallow)
		if err := h.Connect(ctx, a.Relay); err != nil {
			return nil, err
		}
		if _, err := client.Reserve(ctx, h, a.Relay); err != nil {
			return nil, err
		}
		circuit := a.Relay.Addrs[0].Encapsulate(ma.StringCast("/p2p/" + a.Relay.ID.String() + "/p2p-circuit"))
		out = append(out, peer.AddrInfo{ID: h.ID(), Addrs: []ma.Multiaddr{circuit}})
	}
	return out, nil
}

func (s *sinks) swallow(st network.Stream) {
	var n atomic.Int64
	s.mu.Lock()
	s.received = append(s.received, &n)
	s.mu.Unlock()
	buf := make([]byte, chunk)
	for {
		k, err := st.Read(buf)
		n.Add(int64(k))
		if err != nil {
			_ = st.Reset()
			return
		}
	}
}

func (s *sinks) close() error { return closeAll(s.hosts) }

func closeAll(hosts []corehost.Host) error {
	var errs []error
	for _, h := range hosts {
		errs = append(errs, h.Close())
	}
	return errors.Join(errs...)
}

// sources are peers that send to sinks as fast as they can.
type sources struct {
	transport string
	hosts     []corehost.Host
	streams   []network.Stream
	sending   sync.WaitGroup
}

func newSources(o options) *sources { return &sources{transport: o.transport} }

// sourceArgs ask for Count circuits, from Hosts peers to the sinks in turn, so
// that no pair of peers is asked for two.
type sourceArgs struct {
	Sinks []peer.AddrInfo `json:"sinks"`
	Hosts int             `json:"hosts"`
	Count int             `json:"count"`
}

func (s *sources) do(ctx context.Context, op string, args json.RawMessage) (any, error) {
	switch op {
	case "open":
		var a sourceArgs
		if err := json.Unmarshal(args, &a); err != nil {
			return nil, err
		}
		return nil, s.open(ctx, a)
	case "send":
		data := make([]byte, chunk)
		for _, st := range s.streams {
			s.sending.Go(func() {
				for {
					if _, err := st.Write(data); err != nil {
						return
					}
				}
			})
		}
		return nil, nil
	default:
		return nil, fmt.Errorf("a source does not %s", op)
	}
}

func (s *sources) open(ctx context.Context, a sourceArgs) error {
	for range a.Hosts {
		h, err := newHost(s.transport)
		if err != nil {
			return err
		}
		s.hosts = append(s.hosts, h)
	}
	for i := range a.Count {
		from, to := s.hosts[i%a.Hosts], a.Sinks[i/a.Hosts%len(a.Sinks)]
		if err := from.Connect(ctx, to); err != nil {
			return fmt.Errorf("circuit %d: %w", i+1, err)
		}
		st, err := from.NewStream(ctx, to.ID, benchProtocol)
		if err != nil {
			return fmt.Errorf("circuit %d: %w", i+1, err)
		}
		if _, err := st.Write([]byte{0}); err != nil {
			return fmt.Errorf("circuit %d: %w", i+1, err)
		}
		s.streams = append(s.streams, st)
	}
	return nil
}

func (s *sources) close() error {
	for _, st := range s.streams {
		_ = st.Reset()
	}
	s.sending.Wait()
	return closeAll(s.hosts)
}
