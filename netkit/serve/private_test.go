package serve_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/gossip"
	"dibber/netkit/host"
	"dibber/netkit/mdns"
	"dibber/netkit/natcheck"
	"dibber/netkit/punch"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/serve"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protowire"
)

// tap keeps all that comes in on the connections of a host, decrypted: below the muxer, above the encryption.
type tap struct {
	mu  sync.Mutex // guards all
	all bytes.Buffer
}

// NewConn implements network.Multiplexer.
func (t *tap) NewConn(c net.Conn, server bool, scope network.PeerScope) (network.MuxedConn, error) {
	return yamux.DefaultTransport.NewConn(tapped{c, t}, server, scope)
}

type tapped struct {
	net.Conn
	tap *tap
}

func (c tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	c.tap.all.Write(b[:n])
	return n, err
}

// found lists the IP addresses that are in what came in, as text or as in a multiaddr.
func (t *tap) found(ips []netip.Addr) (out []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ip := range ips {
		code := byte(ma.P_IP4)
		if ip.Is6() {
			code = ma.P_IP6
		}
		if bytes.Contains(t.all.Bytes(), append([]byte{code}, ip.AsSlice()...)) || strings.Contains(t.all.String(), ip.String()) {
			out = append(out, ip.String())
		}
	}
	return out
}

// private is a trusted node, a client of it, and another client that looks for the first one's addresses.
type private struct {
	trusted, client *host.Node
	other           corehost.Host
	heard           *tap
	at              peer.AddrInfo // the trusted node
}

