package host

import (
	"context"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

func TestAwayEnds(t *testing.T) {
	var a away
	now := time.Unix(1000, 0)
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:0:1::1")
	a.add(now, sourceOf(four), time.Minute)
	a.add(now, sourceOf(six), time.Minute)
	for ip, want := range map[string]bool{
		"192.0.2.1": true, "192.0.2.2": false, "2001:db8:0:1::1": true, "2001:db8:0:ff::9": true, "2001:db8:0:100::1": false,
	} {
		if got := a.has(now.Add(59*time.Second), netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s turned away: %t, want %t", ip, got, want)
		}
	}
	if a.has(now.Add(time.Minute), four) || a.has(now.Add(time.Minute), six) {
		t.Error("turned away for longer than was said")
	}
}

func TestAwayIsBounded(t *testing.T) {
	var a away
	now := time.Unix(1000, 0)
	ip := func(i int) netip.Addr {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(i))))
	}
	for i := range 3 * awayKeys {
		a.add(now, sourceOf(ip(i)), time.Minute)
		if !a.has(now, ip(i)) {
			t.Fatalf("the newest of %d is not turned away", i+1)
		}
	}
	if len(a.until) > awayKeys {
		t.Errorf("%d addresses are remembered", len(a.until))
	}
}

// TestTurnAway throws out a peer that is alone at its address, and one that is
// not.
func TestTurnAway(t *testing.T) {
	listen := Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}}
	server, first, second := loopback(t, listen), loopback(t, listen), loopback(t, listen)
	info := peer.AddrInfo{ID: server.ID(), Addrs: server.Addrs()}
	connect := func(n *Node) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return n.Connect(network.WithForceDirectDial(ctx, "test"), info)
	}
	gone := func(n *Node) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for n.Network().Connectedness(server.ID()) == network.Connected {
			if time.Now().After(deadline) {
				t.Fatal("the connection stayed")
			}
			time.Sleep(time.Millisecond)
		}
	}
	for _, n := range []*Node{first, second} {
		if err := connect(n); err != nil {
			t.Fatal(err)
		}
	}
	server.TurnAway(first.ID(), time.Hour)
	gone(first)
	if err := connect(first); err != nil {
		t.Errorf("an address that another peer shares is refused: %v", err)
	}
	server.TurnAway(second.ID(), time.Hour)
	gone(second)
	server.TurnAway(first.ID(), time.Hour)
	gone(first)
	for _, n := range []*Node{first, second} {
		n.swarm().Backoff().Clear(server.ID())
		if err := connect(n); err == nil {
			t.Error("a peer that was turned away came back")
		}
	}
}
