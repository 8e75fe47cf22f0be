package peering_test

import (
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/discover"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/peering"
	"dibber/netkit/punch"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"
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

func TestMembersOfANamespaceConnect(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		server := point(t, lab)
		var nodes []*host.Node
		var evs []*events
		for i := range 3 {
			_, n := public(lab, fmt.Sprint("node", i))
			register(t, n, server)
			_, ev := join(t, n, peering.Config{Sources: []discover.Config{chat(server)}})
			nodes, evs = append(nodes, n), append(evs, ev)
		}
		time.Sleep(30 * time.Second) // virtual: the second look at the server, and duplicates closed
		expectOne(t, nodes...)
		for i, n := range nodes {
			for _, other := range nodes {
				if n == other {
					continue
				}
				if e := evs[i].of(t, peering.Found, other); !slices.Equal(e.Sources, []string{"rendezvous"}) || len(e.Addrs) == 0 {
					t.Errorf("found %+v", e)
				}
				if e := evs[i].of(t, peering.Connected, other); e.Path != addr.PathDirect || e.Addr == "" {
					t.Errorf("connected %+v", e)
				}
			}
			if n := evs[i].count(is(peering.Lost)); n > 0 {
				t.Errorf("%d peers were lost on the way", n)
			}
		}
	})
}

// Both ends find each other at the same moment: of the two connections the same one
// stays for both, and there is one at every moment.
func TestOneConnectionOfAPair(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, a := public(lab, "a")
		_, b := public(lab, "b")
		_, evA := join(t, a, peering.Config{Sources: []discover.Config{table(b)}})
		_, evB := join(t, b, peering.Config{Sources: []discover.Config{table(a)}})
		evA.await(t, peering.Connected, b)
		evB.await(t, peering.Connected, a)
		if len(a.Conns(b.ID())) != 2 {
			t.Fatalf("%d connections after dials at the same instant; the test shows nothing", len(a.Conns(b.ID())))
		}
		time.Sleep(20 * time.Second) // virtual
		expectOne(t, a, b)
		kept := a.Conns(b.ID())[0].Stat()
		if smaller := a.ID() < b.ID(); smaller != (kept.Direction.String() == "Outbound") {
			t.Errorf("kept the %s connection of the two", kept.Direction)
		}
		if evA.count(is(peering.Lost))+evB.count(is(peering.Lost)) > 0 {
			t.Error("a peer was lost on the way")
		}
	})
}

func TestPunchedConnectionReplacesTheRelayedOne(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		server := point(t, lab)
		cone := natlab.NAT{Filtering: natlab.AddressAndPortDependent}
		_, a := behind(lab, "a", cone)
		_, b := behind(lab, "b", cone)
		var evs []*events
		for _, n := range []*host.Node{a, b} {
			p := punch.New(n, punch.Config{})
			t.Cleanup(func() { _ = p.Close() })
			reserve(t, n, server)
			register(t, n, server)
			_, ev := join(t, n, peering.Config{Sources: []discover.Config{chat(server)}, Except: []peer.ID{server.ID()}})
			evs = append(evs, ev)
		}
		evs[0].awaitThat(t, "direct connection", func(e peering.Event) bool { return e.Kind == peering.Connected && e.Path == addr.PathDirect })
		evs[1].awaitThat(t, "direct connection", func(e peering.Event) bool { return e.Kind == peering.Connected && e.Path == addr.PathDirect })
		time.Sleep(20 * time.Second) // virtual
		expectOne(t, a, b)
		if c := a.Conns(b.ID())[0]; addr.IsRelayed(c.RemoteMultiaddr()) {
			t.Error("the relayed connection stayed")
		}
		for _, ev := range evs {
			if ev.count(is(peering.Lost)) > 0 {
				t.Error("lost on the way")
			}
		}
	})
}

