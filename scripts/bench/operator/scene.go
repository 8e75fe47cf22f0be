package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sync/errgroup"

	"dibber/netkit/rendezvous"
	"dibber/scripts/node"
)

const (
	busy       = 8   // circuits that carry as much as they can
	spaces     = 200 // namespaces
	eachAtOnce = 100 // requests that a peer may make at once
	atOnce     = 16  // peers that come at the same time
	chunk      = 64 << 10
	swallow    = "/bench/swallow/1.0.0"
)

// scene is the server with all that it holds. Each peer comes from a network of its own, as far as the server can see, so that none
// is refused for what its neighbours ask for.
type scene struct {
	node     *node.Node
	peers    []host.Host
	streams  []network.Stream // one on each circuit, in the order of its source
	received atomic.Int64     // bytes, of all of them
}

// gather has the peers come and register. Every second one reserves; each of the others opens circuits to two of those.
func (s *scene) gather(ctx context.Context, o options) error {
	for i := range o.peers &^ 1 {
		h, err := node.NewPeer(net.IPv4(127, byte(1+i%200), byte(i/200), 1), libp2p.EnableRelay())
		if err != nil {
			return err
		}
		s.peers = append(s.peers, h)
	}
	err := s.each(func(i int, h host.Host) error {
		if err := h.Connect(ctx, s.node.Info); err != nil {
			return err
		}
		for j := i; j < o.registrations; j += len(s.peers) {
			if err := s.register(ctx, h, namespace(i+j/len(s.peers))); err != nil {
				return err
			}
		}
		if i%2 == 1 {
			return nil
		}
		h.SetStreamHandler(swallow, s.swallow)
		_, err := client.Reserve(ctx, h, s.node.Info)
		return err
	})
	if err != nil {
		return err
	}
	s.streams = make([]network.Stream, len(s.peers))
	return s.each(func(i int, h host.Host) error {
		if i%2 == 0 {
			return nil
		}
		for k := range 2 {
			to := s.peers[(i+2*k+1)%len(s.peers)]
			if s.streams[i-k], err = s.circuit(ctx, h, to.ID()); err != nil {
				return fmt.Errorf("circuit: %w", err)
			}
		}
		return nil
	})
}

// each calls do with all peers, several at the same time.
func (s *scene) each(do func(i int, h host.Host) error) error {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, h := range s.peers {
		g.Go(func() error { return do(i, h) })
	}
	return g.Wait()
}

func namespace(i int) string { return fmt.Sprintf("namespace-%d", i%spaces) }

func (s *scene) register(ctx context.Context, h host.Host, ns string) error {
	_, err := rendezvous.Register(ctx, h, s.node.Info, rendezvous.RegisterRequest{
		Namespace: ns, TTL: 2 * time.Hour, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/4001")}, Format: rendezvous.FormatStandard,
	})
	return err
}

func (s *scene) circuit(ctx context.Context, from host.Host, to peer.ID) (network.Stream, error) {
	through := s.node.Info.Addrs[0].Encapsulate(ma.StringCast("/p2p/" + s.node.Info.ID.String() + "/p2p-circuit"))
	if err := from.Connect(ctx, peer.AddrInfo{ID: to, Addrs: []ma.Multiaddr{through}}); err != nil {
		return nil, err
	}
	st, err := from.NewStream(ctx, to, swallow)
	if err == nil {
		_, err = st.Write([]byte{0}) // it begins with what is written first
	}
	return st, err
}

func (s *scene) swallow(st network.Stream) {
	buf := make([]byte, chunk)
	for {
		n, err := st.Read(buf)
		s.received.Add(int64(n))
		if err != nil {
			_ = st.Reset()
			return
		}
	}
}

func (s *scene) close() (err error) {
	for _, h := range s.peers {
		err = errors.Join(err, h.Close())
	}
	return err
}
