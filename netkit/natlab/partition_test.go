package natlab_test

import (
	"context"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// TestPart: two machines that lose each other still reach a third.
func TestPart(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		left, right := lab.Internet().Machine("a", natlab.MachineConfig{}), lab.Internet().Machine("b", natlab.MachineConfig{})
		a, b := left.Host(host.Config{}), right.Host(host.Config{})
		third := lab.Internet().Machine("third", natlab.MachineConfig{}).Host(host.Config{})
		join := lab.Part(left.Addrs()[0], right.Addrs()[0])
		for _, h := range []*host.Node{a, b} {
			roundTrip(t, h, info(third))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := a.Connect(ctx, info(b)); err == nil {
			t.Error("a reached b")
		}
		join()
		if _, err := a.Dial(ctx, b.ID(), nil); err != nil {
			t.Error(err)
		}
	})
}

// TestDNS: a host finds another by name, wherever the name leads at the time.
func TestDNS(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		var names natlab.DNS
		resolver, err := names.Resolver()
		if err != nil {
			t.Fatal(err)
		}
		a := lab.Internet().Machine("a", natlab.MachineConfig{}).Host(host.Config{Resolver: resolver})
		at := ma.StringCast("/dns4/b.example/udp/4001/quic-v1")
		for range 2 {
			machine := lab.Internet().Machine("b", natlab.MachineConfig{})
			b := machine.Host(host.Config{})
			names.Set("b.example", machine.Addrs()...)
			roundTrip(t, a, peer.AddrInfo{ID: b.ID(), Addrs: []ma.Multiaddr{at}})
		}
		names.Set("b.example")
		asked := names.Asked()
		if r := a.Resolve(t.Context(), "", at); r.Err == nil || names.Asked() != asked+1 {
			t.Errorf("a name that is gone: %+v", r)
		}
	})
}