// Two nodes behind NATs that nobody coordinates: they try at the same moments after the
// relayed connection opened, and so open their NATs for each other.
func TestRelayedPairTriesDirectPathsTogether(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		server := point(t, lab)
		cone := natlab.NAT{Filtering: natlab.AddressAndPortDependent}
		_, a := behind(lab, "a", cone)
		_, b := behind(lab, "b", cone)
		for _, n := range []*host.Node{a, b} {
			reserve(t, n, server)
			register(t, n, server)
		}
		time.Sleep(30 * time.Second) // virtual: the public addresses are known
		for _, n := range []*host.Node{a, b} {
			registry(t, n) // a role, also before it joins
		}
		var evs []*events
		for _, n := range []*host.Node{a, b} { // one after the other: dials at the same moment would meet already
			_, ev := join(t, n, peering.Config{Sources: []discover.Config{chat(server)}, Except: []peer.ID{server.ID()}})
			if e, _ := ev.awaitThat(t, "connection", is(peering.Connected)); e.Path != addr.PathRelayed {
				t.Fatalf("connected at once: %+v; the test shows nothing", e)
			}
			evs = append(evs, ev)
		}
		for _, ev := range evs {
			if e, took := ev.awaitThat(t, "direct connection", is(peering.Connected)); e.Path != addr.PathDirect || took > time.Minute {
				t.Errorf("after %s: %+v", took, e)
			}
		}
		time.Sleep(20 * time.Second) // virtual
		expectOne(t, a, b)
	})
}

func TestPeerWithoutRolesIsTurnedAway(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, a := public(lab, "a")
		_, plain := public(lab, "plain")
		_, ev := join(t, a, peering.Config{Sources: []discover.Config{table(plain)}})
		if e, _ := ev.await(t, peering.Dropped, plain); e.Reason != peering.ReasonUnfit {
			t.Errorf("reason %q", e.Reason)
		}
		time.Sleep(10 * time.Minute) // virtual
		if len(a.Conns(plain.ID())) > 0 || len(plain.Conns(a.ID())) > 0 {
			t.Error("still connected")
		}
		if n := ev.count(func(peering.Event) bool { return true }); n > 0 {
			t.Errorf("%d more events: it was dialled again", n)
		}
	})
}

// A peer may use a role that this node has for others: what it opened is left to it.
func TestConnectionOfAnUnfitPeerIsLeftToIt(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, a := public(lab, "a")
		_, plain := public(lab, "plain")
		if _, err := plain.Dial(t.Context(), a.ID(), a.ListenAddrs()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // virtual: a has seen the end of the handshake, too
		_, ev := join(t, a, peering.Config{Sources: []discover.Config{table(plain)}})
		ev.await(t, peering.Found, plain)
		time.Sleep(time.Minute) // virtual
		if len(plain.Conns(a.ID())) != 1 || ev.count(is(peering.Connected)) > 0 {
			t.Errorf("%d connections", len(plain.Conns(a.ID())))
		}
	})
}

func TestRequiredProtocol(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		server := point(t, lab)
		_, a := public(lab, "a")
		_, b := public(lab, "b")
		join(t, b, peering.Config{})
		_, ev := join(t, a, peering.Config{Sources: []discover.Config{table(server, b)}, Require: []protocol.ID{rendezvous.ProtocolID}})
		ev.await(t, peering.Connected, server)
		time.Sleep(20 * time.Second) // virtual
		if len(a.Conns(server.ID())) != 1 || len(a.Conns(b.ID())) != 0 {
			t.Errorf("connections: %d and %d", len(a.Conns(server.ID())), len(a.Conns(b.ID())))
		}
	})
}

