// Command peer is a peer as go-libp2p makes it, for scripts/interop; package bed tells its arguments and what it prints.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: peer IP serve | reserve RELAY | dial ADDR")
	}
	opts := []libp2p.Option{
		libp2p.ListenAddrStrings("/ip4/"+args[0]+"/udp/0/quic-v1", "/ip4/"+args[0]+"/tcp/0"),
		libp2p.UserAgent("stock"), libp2p.EnableHolePunching(),
	}
	if args[1] == "serve" {
		// Without the filter it tells clients public addresses only: none, where it runs on loopback.
		all := relay.WithReservationAddressFilter(func(ma.Multiaddr) bool { return true })
		opts = append(opts, libp2p.ForceReachabilityPublic(), libp2p.EnableRelayService(all))
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		return err
	}
	defer h.Close()
	switch verb, rest := args[1], args[2:]; {
	case verb == "serve" && len(rest) == 0:
		for _, a := range h.Addrs() {
			fmt.Printf("listening %s/p2p/%s\n", a, h.ID())
		}
		fmt.Println("ready")
	case verb == "reserve" && len(rest) == 1:
		err = reserve(ctx, h, rest[0])
	case verb == "dial" && len(rest) == 1:
		err = dial(ctx, h, rest[0])
	default:
		err = fmt.Errorf("unknown: %v", args)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, os.Stdin)
	}
	return err
}

func reserve(ctx context.Context, h host.Host, at string) error {
	info, err := peer.AddrInfoFromString(at)
	if err != nil {
		return err
	}
	r, err := client.Reserve(ctx, h, *info)
	if err != nil {
		return err
	}
	// Its hole puncher sees only connections made once it knows a public address, which it looks for at growing intervals.
	public := slices.ContainsFunc(h.Network().ListenAddresses(), manet.IsPublicAddr)
	for public && !slices.Contains(h.Mux().Protocols(), holepunch.Protocol) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	fmt.Printf("reserved %s %d %d\n", h.ID(), int(r.LimitDuration.Seconds()), r.LimitData)
	return nil
}

func dial(ctx context.Context, h host.Host, at string) error {
	info, err := peer.AddrInfoFromString(at)
	if err != nil {
		return err
	}
	ctx = network.WithAllowLimitedConn(ctx, "interop")
	h.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		if c.RemotePeer() == info.ID && !c.Stat().Limited {
			fmt.Println("punched")
		}
	}})
	if err := h.Connect(ctx, *info); err != nil {
		fmt.Printf("failed %q\n", err)
		return nil
	}
	if pong := <-ping.Ping(ctx, h, info.ID); pong.Error != nil {
		return fmt.Errorf("ping: %w", pong.Error)
	}
	limits := h.Network().ConnsToPeer(info.ID)[0].Stat().Extra
	duration, _ := limits[client.StatLimitDuration].(time.Duration)
	data, _ := limits[client.StatLimitData].(uint64)
	fmt.Printf("connected %d %d\n", int(duration.Seconds()), data)
	return nil
}
