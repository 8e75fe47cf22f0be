// Command waku is a rendezvous peer made of waku-org/go-libp2p-rendezvous, for
// the interoperability test of netkit/rendezvous. It lives until its standard
// input ends.
//
//	waku serve                  prints its address and serves
//	waku register ADDR NS       registers, then prints its peer id
//	waku discover ADDR NS       prints the peer ids it finds, and ends
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	rendezvous "github.com/waku-org/go-libp2p-rendezvous"
	db "github.com/waku-org/go-libp2p-rendezvous/db/sqlite"
)

const ttl = 7200 // seconds

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"), libp2p.DisableRelay())
	if err != nil {
		return err
	}
	defer h.Close()
	switch {
	case len(args) == 1 && args[0] == "serve":
		return serve(ctx, h)
	case len(args) == 3 && args[0] == "register":
		return register(ctx, h, args[1], args[2])
	case len(args) == 3 && args[0] == "discover":
		return discover(ctx, h, args[1], args[2])
	default:
		return errors.New("usage: waku serve | register ADDR NS | discover ADDR NS")
	}
}

func serve(ctx context.Context, h host.Host) error {
	store, err := db.OpenDB(ctx, ":memory:")
	if err != nil {
		return err
	}
	defer store.Close()
	rendezvous.NewRendezvousService(h, store)
	fmt.Printf("%s/p2p/%s\n", h.Addrs()[0], h.ID())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func connect(ctx context.Context, h host.Host, addr string) (rendezvous.RendezvousPoint, error) {
	info, err := peer.AddrInfoFromString(addr)
	if err != nil {
		return nil, err
	}
	return rendezvous.NewRendezvousPoint(h, info.ID), h.Connect(ctx, *info)
}

func register(ctx context.Context, h host.Host, addr, ns string) error {
	point, err := connect(ctx, h, addr)
	if err != nil {
		return err
	}
	if _, err := point.Register(ctx, ns, ttl); err != nil {
		return err
	}
	fmt.Println(h.ID())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func discover(ctx context.Context, h host.Host, addr, ns string) error {
	point, err := connect(ctx, h, addr)
	if err != nil {
		return err
	}
	found, _, err := point.Discover(ctx, ns, 0, nil)
	if err != nil {
		return err
	}
	for _, registration := range found {
		fmt.Println(registration.Peer.ID)
	}
	return nil
}
