//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// stock is a peer as go-libp2p makes it, in the role that the flags name.
func stock(ctx context.Context, o options) error {
	listen := libp2p.ListenAddrStrings("/ip4/0.0.0.0/udp/4001/quic-v1")
	if o.transport == "tcp" {
		listen = libp2p.ListenAddrStrings("/ip4/0.0.0.0/tcp/4001")
	}
	if o.role == "relay" {
		h, err := libp2p.New(listen, libp2p.ForceReachabilityPublic(), libp2p.EnableRelayService())
		if err != nil {
			return err
		}
		return ready(ctx, h, manet.IsPublicAddr)
	}
	via, err := peer.AddrInfoFromString(o.relay)
	if err != nil {
		return err
	}
	h, err := libp2p.New(listen, libp2p.ForceReachabilityPrivate(), libp2p.EnableHolePunching(),
		libp2p.EnableAutoRelayWithStaticRelays([]peer.AddrInfo{*via}, autorelay.WithBootDelay(0)))
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.Connect(ctx, *via); err != nil {
		return fmt.Errorf("connect to the relay: %w", err)
	}
	// A relayed connection that is there before the hole puncher is never upgraded.
	err = poll(ctx, func() bool { return slices.Contains(h.Mux().Protocols(), holepunch.Protocol) })
	if err != nil {
		return fmt.Errorf("wait for DCUtR: %w", err)
	}
	if o.role == "target" {
		return ready(ctx, h, isRelayed)
	}
	return dialStock(ctx, o, h)
}

// ready waits for an address of the wanted sort, tells it, and stays.
func ready(ctx context.Context, h host.Host, wanted func(ma.Multiaddr) bool) error {
	var addr ma.Multiaddr
	err := poll(ctx, func() bool {
		i := slices.IndexFunc(h.Addrs(), wanted)
		if i >= 0 {
			addr = h.Addrs()[i]
		}
		return i >= 0
	})
	if err != nil {
		return fmt.Errorf("wait for an address: %w", err)
	}
	tell(map[string]any{"event": "ready", "addr": fmt.Sprintf("%s/p2p/%s", addr, h.ID())})
	<-ctx.Done()
	return h.Close()
}

// dialStock goes through the relay and waits until there is a direct connection.
func dialStock(ctx context.Context, o options, h host.Host) error {
	target, err := peer.AddrInfoFromString(o.target)
	if err != nil {
		return err
	}
	relayed, direct := make(chan time.Time, 1), make(chan time.Time, 1)
	h.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		first := direct
		if isRelayed(c.RemoteMultiaddr()) {
			first = relayed
		}
		if c.RemotePeer() == target.ID {
			select {
			case first <- time.Now():
			default:
			}
		}
	}})
	called := time.Now()
	if err := h.Connect(ctx, *target); err != nil {
		return fmt.Errorf("connect through the relay: %w", err)
	}
	result := map[string]any{"event": "summary", "direct_ms": nil}
	select {
	case at := <-direct:
		stood := <-relayed
		result["relayed_ms"] = float64(stood.Sub(called).Microseconds()) / 1000
		result["direct_ms"] = float64(at.Sub(stood).Microseconds()) / 1000
	case <-time.After(o.patience):
	case <-ctx.Done():
		return ctx.Err()
	}
	tell(result)
	return nil
}

func isRelayed(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}

// poll looks every few milliseconds: go-libp2p tells nobody of what is waited for.
func poll(ctx context.Context, done func() bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// tell prints a line for the parent.
func tell(event map[string]any) {
	_ = json.NewEncoder(os.Stdout).Encode(event) // the parent is gone when it fails
}
