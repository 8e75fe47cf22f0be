package commands

import (
	"context"
	"errors"
	"fmt"
	"os"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/rendezvous"

	ma "github.com/multiformats/go-multiaddr"
)

// oldPoint is a program that runs a rendezvous point without the push stream, as other implementations are. It writes its address to
// the file it is given, and ends when it is told to.
func oldPoint() {
	if err := runOldPoint(Interruptible(context.Background()), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runOldPoint(ctx context.Context, file string) (err error) {
	n, err := host.New(host.Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}})
	if err != nil {
		return err
	}
	defer closing(&err, n.Close)
	s, err := rendezvous.NewServer(n, rendezvous.ServerConfig{})
	if err != nil {
		return err
	}
	n.RemoveStreamHandler(rendezvous.WatchProtocolID)
	at := addr.WithPeer(n.ListenAddrs()[0], n.ID()).String()
	err = os.WriteFile(file+".new", []byte(at+"\n"), 0o600)
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err == nil {
		<-ctx.Done()
	}
	return errors.Join(err, s.Close())
}
