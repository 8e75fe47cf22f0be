// Command waku is a rendezvous peer made of waku-org/go-libp2p-rendezvous, for scripts/interop; package bed tells its arguments and
// what it prints.
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
	if len(args) < 2 {
		return errors.New("usage: waku IP serve | register POINT NS | discover POINT NS")
	}
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/"+args[0]+"/udp/0/quic-v1"), libp2p.DisableRelay())
	if err != nil {
		return err
	}
	defer h.Close()
	switch verb, rest := args[1], args[2:]; {
	case verb == "serve" && len(rest) == 0:
		return serve(ctx, h)
	case verb == "register" && len(rest) == 2:
		return register(ctx, h, rest[0], rest[1])
	case verb == "discover" && len(rest) == 2:
		return discover(ctx, h, rest[0], rest[1])
	default:
		return fmt.Errorf("unknown: %v", args)
	}
}

func serve(ctx context.Context, h host.Host) error {
	store, err := db.OpenDB(ctx, ":memory:")
	if err != nil {
		return err
	}
	defer store.Close()
	rendezvous.NewRendezvousService(h, store)
	fmt.Printf("listening %s/p2p/%s\nready\n", h.Addrs()[0], h.ID())
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
	fmt.Println("registered", h.ID())
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
		fmt.Println("found", registration.Peer.ID)
	}
	fmt.Println("done")
	return nil
}
