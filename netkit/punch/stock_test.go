package punch_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/punch"
	"dibber/netkit/relay"
	"dibber/netkit/vantage"

	"github.com/libp2p/go-libp2p"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
)

// pairing is who plays which end.
type pairing struct{ stockTarget, stockDialer bool }

// upgradeTime connects two hosts through a relay and returns how long after the
// relayed connection the direct one stood, on the side that dialled; false if none
// came within 40 s.
func upgradeTime(t *testing.T, lab *natlab.Lab, who pairing, target, dialer natlab.NAT) (time.Duration, bool) {
	t.Helper()
	_, upgrade, ok := stockTimes(t, lab, who, target, dialer, 0)
	return upgrade, ok
}

// stockTimes is upgradeTime, with a share of packets lost, and with the time that the
// relayed connection took before that.
func stockTimes(t *testing.T, lab *natlab.Lab, who pairing, target, dialer natlab.NAT, loss float64) (relayed, upgrade time.Duration, ok bool) {
	t.Helper()
	far := natlab.LinkConfig{Latency: delay, Loss: loss}
	at := lab.Internet().Machine("relay", natlab.MachineConfig{Link: far}).Host(host.Config{})
	r, err := relay.New(at, relay.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	start := func(name string, nat natlab.NAT, stock bool) corehost.Host {
		m := lab.Internet().Router(name+"-router", natlab.RouterConfig{NAT: nat, Link: far}).LAN().Machine(name, natlab.MachineConfig{})
		if stock {
			return m.Stock(libp2p.ForceReachabilityPrivate(), libp2p.EnableHolePunching())
		}
		n := m.Host(host.Config{})
		p := punch.New(n, punch.Config{})
		t.Cleanup(func() { _ = p.Close() })
		return n
	}
	a, b := start("target", target, who.stockTarget), start("dialer", dialer, who.stockDialer)
	if _, err := client.Reserve(t.Context(), a, info(at)); err != nil {
		t.Fatal(err)
	}
	if err := b.Connect(t.Context(), info(at)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Second) // virtual: a stock host has seen that it has a public address
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	circuit := info(at).Addrs[0].Encapsulate(circuitOf(at.ID()))
	called := time.Now()
	if err := b.Connect(ctx, peer.AddrInfo{ID: a.ID(), Addrs: []maddr{circuit}}); err != nil {
		t.Fatal(err)
	}
	conns := b.Network().ConnsToPeer(a.ID())
	if len(conns) == 0 {
		t.Fatal("no relayed connection")
	}
	began := conns[0].Stat().Opened
	for range 4000 {
		if i := slices.IndexFunc(b.Network().ConnsToPeer(a.ID()), func(c network.Conn) bool { return !addr.IsRelayed(c.RemoteMultiaddr()) }); i >= 0 {
			return began.Sub(called), b.Network().ConnsToPeer(a.ID())[i].Stat().Opened.Sub(began), true
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
	return began.Sub(called), 0, false
}

// TestFailureWithAStockPeer: a punch that a stock peer asked for and that failed is told, whether or not this end knew its own
// NAT and had offered more.
func TestFailureWithAStockPeer(t *testing.T) {
	hard := natlab.NAT{Mapping: natlab.AddressAndPortDependent, Filtering: natlab.AddressAndPortDependent, Ports: natlab.Random}
	for name, seen := range map[string]bool{"the relay is no vantage point": false, "it is one": true} {
		t.Run(name, func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				far := natlab.LinkConfig{Latency: delay}
				g := grid{relay: lab.Internet().Machine("relay", natlab.MachineConfig{Link: far, Addresses: 2}).Host(host.Config{})}
				r, err := relay.New(g.relay, relay.Config{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = r.Close() })
				if seen {
					v, err := vantage.New(g.relay, vantage.Config{})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = v.Close() })
				}
				behind := func(name string) *natlab.Machine {
					return lab.Internet().Router(name+"-router", natlab.RouterConfig{NAT: hard, Link: far}).LAN().Machine(name, natlab.MachineConfig{})
				}
				target := behind("target").Stock(libp2p.ForceReachabilityPrivate(), libp2p.EnableHolePunching())
				if _, err := client.Reserve(t.Context(), target, info(g.relay)); err != nil {
					t.Fatal(err)
				}
				dialer := punching(t, behind("dialer").Host(host.Config{}), punch.Config{Servers: []peer.AddrInfo{info(g.relay)}})
				time.Sleep(10 * time.Second) // virtual: both know where they are
				circuit := info(g.relay).Addrs[0].Encapsulate(circuitOf(g.relay.ID()))
				if _, err := dialer.Dial(t.Context(), target.ID(), []maddr{circuit}); err != nil {
					t.Fatal(err)
				}
				if got := dialer.next(t); got.Outcome != punch.Failed || *got.Reason != punch.ReasonAttemptsEnded || len(got.Attempts) == 0 {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// TestWithStockPeers holds that with a stock peer at the other end, in either role,
// we are never slower than stock with stock, nor worse.
func TestWithStockPeers(t *testing.T) {
	kinds := []natlab.NAT{
		{},
		{Filtering: natlab.AddressDependent},
		{Filtering: natlab.AddressAndPortDependent},
		{Mapping: natlab.AddressAndPortDependent, Filtering: natlab.AddressAndPortDependent, Ports: natlab.Sequential},
	}
	for _, a := range kinds {
		for _, b := range kinds {
			t.Run(fmt.Sprintf("%s calls %s", b, a), func(t *testing.T) {
				took := func(who pairing) (d time.Duration, ok bool) {
					natlab.Run(t, func(t *testing.T, lab *natlab.Lab) { d, ok = upgradeTime(t, lab, who, a, b) })
					return d, ok
				}
				stock, stockOK := took(pairing{true, true})
				for name, who := range map[string]pairing{"stock is called": {stockTarget: true}, "stock calls": {stockDialer: true}} {
					d, ok := took(who)
					if stockOK && (!ok || d > stock+2*delay) {
						t.Errorf("%s: %s, %v; stock with stock %s", name, d, ok, stock)
					}
				}
			})
		}
	}
}
