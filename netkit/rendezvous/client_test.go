package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/wire"
)

// fakeServer serves canned replies and records the requests.
func fakeServer(t *testing.T, h host.Host, answer func(message) message) <-chan message {
	t.Helper()
	requests := make(chan message, 100)
	service := wire.NewService(wire.ServiceConfig{Name: "fake", MaxReply: maxReply, Burst: 1000}, func(_ context.Context, req wire.Request) ([]byte, error) {
		m, err := decodeMessage(req.Body)
		if err != nil {
			return nil, err
		}
		requests <- m
		return answer(m).encode(), nil
	})
	h.SetStreamHandler(ProtocolID, service.Handle)
	t.Cleanup(func() {
		h.RemoveStreamHandler(ProtocolID)
		_ = service.Close()
	})
	return requests
}

func registered(status Status) func(message) message {
	return func(message) message {
		return message{
			kind:             new(typeRegisterResponse),
			registerResponse: &registerResponse{status: &status, ttl: new(uint64(7200))},
		}
	}
}

func TestDiscoverBearsOddEntries(t *testing.T) {
	point, reader, alice, bob := newHost(t), newHost(t), newHost(t), newHost(t)
	own := sealFor(t, reader, 1, Standard)
	fakeServer(t, point, func(message) message {
		return message{kind: new(typeDiscoverResponse), discoverResponse: &discoverResponse{
			registrations: []registerMessage{
				{record: sealFor(t, alice, 5, Standard), ttl: new(uint64(60))},                       // waku: no namespace
				{ns: new(""), record: []byte("broken"), other: sealFor(t, bob, 6, Legacy)},           // second record is good
				{ns: new("ns"), record: []byte("broken"), ttl: new(uint64(60))},                      // skipped
				{ns: new("elsewhere"), record: sealFor(t, alice, 5, Standard), ttl: new(uint64(60))}, // skipped
				{}, // skipped
				{ns: new("ns"), record: own, ttl: new(uint64(60))}, // own
			},
		}}
	})
	page, err := Discover(testContext(t), reader, infoOf(point), DiscoverRequest{Namespace: "ns"})
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{
		{Namespace: "ns", Peer: alice.ID(), Addrs: alice.Addrs(), TTL: new(uint64(60)), Seq: 5},
		{Namespace: "ns", Peer: bob.ID(), Addrs: bob.Addrs(), Seq: 6, Flavour: Legacy},
	}
	if diff := cmp.Diff(want, page.Entries); diff != "" {
		t.Error(diff)
	}
	if page.Skipped != 3 {
		t.Errorf("skipped %d, want 3", page.Skipped)
	}
}

func TestRegisterRetriesARefusedTTL(t *testing.T) {
	point, peerHost := newHost(t), newHost(t)
	newServer(t, point, ServerConfig{})
	done, err := Register(testContext(t), peerHost, infoOf(point), RegisterRequest{Namespace: "ns", TTL: time.Minute})
	if err != nil || done.TTL != 2*time.Hour {
		t.Errorf("granted %s, %v; want 2h", done.TTL, err)
	}
	newServer(t, point, ServerConfig{Limits: Limits{MinTTL: time.Minute}})
	done, err = Register(testContext(t), peerHost, infoOf(point), RegisterRequest{Namespace: "ns", TTL: time.Minute})
	if err != nil || done.TTL != time.Minute {
		t.Errorf("granted %s, %v; want 1m", done.TTL, err)
	}
}

func TestRegisterRetriesOnce(t *testing.T) {
	point, peerHost := newHost(t), newHost(t)
	requests := fakeServer(t, point, registered(StatusInvalidTTL))
	_, err := Register(testContext(t), peerHost, infoOf(point), RegisterRequest{Namespace: "ns", TTL: time.Minute})
	var refused *StatusError
	if !errors.As(err, &refused) || refused.Status != StatusInvalidTTL {
		t.Errorf("got %v, want E_INVALID_TTL", err)
	}
	if len(requests) != 2 {
		t.Errorf("%d requests, want 2", len(requests))
	}
}

