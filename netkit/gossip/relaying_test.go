package gossip

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
)

func at(seconds int) time.Time { return time.Unix(int64(seconds), 0) }

func TestRoomIsShared(t *testing.T) {
	cfg := RelayConfig{Topics: 4, Peer: 3}
	for _, c := range []struct {
		name   string
		all    []demand
		chosen []string
		left   map[string]peer.ID
	}{
		{"nobody", nil, nil, map[string]peer.ID{}},
		{
			"a peer has so many and no more",
			[]demand{{"a", at(1), []string{"1", "2", "3", "4"}}},
			[]string{"1", "2", "3"},
			map[string]peer.ID{"4": "a"},
		},
		{
			"the first of each before the second of any",
			[]demand{{"a", at(1), []string{"1", "2", "3"}}, {"b", at(2), []string{"x"}}, {"c", at(3), []string{"y"}}},
			[]string{"1", "2", "x", "y"},
			map[string]peer.ID{"3": "a"},
		},
		{
			"who came first is served first",
			[]demand{{"a", at(5), []string{"5"}}, {"b", at(4), []string{"4"}}, {"c", at(3), []string{"3"}}, {"d", at(2), []string{"2"}}, {"e", at(1), []string{"1"}}},
			[]string{"1", "2", "3", "4"},
			map[string]peer.ID{"5": "a"},
		},
		{
			"a topic of two takes one place, and is nobody's loss",
			[]demand{{"a", at(1), []string{"1", "2", "3", "both"}}, {"b", at(2), []string{"both"}}},
			[]string{"1", "2", "3", "both"}[0:2:2], nil,
		},
	} {
		if c.left == nil {
			c.chosen, c.left = []string{"1", "2", "3", "both"}, map[string]peer.ID{}
		}
		chosen, left := cfg.allot(c.all)
		var names []string
		for topic := range chosen {
			names = append(names, topic)
		}
		slices.Sort(names)
		if diff := cmp.Diff(c.chosen, names); diff != "" {
			t.Errorf("%s: chosen %s", c.name, diff)
		}
		if diff := cmp.Diff(c.left, left); diff != "" {
			t.Errorf("%s: left %s", c.name, diff)
		}
	}
}

// A node that relays carries what its peers are subscribed to between them, as far as there is room, and lets go of it when they are gone.
func TestRelayFollowsItsPeers(t *testing.T) {
	bubble(t, func(l lab) {
		hub := l.node("hub", Config{Relay: &RelayConfig{Topics: 2, Peer: 2}})
		a, b := l.node("a", Config{}), l.node("b", Config{})
		l.connect(a, hub)
		l.connect(b, hub)
		box := l.subscribe(b, "news")
		l.settle(1)
		l.publish(l.join(a, "news"), "hello")
		l.settle(1)
		if got := box.texts(); !slices.Equal(got, []string{"hello"}) {
			l.Errorf("got %q", got)
		}
		if m := hub.Mesh("news"); !m.Joined || !m.Relayed || m.Count(InMesh) != 1 {
			l.Errorf("mesh of the hub: %+v", m)
		}
		l.subscribe(a, "1")
		l.subscribe(a, "2")
		l.settle(1)
		if full := hub.log.of(RelayFull); len(full) != 1 || full[0].Topic != "2" || full[0].Peer != a.host.ID() {
			l.Errorf("no room: %v", full)
		}
		if err := b.host.Close(); err != nil {
			l.Fatal(err)
		}
		l.settle(60)
		if stopped := hub.log.of(RelayStopped); len(stopped) == 0 || stopped[0].Topic != "news" {
			l.Errorf("stopped: %v", stopped)
		}
		if got := hub.relayedTopics(); !got["1"] || !got["2"] || len(got) != 2 {
			l.Errorf("relayed after all: %v", got)
		}
	})
}