func TestNoMoreThanMax(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, a := public(lab, "a")
		var others []*host.Node
		machines := map[peer.ID]*natlab.Machine{}
		for i := range 6 {
			m, n := public(lab, fmt.Sprint("n", i))
			join(t, n, peering.Config{})
			others = append(others, n)
			machines[n.ID()] = m
		}
		_, ev := join(t, a, peering.Config{Sources: []discover.Config{table(others...)}, Max: 2})
		first, _ := ev.awaitThat(t, "connection", is(peering.Connected))
		ev.awaitThat(t, "second connection", is(peering.Connected))
		time.Sleep(time.Minute) // virtual
		if n := len(a.Network().Peers()); n != 2 {
			t.Errorf("%d peers", n)
		}
		machines[first.Peer].Link().Cut()
		ev.awaitThat(t, "loss", is(peering.Lost))
		ev.awaitThat(t, "replacement", is(peering.Connected))
		time.Sleep(time.Minute) // virtual
		if n := len(a.Network().Peers()); n != 2 {
			t.Errorf("%d peers after one was lost", n)
		}
	})
}

func TestOutageIsNoticedAndRepaired(t *testing.T) {
	for _, out := range []time.Duration{12 * time.Second, 3 * time.Minute} {
		t.Run(out.String(), func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				_, a := public(lab, "a")
				machine, b := public(lab, "b")
				join(t, b, peering.Config{})
				_, ev := join(t, a, peering.Config{Sources: []discover.Config{table(b)}})
				ev.await(t, peering.Connected, b)
				machine.Link().Cut()
				if e, took := ev.await(t, peering.Lost, b); took > 10*time.Second || e.Reason != peering.ReasonClosed {
					t.Errorf("noticed after %s: %+v", took, e)
				}
				time.Sleep(out) // virtual: back-offs grow to their most
				machine.Link().Restore()
				if _, took := ev.await(t, peering.Connected, b); took > 10*time.Second {
					t.Errorf("connected %s after the outage", took)
				}
			})
		})
	}
}

// A peer that took its leave is neither missed nor dialled.
func TestLeavingPeerIsNotDialledAgain(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		server := point(t, lab)
		_, a := public(lab, "a")
		_, b := public(lab, "b")
		_, ev := join(t, a, peering.Config{Sources: []discover.Config{chat(server)}})
		withdraw := register(t, b, server)
		s, _ := join(t, b, peering.Config{})
		ev.await(t, peering.Connected, b)
		withdraw()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if e, took := ev.await(t, peering.Lost, b); e.Reason != peering.ReasonLeft || took > time.Second {
			t.Errorf("after %s: %+v", took, e)
		}
		trace := a.TraceDial(b.ID(), nil)
		defer trace.Close()
		time.Sleep(20 * time.Minute) // virtual
		if n := len(trace.Attempts()); n > 2 {
			t.Errorf("dialled %d times", n)
		}
	})
}

// The end that dialled last knows that the older connection is dead. The other one would
// choose that by the rule for duplicates, but finds out before it closes the younger.
func TestDuplicateIsClosedOnlyForOneThatWorks(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		var keys [2]crypto.PrivKey
		var ids [2]peer.ID
		for i := range keys {
			keys[i], _, _ = crypto.GenerateEd25519Key(rand.Reader)
			ids[i], _ = peer.IDFromPrivateKey(keys[i])
		}
		if ids[0] > ids[1] {
			slices.Reverse(keys[:])
		}
		a := lab.Internet().Machine("a", natlab.MachineConfig{}).Host(host.Config{Identity: keys[0]})
		machine := lab.Internet().Machine("b", natlab.MachineConfig{})
		b := machine.Host(host.Config{Identity: keys[1]})
		s, err := peering.New(b, peering.Config{})
		if err != nil {
			t.Fatal(err)
		}
		_, ev := join(t, a, peering.Config{Sources: []discover.Config{table(b)}})
		ev.await(t, peering.Connected, b)
		time.Sleep(5 * time.Second) // virtual: a has just seen that b lives
		machine.Link().Cut()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil { // a is not told
			t.Fatal(err)
		}
		machine.Link().Restore()
		b = machine.Host(host.Config{Identity: keys[1]})
		_, evB := join(t, b, peering.Config{Sources: []discover.Config{table(a)}})
		evB.await(t, peering.Connected, a)
		if len(a.Conns(b.ID())) != 2 {
			t.Fatalf("%d connections at the end that knows nothing; the test shows nothing", len(a.Conns(b.ID())))
		}
		time.Sleep(time.Minute) // virtual
		expectOne(t, a, b)
		if n := ev.count(is(peering.Lost)) + evB.count(is(peering.Lost)); n > 0 {
			t.Errorf("lost %d times: the connection that works was closed", n)
		}
	})
}

