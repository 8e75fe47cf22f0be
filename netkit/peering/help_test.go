package peering_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"dibber/netkit/discover"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/peering"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// events keeps what a service tells, in order.
type events struct {
	mu   sync.Mutex // guards all
	all  []peering.Event
	more chan struct{} // something was added
}

func (ev *events) add(e peering.Event) {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	ev.all = append(ev.all, e)
	select {
	case ev.more <- struct{}{}:
	default:
	}
}

// take removes the first event that fits, with all before it.
func (ev *events) take(fits func(peering.Event) bool) (peering.Event, bool) {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	i := slices.IndexFunc(ev.all, fits)
	if i < 0 {
		return peering.Event{}, false
	}
	e := ev.all[i]
	ev.all = ev.all[i+1:]
	return e, true
}

// of is the only event of the kind about a peer so far.
func (ev *events) of(t *testing.T, kind peering.EventKind, about *host.Node) peering.Event {
	t.Helper()
	ev.mu.Lock()
	defer ev.mu.Unlock()
	var found []peering.Event
	for _, e := range ev.all {
		if e.Kind == kind && e.Peer == about.ID() {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d events %s: %+v", len(found), kind, found)
	}
	return found[0]
}

// count says how many events fit, and forgets all.
func (ev *events) count(fits func(peering.Event) bool) (n int) {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	for _, e := range ev.all {
		if fits(e) {
			n++
		}
	}
	ev.all = nil
	return n
}

// await returns an event of the kind about the peer, and how long that took in virtual time.
func (ev *events) await(t *testing.T, kind peering.EventKind, of *host.Node) (peering.Event, time.Duration) {
	t.Helper()
	return ev.awaitThat(t, string(kind), func(e peering.Event) bool { return e.Kind == kind && e.Peer == of.ID() })
}

func (ev *events) awaitThat(t *testing.T, what string, fits func(peering.Event) bool) (peering.Event, time.Duration) {
	t.Helper()
	began := time.Now()
	limit := time.After(5 * time.Minute)
	for {
		if e, ok := ev.take(fits); ok {
			return e, time.Since(began)
		}
		select {
		case <-ev.more:
		case <-limit:
			t.Fatalf("no %s within 5 minutes", what)
		}
	}
}

func is(kind peering.EventKind) func(peering.Event) bool {
	return func(e peering.Event) bool { return e.Kind == kind }
}

func info(n *host.Node) peer.AddrInfo { return peer.AddrInfo{ID: n.ID(), Addrs: n.ListenAddrs()} }

// join starts peering on n; it ends with the test.
func join(t *testing.T, n *host.Node, cfg peering.Config) (*peering.Service, *events) {
	t.Helper()
	ev := &events{more: make(chan struct{}, 1)}
	cfg.On = ev.add
	s, err := peering.New(n, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, ev
}

// table makes a source of peers known beforehand.
func table(peers ...*host.Node) discover.Config {
	cfg := discover.Config{Table: []peer.AddrInfo{}}
	for _, p := range peers {
		cfg.Table = append(cfg.Table, info(p))
	}
	return cfg
}

// public starts a node on the internet.
func public(lab *natlab.Lab, name string) (*natlab.Machine, *host.Node) {
	m := lab.Internet().Machine(name, natlab.MachineConfig{})
	return m, m.Host(host.Config{})
}

// behind puts a node behind a NAT of its own.
func behind(lab *natlab.Lab, name string, nat natlab.NAT) (*natlab.Router, *host.Node) {
	r := lab.Internet().Router(name+"-router", natlab.RouterConfig{NAT: nat})
	return r, r.LAN().Machine(name, natlab.MachineConfig{}).Host(host.Config{})
}

// point starts a relay and rendezvous point on the internet.
func point(t *testing.T, lab *natlab.Lab) *host.Node {
	t.Helper()
	_, n := public(lab, "point")
	r, err := relay.New(n, relay.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	registry(t, n)
	return n
}

// registry makes n a rendezvous point.
func registry(t *testing.T, n *host.Node) {
	t.Helper()
	p, err := rendezvous.NewServer(n, rendezvous.ServerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

// register keeps n registered at a point; withdraw ends it.
func register(t *testing.T, n, at *host.Node) (withdraw func()) {
	t.Helper()
	r, err := rendezvous.NewRegistrar(n, rendezvous.RegistrarConfig{
		Server: info(at), Namespace: "chat", Debounce: rendezvous.QuickDebounce,
		Addrs: func() []ma.Multiaddr { return n.AddrsFor(at.ID()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	withdraw = sync.OnceFunc(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(withdraw)
	return withdraw
}

// reserve keeps a reservation of n on a relay.
func reserve(t *testing.T, n, at *host.Node) {
	t.Helper()
	got := make(chan struct{}, 16)
	c := relay.NewClient(n, relay.ClientConfig{Relay: info(at), On: func(relay.ClientEvent) { got <- struct{}{} }})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	<-got
}

func chat(at *host.Node) discover.Config {
	return discover.Config{Servers: []peer.AddrInfo{info(at)}, Namespace: "chat"}
}

// expectOne fails unless exactly one connection joins each pair.
func expectOne(t *testing.T, nodes ...*host.Node) {
	t.Helper()
	for _, a := range nodes {
		for _, b := range nodes {
			if a != b && len(a.Conns(b.ID())) != 1 {
				t.Errorf("%d connections of a pair: %v", len(a.Conns(b.ID())), a.Conns(b.ID()))
			}
		}
	}
}
