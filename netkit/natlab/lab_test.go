package natlab_test

import (
	"context"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"

	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

// info is what others need to dial h.
func info(h corehost.Host) peer.AddrInfo {
	return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}
}

// roundTrip connects from to to and returns the round-trip time of a second
// ping: the first one also negotiates its stream.
func roundTrip(t *testing.T, from corehost.Host, to peer.AddrInfo) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := from.Connect(ctx, to); err != nil {
		t.Fatal(err)
	}
	pongs := ping.Ping(ctx, from, to.ID)
	<-pongs
	pong := <-pongs
	if pong.Error != nil {
		t.Fatal(pong.Error)
	}
	return pong.RTT
}

func TestRoundTripIsTwiceTheDelay(t *testing.T) {
	home := natlab.RouterConfig{Link: natlab.LinkConfig{Latency: 7 * time.Millisecond}}
	for _, c := range []struct {
		name  string
		place func(lab *natlab.Lab) (from, to *natlab.Machine)
		want  time.Duration
	}{
		{"two public machines", func(lab *natlab.Lab) (_, _ *natlab.Machine) {
			return lab.Internet().Machine("a", natlab.MachineConfig{}), lab.Internet().Machine("b", natlab.MachineConfig{})
		}, 4 * natlab.DefaultLatency},
		{"from behind a NAT", func(lab *natlab.Lab) (_, _ *natlab.Machine) {
			return lab.Internet().Router("home", home).LAN().Machine("a", natlab.MachineConfig{}),
				lab.Internet().Machine("b", natlab.MachineConfig{})
		}, 2 * (7*time.Millisecond + natlab.DefaultLatency)},
		{"from behind two NATs", func(lab *natlab.Lab) (_, _ *natlab.Machine) {
			inner := lab.Internet().Router("carrier", home).LAN().Router("home", home)
			return inner.LAN().Machine("a", natlab.MachineConfig{Link: natlab.LinkConfig{Latency: time.Millisecond}}),
				lab.Internet().Machine("b", natlab.MachineConfig{})
		}, 2 * (15*time.Millisecond + natlab.DefaultLatency)},
		{"within a LAN", func(lab *natlab.Lab) (_, _ *natlab.Machine) {
			lan := lab.Internet().Router("home", home).LAN()
			near := natlab.MachineConfig{Link: natlab.LinkConfig{Latency: time.Millisecond}}
			return lan.Machine("a", near), lan.Machine("b", near)
		}, 4 * time.Millisecond},
		{"IPv6 from behind a firewall", func(lab *natlab.Lab) (_, _ *natlab.Machine) {
			six := natlab.MachineConfig{Families: natlab.IPv6}
			return lab.Internet().Router("home", natlab.RouterConfig{IPv6: &natlab.Firewall{}}).LAN().Machine("a", six),
				lab.Internet().Machine("b", six)
		}, 4 * natlab.DefaultLatency},
	} {
		t.Run(c.name, func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				from, to := c.place(lab)
				if got := roundTrip(t, from.Host(host.Config{}), info(to.Host(host.Config{}))); got != c.want {
					t.Errorf("round trip %s, want %s", got, c.want)
				}
			})
		})
	}
}
