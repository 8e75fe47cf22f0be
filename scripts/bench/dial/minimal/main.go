// Command minimal is what dibber dial is measured against: a libp2p host with the options that dibber dial runs with, one Connect,
// and nothing else.
//
//	minimal ADDR
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

func main() {
	if err := connect(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "minimal:", err)
		os.Exit(1)
	}
}

// connect dials a multiaddr that ends in /p2p/ID and prints it, as dibber dial -q does.
func connect(target string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	info, err := peer.AddrInfoFromString(target)
	if err != nil {
		return err
	}
	h, err := libp2p.New(
		libp2p.ListenAddrStrings(
			"/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/udp/0/quic-v1",
			"/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0",
		),
		libp2p.Transport(libp2pquic.NewTransport),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.EnableHolePunching(),
		libp2p.DisableMetrics(),
	)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.Connect(ctx, *info); err != nil {
		return err
	}
	fmt.Println(h.Network().ConnsToPeer(info.ID)[0].RemoteMultiaddr())
	return nil
}