// TestUnsupported asks a peer without the protocol, also one that the
// peerstore believes to have it, where the stream is negotiated lazily.
func TestUnsupported(t *testing.T) {
	point, peerHost := newHost(t), newHost(t)
	_, err := Discover(testContext(t), peerHost, infoOf(point), DiscoverRequest{})
	if !errors.Is(err, ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	if err := peerHost.Peerstore().AddProtocols(point.ID(), ProtocolID); err != nil {
		t.Fatal(err)
	}
	_, err = Discover(testContext(t), peerHost, infoOf(point), DiscoverRequest{})
	if !errors.Is(err, ErrUnsupported) {
		t.Errorf("negotiated lazily: %v", err)
	}
}

func TestRecordFormats(t *testing.T) {
	tests := []struct {
		name   string
		agent  string
		ns     string
		format Format
		want   []Flavour
	}{
		{"auto", "go", "ns", FormatAuto, []Flavour{Standard, Legacy}},
		{"standard", "rust-libp2p/0.44.1", "ns", FormatStandard, []Flavour{Standard}},
		{"legacy", "go", "ns", FormatLegacy, []Flavour{Legacy}},
		{"auto to rust", "rust-libp2p/0.44.1", "ns", FormatAuto, []Flavour{Legacy}},
		{"auto in aquadoggo", "go", "aquadoggo", FormatAuto, []Flavour{Legacy}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			point, peerHost := newHost(t, libp2p.UserAgent(test.agent)), newHost(t)
			requests := fakeServer(t, point, registered(StatusOK))
			done, err := Register(testContext(t), peerHost, infoOf(point), RegisterRequest{Namespace: test.ns, Format: test.format})
			if err != nil {
				t.Fatal(err)
			}
			sent := (<-requests).register
			var got []Flavour
			for _, envelope := range [][]byte{sent.record, sent.other} {
				if envelope == nil {
					continue
				}
				rec, err := OpenRecord(envelope)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, rec.Flavour)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(got, done.Flavours); diff != "" {
				t.Errorf("reported: %s", diff)
			}
		})
	}
}