// newPrivate starts them. The trusted node is at 127.0.0.2, the other client at 127.0.0.3, and so all else that this machine has is
// an address of the client's.
func newPrivate(t *testing.T, closed bool) *private {
	t.Helper()
	p := &private{heard: new(tap)}
	newNode := func(cfg host.Config) *host.Node {
		n, err := host.New(cfg)
		if err != nil {
			t.Skip("needs the addresses of 127.0.0.0/8: ", err)
		}
		t.Cleanup(func() { _ = n.Close() })
		return n
	}
	p.trusted = newNode(host.Config{Transports: []host.Transport{host.TCP}, Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.2/tcp/0")}, CircuitsOnly: closed})
	p.at = peer.AddrInfo{ID: p.trusted.ID(), Addrs: p.trusted.ListenAddrs()}
	start(t, p.trusted, serve.Config{
		Relay: &relay.Config{NoIntro: closed}, Rendezvous: &rendezvous.ServerConfig{Limits: rendezvous.Limits{CircuitsOnly: closed}},
		Pubsub: &gossip.Config{Relay: &gossip.RelayConfig{}, Exchange: true},
	})
	cfg := host.Config{Transports: []host.Transport{host.TCP}, RelayOnly: closed, Trusted: []peer.ID{p.trusted.ID()}}
	roles := serve.Config{
		Relays: []peer.AddrInfo{p.at}, Registrations: []serve.Registration{{Server: p.at, Namespace: "club"}},
	}
	if !closed {
		roles.Punch, roles.Natcheck = &punch.Config{}, &natcheck.ShareConfig{}
	}
	p.client = newNode(cfg)
	told := start(t, p.client, roles)
	told.await(t, "reservation", func(e serve.Event) bool { return e.Relay != nil && e.Relay.Kind == "reserved" })
	told.await(t, "registration", func(e serve.Event) bool {
		return e.Registration != nil && (e.Registration.Kind == rendezvous.RegistrarRegistered || e.Registration.Kind == rendezvous.RegistrarRefreshed)
	})
	g, err := gossip.New(p.client, gossip.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	topic, err := g.Join("news", gossip.TopicConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := topic.Subscribe(gossip.SubscribeConfig{}); err != nil {
		t.Fatal(err)
	}
	p.other, err = libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.3/tcp/0"), libp2p.Muxer(yamux.ID, p.heard), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.other.Close() })
	return p
}

// ask sends one request on a stream, and reports whether the peer speaks the protocol.
func (p *private) ask(ctx context.Context, who peer.ID, id protocol.ID, request []byte) ([]byte, bool) {
	st, err := p.other.NewStream(network.WithAllowLimitedConn(ctx, "test"), who, id)
	if err != nil {
		return nil, false
	}
	reply, err := wire.Exchange(ctx, st, request, 1<<20)
	return reply, err == nil
}

// meet has the other client learn what there is to learn of the first.
func (p *private) meet(t *testing.T) (speaks []protocol.ID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.other.Connect(ctx, p.at); err != nil {
		t.Fatal(err)
	}
	page, err := rendezvous.DiscoverAll(ctx, p.other, p.at, rendezvous.DiscoverRequest{Namespace: "club"})
	if err != nil || len(page.Entries) != 1 || page.Entries[0].Peer != p.client.ID() {
		t.Fatalf("who is registered: %+v, %v", page.Entries, err)
	}
	question := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "news")
	tick := time.NewTicker(600 * time.Millisecond) // of which a peer takes two a second
	defer tick.Stop()
	for {
		reply, _ := p.ask(ctx, p.at.ID, gossip.TopicsProtocol, question)
		if bytes.Contains(reply, []byte(p.client.ID())) {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("nobody tells who is subscribed")
		}
	}
	circuit := peer.AddrInfo{ID: p.client.ID(), Addrs: []ma.Multiaddr{addr.WithPeer(p.at.Addrs[0], p.at.ID).Encapsulate(ma.StringCast("/p2p-circuit"))}}
	if err := p.other.Connect(network.WithAllowLimitedConn(ctx, "test"), circuit); err != nil {
		t.Fatal(err)
	}
	speaks, err = p.other.Peerstore().GetProtocols(p.client.ID())
	if err != nil || len(speaks) == 0 {
		t.Fatalf("identify: %v, %v", speaks, err)
	}
	within, end := context.WithTimeout(ctx, 2*time.Second)
	defer end()
	var asks sync.WaitGroup
	for _, id := range speaks { // whatever it answers to an empty request, if it does
		asks.Go(func() { _, _ = p.ask(within, p.client.ID(), id, nil) })
	}
	asks.Wait()
	return speaks
}

// TestPrivateMode searches everything that another client receives, from a trusted node and from a client of that, for the client's
// addresses. An open client is found by the same search.
func TestPrivateMode(t *testing.T) {
	t.Parallel()
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var ips []netip.Addr
	for _, a := range own {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			ips = append(ips, prefix.Addr().Unmap())
		}
	}
	t.Run("private", func(t *testing.T) {
		p := newPrivate(t, true)
		for _, id := range p.meet(t) {
			for _, word := range []string{"dcutr", "natcheck", "punch", "offer", "autonat"} {
				if strings.Contains(string(id), word) {
					t.Errorf("the client speaks %s", id)
				}
			}
		}
		if found := p.heard.found(ips); len(found) > 0 {
			t.Errorf("the other client was told %v", found)
		}
		if _, carries := p.ask(t.Context(), p.at.ID, relay.IntroProtocol, nil); carries {
			t.Error("the relay carries offers")
		}
		if m, err := mdns.New(p.client, mdns.Config{Announce: true}); !errors.Is(err, host.ErrHidden) {
			t.Errorf("mDNS: %v, %v", m, err)
		}
		// The client shows itself to nobody by dialling: neither a peer, nor one through a relay of the peer's choice.
		for _, at := range []ma.Multiaddr{p.other.Addrs()[0], addr.WithPeer(p.other.Addrs()[0], p.other.ID()).Encapsulate(ma.StringCast("/p2p-circuit"))} {
			stranger := p.other.ID()
			if addr.IsRelayed(at) {
				stranger = somebody(t)
			}
			if _, err := p.client.DialAddr(t.Context(), stranger, at); err == nil {
				t.Errorf("it dialled %s", at)
			}
		}
		// Who would tell where it is, is not registered.
		open, err := host.New(host.Config{Transports: []host.Transport{host.TCP}, Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.4/tcp/0")}})
		if err != nil {
			t.Fatal(err)
		}
		defer open.Close()
		if r, err := rendezvous.Register(t.Context(), open, p.at, rendezvous.RegisterRequest{Namespace: "club", Addrs: open.ListenAddrs()}); err == nil {
			t.Errorf("an open client is registered: %+v", r)
		}
	})
	t.Run("open", func(t *testing.T) {
		p := newPrivate(t, false)
		p.meet(t)
		if found := p.heard.found(ips); len(found) == 0 {
			t.Error("the search finds nothing of an open client's")
		}
	})
}

// somebody is a peer that is nowhere.
func somebody(t *testing.T) peer.ID {
	t.Helper()
	h, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	return h.ID()
}