// What is published as soon as a node relays gets to those for whose sake it does: they are in the mesh by then, although their
// subscription was known before there was a stream to them.
func TestRelayLosesNothingAtItsStart(t *testing.T) {
	bubble(t, func(l lab) {
		hub, a := l.node("hub", Config{Relay: &RelayConfig{}}), l.node("a", Config{})
		hub.table.opened("b")
		hub.table.subscribe("b", "news", 1)
		synctest.Wait()
		if started := hub.log.of(RelayStarted); len(started) > 0 {
			l.Error("relayed for a peer that nothing can be sent to")
		}
		box := l.subscribe(a, "news")
		l.connect(a, hub)
		for len(hub.log.of(RelayStarted)) == 0 {
			time.Sleep(time.Millisecond)
		}
		if m := hub.Mesh("news"); m.Count(InMesh) != 1 {
			l.Errorf("mesh at the start: %+v", m)
		}
		l.publish(l.join(hub, "news"), "at once")
		l.settle(1)
		if got := box.texts(); !slices.Equal(got, []string{"at once"}) {
			l.Errorf("got %q", got)
		}
	})
}

// Nodes that relay carry messages over several of them, and do not keep each other at topics that nobody wants any more.
func TestRelaysLetGoOfEachOther(t *testing.T) {
	bubble(t, func(l lab) {
		relaying := Config{Relay: &RelayConfig{}}
		x, y, z := l.node("x", relaying), l.node("y", relaying), l.node("z", relaying)
		a, b := l.node("a", Config{}), l.node("b", Config{})
		l.connect(x, y, z)
		l.connect(y, z)
		l.connect(a, x)
		l.connect(b, z)
		box := l.subscribe(b, "news")
		l.settle(2)
		l.publish(l.join(a, "news"), "hello")
		l.settle(2)
		if got := box.texts(); !slices.Equal(got, []string{"hello"}) {
			l.Errorf("got %q", got)
		}
		for range 4 {
			l.settle(60)
			if got := z.relayedTopics(); !got["news"] {
				l.Fatal("a subscriber is still there, and its topic is not relayed")
			}
		}
		if err := b.host.Close(); err != nil {
			l.Fatal(err)
		}
		l.settle(6 * 60)
		for _, n := range []node{x, y, z} {
			if got := n.relayedTopics(); len(got) > 0 {
				l.Errorf("still relayed: %v", got)
			}
		}
	})
}

// Who is subscribed is told where that is allowed, with records that prove themselves; those who only relay do not count.
func TestAskSubscribers(t *testing.T) {
	bubble(t, func(l lab) {
		open := l.node("open", Config{Relay: &RelayConfig{}, Exchange: true})
		shut := l.node("shut", Config{Relay: &RelayConfig{}})
		other := l.node("other", Config{})
		a, b := l.node("a", Config{}), l.node("b", Config{})
		l.connect(a, open, shut, other)
		l.connect(b, open, shut)
		l.connect(open, shut)
		l.subscribe(b, "news")
		l.subscribe(shut, "news")
		l.settle(2)
		got, err := AskSubscribers(l.Context(), a.host, open.host.ID(), "news")
		if err != nil || got.Itself || got.Broken > 0 {
			l.Errorf("%+v, %v", got, err)
		}
		var names []peer.ID
		for _, r := range got.Records {
			names = append(names, r.PeerID)
			if len(r.Addrs) == 0 {
				l.Errorf("%s has no address", r.PeerID)
			}
		}
		want := []peer.ID{b.host.ID(), shut.host.ID()}
		slices.Sort(want)
		if !slices.Equal(names, want) {
			l.Errorf("subscribed: %v, want %v", names, want)
		}
		if got, err := AskSubscribers(l.Context(), a.host, shut.host.ID(), "news"); !errors.Is(err, ErrPrivate) || !got.Itself || len(got.Records) > 0 {
			l.Errorf("private: %+v, %v", got, err)
		}
		if _, err := AskSubscribers(l.Context(), a.host, other.host.ID(), "news"); !errors.Is(err, ErrUnsupported) {
			l.Errorf("unsupported: %v", err)
		}
	})
}