// TestRegisterTrimsAddresses gives more and longer addresses than fit.
func TestRegisterTrimsAddresses(t *testing.T) {
	h := newHost(t)
	relayID := "12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm"
	addrs := []ma.Multiaddr{
		ma.StringCast("/ip4/192.168.1.1/tcp/4001"),
		ma.StringCast("/ip4/203.0.113.9/tcp/1/p2p/" + relayID + "/p2p-circuit"),
		ma.StringCast("/ip4/8.8.8.8/udp/4001/quic-v1"),
		ma.StringCast("/ip4/8.8.8.8/udp/4001/quic-v1/p2p/" + h.ID().String()),
		ma.StringCast("/ip4/8.8.8.9/udp/4001/p2p/" + relayID),
		ma.StringCast("/p2p/" + h.ID().String()),
	}
	_, sent, err := buildRegister(h, "", RegisterRequest{Namespace: "ns", Addrs: addrs}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []ma.Multiaddr{addrs[2], addrs[1], addrs[0]}
	if diff := cmp.Diff(want, sent.addrs); diff != "" {
		t.Error(diff)
	}

	var long []ma.Multiaddr
	for i := range 40 {
		long = append(long, ma.StringCast(fmt.Sprintf("/dns4/%s.example/udp/%d/quic-v1", strings.Repeat("x", 200), 1+i)))
	}
	var m message
	m, sent, err = buildRegister(h, "", RegisterRequest{Namespace: "ns", Addrs: long}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if size := len(m.encode()); size > 4096 || len(sent.addrs) < 5 || len(sent.addrs) > 16 {
		t.Errorf("%d bytes with %d addresses", size, len(sent.addrs))
	}
	_, again, err := buildRegister(h, "", RegisterRequest{Namespace: "other", Addrs: long}, sent)
	if err != nil || again != sent {
		t.Errorf("a record that was trimmed is sealed again, error %v", err)
	}
	m, again, err = buildRegister(h, "", RegisterRequest{Namespace: strings.Repeat("n", 255), Addrs: long}, sent)
	if err != nil || again == sent || len(m.encode()) > 4096 {
		t.Errorf("a long namespace: %d bytes, error %v", len(m.encode()), err)
	}
}

func TestRegisterWithoutAddresses(t *testing.T) {
	point, peerHost := newHost(t), newHost(t)
	fakeServer(t, point, registered(StatusOK))
	_, err := Register(testContext(t), peerHost, infoOf(point), RegisterRequest{Namespace: "ns", Addrs: []ma.Multiaddr{}})
	if !errors.Is(err, ErrNoAddresses) {
		t.Errorf("got %v", err)
	}
}

func TestMalformedReply(t *testing.T) {
	point, reader := newHost(t), newHost(t)
	fakeServer(t, point, registered(StatusOK))
	_, err := Discover(testContext(t), reader, infoOf(point), DiscoverRequest{})
	if !errors.Is(err, ErrMalformedReply) {
		t.Errorf("got %v", err)
	}
}

// TestSilentServer never answers: the context ends the wait.
func TestSilentServer(t *testing.T) {
	point, reader := newHost(t), newHost(t)
	asked := make(chan struct{})
	point.SetStreamHandler(ProtocolID, func(st network.Stream) {
		close(asked)
		<-t.Context().Done()
		_ = st.Reset()
	})
	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		<-asked
		cancel()
	}()
	_, err := Discover(ctx, reader, infoOf(point), DiscoverRequest{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestDiscoveryInterface(t *testing.T) {
	point, alice, bob := newHost(t), newHost(t), newHost(t)
	newServer(t, point, ServerConfig{})
	ttl, err := NewDiscovery(alice, infoOf(point)).Advertise(testContext(t), "topic", discovery.TTL(3*time.Hour))
	if err != nil || ttl != 3*time.Hour {
		t.Fatalf("advertise: %s, %v", ttl, err)
	}
	peers, err := NewDiscovery(bob, infoOf(point)).FindPeers(testContext(t), "topic", discovery.Limit(1))
	if err != nil {
		t.Fatal(err)
	}
	var found []peer.ID
	for info := range peers {
		found = append(found, info.ID)
	}
	if diff := cmp.Diff([]peer.ID{alice.ID()}, found); diff != "" {
		t.Error(diff)
	}
}

// TestThroughRelay reaches a server that can be reached over a relay only.
func TestThroughRelay(t *testing.T) {
	relayHost := newHost(t)
	limits := relay.DefaultResources()
	r, err := relay.New(relayHost, relay.WithResources(limits), relay.WithReservationAddressFilter(func(ma.Multiaddr) bool { return true }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	hidden, alice := newHost(t, libp2p.EnableRelay(), libp2p.NoListenAddrs), newHost(t, libp2p.EnableRelay())
	newServer(t, hidden, ServerConfig{})
	if _, err := client.Reserve(testContext(t), hidden, infoOf(relayHost)); err != nil {
		t.Fatal(err)
	}
	circuit := relayHost.Addrs()[0].Encapsulate(ma.StringCast("/p2p/" + relayHost.ID().String() + "/p2p-circuit"))
	server := peer.AddrInfo{ID: hidden.ID(), Addrs: []ma.Multiaddr{circuit}}
	if _, err := Register(testContext(t), alice, server, RegisterRequest{Namespace: "ns"}); err != nil {
		t.Fatal(err)
	}
	if conns := alice.Network().ConnsToPeer(hidden.ID()); len(conns) != 1 || !conns[0].Stat().Limited {
		t.Errorf("connections to the server: %v, want one limited", conns)
	}
	if err := Unregister(testContext(t), alice, server, "ns"); err != nil {
		t.Error(err)
	}
}