// aquadoggo's nodes without a relay answer neither identify nor ping, and hang up on whoever
// refuses the stream that they open at once.
func TestAquadoggoStays(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, a := public(lab, "a")
		dog := lab.Internet().Machine("dog", natlab.MachineConfig{}).Stock()
		for _, p := range dog.Mux().Protocols() {
			dog.RemoveStreamHandler(p)
		}
		dog.SetStreamHandler(peering.P2panda, func(network.Stream) {})
		dog.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
			go func() {
				st, err := c.NewStream(t.Context())
				if err == nil {
					err = multistream.SelectProtoOrFail(peering.P2panda, st)
				}
				if err != nil {
					c.Close()
				}
			}()
		}})
		cfg := discover.Config{Table: []peer.AddrInfo{{ID: dog.ID(), Addrs: dog.Addrs()}}}
		_, ev := join(t, a, peering.Config{Sources: []discover.Config{cfg}})
		ev.awaitThat(t, "connection", is(peering.Connected))
		time.Sleep(2 * time.Minute) // virtual
		if n := ev.count(func(peering.Event) bool { return true }); n > 0 || len(a.Conns(dog.ID())) != 1 {
			t.Errorf("%d more events, %d connections", n, len(a.Conns(dog.ID())))
		}
	})
}

// A peer may take a role later, and tells so by identify's push.
func TestPeerIsKeptOnceItSpeaksWhatIsWanted(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, a := public(lab, "a")
		_, b := public(lab, "b")
		_, ev := join(t, a, peering.Config{Sources: []discover.Config{table(b)}, Require: []protocol.ID{"/chat/1"}})
		ev.await(t, peering.Dropped, b)
		time.Sleep(time.Second) // virtual: b has seen it, too
		if _, err := b.Dial(t.Context(), a.ID(), a.ListenAddrs()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second) // virtual
		if ev.count(is(peering.Connected)) > 0 {
			t.Fatal("kept before")
		}
		b.SetStreamHandler("/chat/1", func(network.Stream) {})
		ev.await(t, peering.Connected, b)
		if !a.ConnManager().IsProtected(b.ID(), "") {
			t.Error("the connection may be trimmed")
		}
		b.RemoveStreamHandler("/chat/1")
		if e, _ := ev.await(t, peering.Lost, b); e.Reason != peering.ReasonUnfit {
			t.Errorf("reason %q", e.Reason)
		}
		if a.ConnManager().IsProtected(b.ID(), "") {
			t.Error("the connection is still protected")
		}
	})
}

// When a source works again, this node's own network may have been what failed: everybody
// gets a new chance.
func TestSourceThatWorksAgainEndsBackoffs(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		server := point(t, lab)
		machine, a := public(lab, "a")
		other, b := public(lab, "b")
		register(t, b, server)
		join(t, b, peering.Config{})
		time.Sleep(time.Second) // virtual
		other.Link().Cut()
		_, ev := join(t, a, peering.Config{Sources: []discover.Config{chat(server)}, Except: []peer.ID{server.ID()}})
		ev.await(t, peering.Failed, b)
		time.Sleep(80 * time.Minute) // virtual: the waits have grown to their most
		other.Link().Restore()
		machine.Link().Cut()
		time.Sleep(90 * time.Second) // virtual: the source has failed
		machine.Link().Restore()
		if _, took := ev.await(t, peering.Connected, b); took > 30*time.Second {
			t.Errorf("connected after %s", took)
		}
	})
}
