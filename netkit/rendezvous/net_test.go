package rendezvous

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"dibber/netkit/rendezvous/rustcheck"
	"dibber/netkit/wire"
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
	for _, r := range []*Rate{&cfg.Limits.PeerRegister, &cfg.Limits.PeerDiscover, &cfg.Limits.PrefixRegister, &cfg.Limits.PrefixDiscover} {
		if *r == (Rate{}) {
			*r = Rate{PerSecond: 1e6, Burst: 1e6}
		}
	}
	s, err := NewServer(h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.service = wire.NewService(s.serviceConfig(), checkReplies(t, s.handle))
	h.SetStreamHandler(ProtocolID, s.service.Handle)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// checkReplies holds every reply of a handler against the demands of rust's
// client.
func checkReplies(t *testing.T, handle wire.Handler) wire.Handler {
	return func(ctx context.Context, req wire.Request) ([]byte, error) {
		reply, err := handle(ctx, req)
		if reply != nil {
			m, _ := decodeMessage(req.Body)
			if _, err := rustcheck.Check(reply, orEmpty(m.discover).both); err != nil {
				t.Errorf("a rust client rejects the reply to %.200x: %v\n%.200x", req.Body, err, reply)
			}
		}
		return reply, err
	}
}

func infoOf(h host.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

// openStream opens a stream for raw frames.
func openStream(t *testing.T, from, to host.Host) network.Stream {
	t.Helper()
	st, err := open(testContext(t), from, infoOf(to))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// askRaw sends a request as it is and returns the reply.
func askRaw(t *testing.T, from, to host.Host, request []byte) message {
	t.Helper()
	reply, err := wire.Exchange(testContext(t), openStream(t, from, to), request, maxReply)
	if err != nil {
		t.Fatalf("request %x: %v", request, err)
	}
	m, err := decodeMessage(reply)
	if err != nil {
		t.Fatalf("reply %x: %v", reply, err)
	}
	return m
}

func ask(t *testing.T, from, to host.Host, m message) message {
	t.Helper()
	return askRaw(t, from, to, m.encode())
}

// statusIn is the status of either response.
func statusIn(m message) Status {
	if m.registerResponse != nil {
		return *m.registerResponse.status
	}
	return *m.discoverResponse.status
}

// sealFor seals a record of h.
func sealFor(t *testing.T, h host.Host, seq uint64, flavour Flavour) []byte {
	t.Helper()
	envelope, err := SealRecord(h.Peerstore().PrivKey(h.ID()), seq, h.Addrs(), flavour)
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

func registerOf(ns string, record, other []byte) message {
	return message{kind: new(typeRegister), register: &registerMessage{ns: &ns, record: record, other: other}}
}

func discoverOf(ns string, both bool) message {
	return message{kind: new(typeDiscover), discover: &discoverMessage{ns: &ns, both: both}}
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
	server := infoOf(point)
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
