package rendezvous

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
)

// newHost returns a host on loopback QUIC that is closed with the test.
func newHost(t *testing.T, opts ...libp2p.Option) host.Host {
	t.Helper()
	opts = append([]libp2p.Option{
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"),
		libp2p.DisableRelay(),
		libp2p.ResourceManager(nil),
	}, opts...)
	h, err := libp2p.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func newServer(t *testing.T, h host.Host, cfg ServerConfig) *Server {
	t.Helper()
	s, err := NewServer(h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestRegisterThenDiscover(t *testing.T) {
	point, alice, bob := newHost(t), newHost(t), newHost(t)
	newServer(t, point, ServerConfig{})
	server := peer.AddrInfo{ID: point.ID(), Addrs: point.Addrs()}
	ctx := testContext(t)

	reg, err := Register(ctx, alice, server, RegisterRequest{Namespace: "garden"})
	if err != nil {
		t.Fatal(err)
	}
	if reg.TTL != 2*time.Hour {
		t.Errorf("granted %s, want 2h", reg.TTL)
	}
	page, err := DiscoverAll(ctx, bob, server, DiscoverRequest{Namespace: "garden"})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Entries) != 1 || page.Entries[0].Peer != alice.ID() {
		t.Fatalf("found %+v, want alice alone", page.Entries)
	}
	if err := bob.Connect(ctx, peer.AddrInfo{ID: alice.ID(), Addrs: page.Entries[0].Addrs}); err != nil {
		t.Errorf("the address found does not work: %v", err)
	}
}
