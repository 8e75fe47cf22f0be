package gossip

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Those for whom a node that relays has no room in the mesh are told which messages there are, all of them, and fetch them; the trace
// tells who got a message how.
func TestOutsideTheMesh(t *testing.T) {
	bubble(t, func(l lab) {
		hub := l.node("hub", Config{Relay: &RelayConfig{}})
		var leaves []node
		var boxes []*inbox
		for i := range 18 {
			n := l.node(fmt.Sprint("leaf", i), Config{Trace: true})
			leaves, boxes = append(leaves, n), append(boxes, l.subscribe(n, "news"))
			l.connect(n, hub)
		}
		l.settle(20)
		if m := hub.Mesh("news"); m.Count(InMesh) > 12 || m.Count(InMesh)+m.Count(Outside) != 18 {
			l.Errorf("mesh of the hub: %d in it, %d outside", m.Count(InMesh), m.Count(Outside))
		}
		r := l.publish(l.join(leaves[0], "news"), "hello")
		l.settle(5)
		ways := map[string]int{}
		for i, n := range leaves {
			if got := boxes[i].texts(); !slices.Equal(got, []string{"hello"}) {
				l.Errorf("leaf %d got %q", i, got)
			}
			for _, e := range n.log.of(Copied) {
				ways[e.Copy.How]++
				if c := e.Copy; c.ID != r.ID || c.From != leaves[0].host.ID() || c.Via != hub.host.ID() || c.First != (i > 0) || *c.Seq != *r.Seq {
					l.Errorf("leaf %d: %+v", i, *c)
				}
			}
		}
		if inside := hub.Mesh("news").Count(InMesh); ways[Lazy] != 18-inside && ways[Lazy] != 17-inside || ways[Eager]+ways[Lazy] < 17 {
			l.Errorf("%d in the mesh, ways %v", inside, ways)
		}
	})
}

// A message that comes by two neighbours is delivered once, and the trace says how much later the second copy was.
func TestTraceOfDuplicates(t *testing.T) {
	bubble(t, func(l lab) {
		a, b, c, d := l.node("a", Config{}), l.node("b", Config{}), l.node("c", Config{}), l.node("d", Config{Trace: true})
		l.connect(a, b, c)
		l.connect(d, b, c)
		l.subscribe(b, "news")
		l.subscribe(c, "news")
		box := l.subscribe(d, "news")
		l.settle(3)
		l.publish(l.join(a, "news"), "hello")
		l.settle(1)
		copies := d.log.of(Copied)
		if len(copies) != 2 || len(box.messages()) != 1 {
			l.Fatalf("%d copies, %d messages", len(copies), len(box.messages()))
		}
		first, second := copies[0].Copy, copies[1].Copy
		if !first.First || second.First || first.Delay != 0 || first.Via == second.Via || first.ID != second.ID || first.How != Eager || second.How != Eager {
			l.Errorf("copies %+v, %+v", *first, *second)
		}
		if got := box.messages()[0]; got.Via != first.Via {
			l.Errorf("delivered by %s, first copy of %s", got.Via, first.Via)
		}
	})
}

// A node that leaves a topic tells those in its mesh of each other, where that is wanted, and only who trusts it goes there.
func TestExchangeFindsOthers(t *testing.T) {
	bubble(t, func(l lab) {
		hub := l.node("hub", Config{Exchange: true})
		trusting := Config{Exchange: true, Trusted: []peer.ID{hub.host.ID()}}
		a, b := l.node("a", trusting), l.node("b", Config{})
		doubting, alone := l.node("doubting", Config{Exchange: true}), l.node("alone", Config{Trusted: trusting.Trusted})
		sub, err := l.join(hub, "news").Subscribe(SubscribeConfig{})
		if err != nil {
			l.Fatal(err)
		}
		all := []node{a, b, doubting, alone}
		for _, n := range all {
			l.subscribe(n, "news")
			l.connect(n, hub)
		}
		l.settle(3)
		sub.Cancel()
		l.settle(5)
		for _, n := range all[1:] {
			if got := a.host.Network().Connectedness(n.host.ID()); got != network.Connected {
				l.Errorf("the trusting one did not go where it was told of: %v", got)
			}
		}
		for i, n := range all[1:] {
			for _, other := range all[i+2:] {
				if got := n.host.Network().Connectedness(other.host.ID()); got == network.Connected {
					l.Error("one that does not trust, or does not want to, went there")
				}
			}
		}
	})
}

// A subscription that nobody reads loses what comes when its buffer is full, and counts it; publishing does not wait for it.
func TestSlowReaders(t *testing.T) {
	bubble(t, func(l lab) {
		a, b := l.node("a", Config{}), l.node("b", Config{})
		l.connect(a, b)
		sub, err := l.join(b, "news").Subscribe(SubscribeConfig{Buffer: 10})
		if err != nil {
			l.Fatal(err)
		}
		l.settle(1)
		topic := l.join(a, "news")
		for i := range 25 {
			l.publish(topic, fmt.Sprint(i))
		}
		l.settle(1)
		synctest.Wait()
		if got := sub.Lost(); got != 15 {
			l.Errorf("lost %d", got)
		}
	})
}
