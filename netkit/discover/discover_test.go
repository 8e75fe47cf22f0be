package discover_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/discover"
	"dibber/netkit/host"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	quicAddr = "/ip4/127.0.0.1/udp/0/quic-v1"
	tcpAddr  = "/ip4/127.0.0.1/tcp/0"
)

// patience is how long a test waits for what must happen. Only a failing test
// waits that long.
const patience = 20 * time.Second

func node(t *testing.T, cfg host.Config, listen ...string) *host.Node {
	t.Helper()
	cfg.Listen = []ma.Multiaddr{}
	for _, l := range listen {
		cfg.Listen = append(cfg.Listen, ma.StringCast(l))
	}
	n, err := host.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func infoOf(n *host.Node) peer.AddrInfo { return peer.AddrInfo{ID: n.ID(), Addrs: n.ListenAddrs()} }

// point starts a rendezvous point.
func point(t *testing.T, cfg rendezvous.ServerConfig) peer.AddrInfo {
	t.Helper()
	return infoOf(pointNode(t, cfg))
}

// oldPoint starts a rendezvous point that does not push.
func oldPoint(t *testing.T, cfg rendezvous.ServerConfig) peer.AddrInfo {
	t.Helper()
	n := pointNode(t, cfg)
	n.RemoveStreamHandler(rendezvous.WatchProtocolID)
	return infoOf(n)
}

func pointNode(t *testing.T, cfg rendezvous.ServerConfig) *host.Node {
	t.Helper()
	n := node(t, host.Config{}, quicAddr)
	fast := rendezvous.Rate{PerSecond: 1e6, Burst: 1e6}
	cfg.Limits.PeerRegister, cfg.Limits.PeerDiscover = fast, fast
	cfg.Limits.PrefixRegister, cfg.Limits.PrefixDiscover = fast, fast
	s, err := rendezvous.NewServer(n, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// register puts a node into a namespace with these addresses, or with its own.
func register(t *testing.T, n *host.Node, server peer.AddrInfo, ns string, at ...ma.Multiaddr) {
	t.Helper()
	if _, err := rendezvous.Register(t.Context(), n, server, rendezvous.RegisterRequest{Namespace: ns, Addrs: at}); err != nil {
		t.Fatal(err)
	}
}

// deadServer is a server nobody runs.
func deadServer(t *testing.T) peer.AddrInfo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return peer.AddrInfo{ID: node(t, host.Config{}).ID(), Addrs: []ma.Multiaddr{ma.StringCast(fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", at))}}
}

// full are the addresses of a node as results have them.
func full(id peer.ID, addrs []ma.Multiaddr) []string {
	var out []string
	addrs = slices.Clone(addrs)
	addr.Sort(addrs)
	for _, a := range addrs {
		out = append(out, a.String()+"/p2p/"+id.String())
	}
	return out
}

func TestSeveralServersOneOfThemDead(t *testing.T) {
	east, west, dead := point(t, rendezvous.ServerConfig{}), point(t, rendezvous.ServerConfig{}), deadServer(t)
	alice, bob, carol := node(t, host.Config{}, quicAddr), node(t, host.Config{}, tcpAddr), node(t, host.Config{}, quicAddr, tcpAddr)
	old := ma.StringCast("/ip4/127.0.0.1/udp/1/quic-v1")
	register(t, alice, east, "garden", old) // a record that the west has a newer one of
	register(t, alice, west, "garden")
	register(t, bob, east, "garden")
	register(t, carol, east, "garden") // who looks is not found
	register(t, bob, west, "elsewhere")

	r, err := discover.Do(t.Context(), carol, discover.Config{Servers: []peer.AddrInfo{east, dead, west}, Namespace: "garden"})
	var part *discover.PartialError
	if !errors.As(err, &part) || part.Failed != 1 || part.Of != 3 {
		t.Errorf("error %v", err)
	}
	want := map[peer.ID][]string{alice.ID(): full(alice.ID(), alice.ListenAddrs()), bob.ID(): full(bob.ID(), bob.ListenAddrs())}
	got := map[peer.ID][]string{}
	for _, p := range r.Peers {
		got[p.ID] = p.Addrs
		if p.TTL == nil || *p.TTL < 7100 || *p.TTL > 7200 || *p.Namespace != "garden" || p.State != discover.Unprobed {
			t.Errorf("%+v", p)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("peers (-want +got):\n%s", diff)
	}
	if r.Count != 2 || *r.Namespace != "garden" || len(r.Sources) != 3 {
		t.Fatalf("result %+v", r)
	}
	for i, want := range []struct {
		server peer.AddrInfo
		ok     bool
		count  int
	}{{east, true, 2}, {dead, false, 0}, {west, true, 1}} {
		s := r.Sources[i]
		if s.Source != discover.SourceRendezvous || !strings.HasSuffix(*s.Server, want.server.ID.String()) ||
			s.OK != want.ok || s.Count != want.count || (s.MS != nil) != want.ok || (s.Error == nil) != want.ok {
			t.Errorf("source %d: %+v", i, s)
		}
	}
	byID := slices.IndexFunc(r.Peers, func(p discover.Peer) bool { return p.ID == alice.ID() })
	if f := r.Peers[byID].Found; len(f) != 2 || f[0].Newest || !f[1].Newest {
		t.Errorf("alice was found as %+v", f)
	}
}

func TestClassesOfErrors(t *testing.T) {
	n := node(t, host.Config{}, quicAddr)
	plain := infoOf(node(t, host.Config{}, quicAddr))
	locked := point(t, rendezvous.ServerConfig{Allow: func(peer.ID, string) error { return errors.New("members only") }})
	do := func(server peer.AddrInfo) error {
		_, err := discover.Do(t.Context(), n, discover.Config{Servers: []peer.AddrInfo{server}, Namespace: "garden"})
		var e *discover.SourceError
		if !errors.As(err, &e) || e.Source != discover.SourceRendezvous || !strings.HasSuffix(e.Server, server.ID.String()) {
			t.Errorf("error %v is of no source", err)
		}
		return err
	}
	if err := do(plain); !errors.Is(err, rendezvous.ErrUnsupported) {
		t.Errorf("no rendezvous point: %v", err)
	}
	var refused *rendezvous.StatusError
	if err := do(locked); !errors.As(err, &refused) || refused.Status != rendezvous.StatusNotAuthorized {
		t.Errorf("not allowed: %v", err)
	}
	var op *net.OpError
	if err := do(deadServer(t)); !errors.As(err, &op) {
		t.Errorf("nobody there: %v", err)
	}
}

func TestPagesAreFollowed(t *testing.T) {
	server := point(t, rendezvous.ServerConfig{Limits: rendezvous.Limits{PageDefault: 7, PageMax: 7}})
	a := node(t, host.Config{}, quicAddr)
	for i := range 30 {
		register(t, a, server, fmt.Sprintf("ns %02d", i))
	}
	r, err := discover.Do(t.Context(), node(t, host.Config{}), discover.Config{Servers: []peer.AddrInfo{server}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Count != 1 || len(r.Peers[0].Found) != 30 || *r.Peers[0].Namespace != "ns 00" || r.Namespace != nil {
		t.Errorf("result %+v", r)
	}
}

// A peer that only a relay reaches is dialed by what the result says, as it is.
func TestRelayedRegistrationIsDialable(t *testing.T) {
	server, rn := point(t, rendezvous.ServerConfig{}), node(t, host.Config{}, quicAddr)
	hidden := node(t, host.Config{}, tcpAddr)
	s, err := relay.New(rn, relay.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	slot, err := relay.Reserve(t.Context(), hidden, infoOf(rn))
	if err != nil {
		t.Fatal(err)
	}
	register(t, hidden, server, "garden", slot.Circuits...)

	n := node(t, host.Config{}, quicAddr)
	r, err := discover.Do(t.Context(), n, discover.Config{Servers: []peer.AddrInfo{server}, Namespace: "garden"})
	if err != nil || r.Count != 1 {
		t.Fatalf("found %+v, error %v", r.Peers, err)
	}
	if want := full(hidden.ID(), slot.Circuits); !slices.Equal(r.Peers[0].Addrs, want) {
		t.Fatalf("addresses %v, want %v", r.Peers[0].Addrs, want)
	}
	target, err := addr.ParseTarget(r.Peers[0].Addrs[0], addr.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := n.Dial(t.Context(), target.ID, target.Addrs)
	if err != nil {
		t.Fatal(err)
	}
	if c.RemotePeer() != hidden.ID() || !addr.IsRelayed(c.RemoteMultiaddr()) {
		t.Errorf("connected to %s at %s", c.RemotePeer(), c.RemoteMultiaddr())
	}
}

func TestRegisterWhileLooking(t *testing.T) {
	server := point(t, rendezvous.ServerConfig{})
	alice, bob := node(t, host.Config{}, quicAddr), node(t, host.Config{}, quicAddr, tcpAddr)
	var events []string
	r, err := discover.Do(t.Context(), bob, discover.Config{
		Servers: []peer.AddrInfo{server, deadServer(t)}, Namespace: "garden", Register: true, For: 100 * time.Millisecond,
		On: func(e discover.Event) {
			if e.Registration == nil || e.Registration.Server != server.ID {
				return
			}
			events = append(events, string(e.Registration.Kind))
			if e.Registration.Kind != rendezvous.RegistrarRegistered {
				return
			}
			page, err := rendezvous.DiscoverAll(t.Context(), alice, server, rendezvous.DiscoverRequest{Namespace: "garden"})
			if err != nil || len(page.Entries) != 1 || page.Entries[0].Peer != bob.ID() {
				t.Errorf("alice finds %+v, error %v", page.Entries, err)
			}
		},
	})
	var part *discover.PartialError
	if !errors.As(err, &part) || part.Failed != 2 || part.Of != 4 {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff([]string{"registered", "unregistered"}, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if g := r.Registrations; len(g) != 2 || g[0].State != "registered" || *g[0].TTL != 7200 || len(g[0].Addrs) != 2 ||
		g[0].Error != nil || g[1].State != "failed" || g[1].TTL != nil || g[1].Error == nil {
		t.Errorf("registrations %+v", g)
	}
	page, err := rendezvous.DiscoverAll(t.Context(), alice, server, rendezvous.DiscoverRequest{Namespace: "garden"})
	if err != nil || len(page.Entries) != 0 {
		t.Errorf("afterwards alice finds %+v, error %v", page.Entries, err)
	}
}

func TestAHostThatListensNowhereIsNotRegistered(t *testing.T) {
	server := point(t, rendezvous.ServerConfig{})
	r, err := discover.Do(t.Context(), node(t, host.Config{}), discover.Config{
		Servers: []peer.AddrInfo{server}, Namespace: "garden", Register: true, For: time.Millisecond,
	})
	var part *discover.PartialError
	if !errors.As(err, &part) || r.Registrations[0].State != "waiting" || r.Registrations[0].Error == nil {
		t.Errorf("registrations %+v, error %v", r.Registrations, err)
	}
}

func TestResolve(t *testing.T) {
	server := point(t, rendezvous.ServerConfig{})
	a, n := node(t, host.Config{}, quicAddr), node(t, host.Config{})
	register(t, a, server, "garden")
	for _, ns := range []string{"garden", ""} {
		at, err := discover.Resolve(t.Context(), n, a.ID(), discover.Config{Servers: []peer.AddrInfo{server, deadServer(t)}, Namespace: ns})
		if err != nil || len(at) != 1 || !at[0].Equal(a.ListenAddrs()[0]) {
			t.Errorf("resolved to %v, error %v", at, err)
		}
	}
	if _, err := discover.Resolve(t.Context(), n, a.ID(), discover.Config{Servers: []peer.AddrInfo{server}, Namespace: "elsewhere"}); !errors.Is(err, discover.ErrNotFound) {
		t.Errorf("error %v", err)
	}
}
