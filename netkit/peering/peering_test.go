package peering_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/discover"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/peering"
	"dibber/netkit/punch"
	"dibber/netkit/rendezvous"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
)

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

// A node that wants more than others do is no nuisance to these: they keep the
// connections that they opened, and have nothing to complain of.
func TestStrictNodeAmongOthers(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		server := point(t, lab)
		_, strict := public(lab, "strict")
		evs := make(map[*host.Node]*events)
		var others []*host.Node
		for i := range 3 {
			_, n := public(lab, fmt.Sprint("other", i))
			others = append(others, n)
			register(t, n, server)
			_, evs[n] = join(t, n, peering.Config{Sources: []discover.Config{chat(server)}, Except: []peer.ID{server.ID()}})
		}
		time.Sleep(30 * time.Second) // virtual: they have found each other
		register(t, strict, server)
		_, ev := join(t, strict, peering.Config{Sources: []discover.Config{chat(server)}, Except: []peer.ID{server.ID()}, Require: []protocol.ID{"/foo/1.0.0"}})
		time.Sleep(40 * time.Minute) // virtual: one turned away would be dialled again
		for _, n := range others {
			about := func(kind peering.EventKind) func(peering.Event) bool {
				return func(e peering.Event) bool { return e.Kind == kind && e.Peer == strict.ID() }
			}
			if e, ok := evs[n].take(about(peering.Failed)); ok {
				t.Errorf("the strict one failed: %v", e.Err)
			}
			if conns := n.Conns(strict.ID()); len(conns) != 1 || conns[0].Stat().Direction != network.DirOutbound {
				t.Errorf("connections with the strict one: %v", conns)
			}
		}
		dropped := make(map[peer.ID]int)
		for {
			e, ok := ev.take(is(peering.Dropped))
			if !ok {
				break
			}
			if dropped[e.Peer]++; dropped[e.Peer] > 1 {
				t.Error("dropped again")
			}
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
