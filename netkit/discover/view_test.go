package discover

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"dibber/netkit/addr"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"pgregory.net/rapid"
)

// start is when the tests of the view begin.
var start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// testPeers are made from fixed seeds, so that their order is always the same.
func testPeers(t rapid.TB, n int) []peer.ID {
	t.Helper()
	var ids []peer.ID
	for i := range n {
		_, pub, err := crypto.GenerateEd25519Key(bytes.NewReader(bytes.Repeat([]byte{byte(i + 1)}, 64)))
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b peer.ID) int { return strings.Compare(a.String(), b.String()) })
	return ids
}

func addrs(texts ...string) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, s := range texts {
		out = append(out, ma.StringCast(s))
	}
	return out
}

// twoServersAndMDNS are the sources of the tests.
func twoServersAndMDNS() []sourceName {
	return []sourceName{{SourceRendezvous, new("east")}, {SourceRendezvous, new("west")}, {SourceMDNS, nil}}
}

func TestNewestRecordWins(t *testing.T) {
	ids := testPeers(t, 2)
	v := newView(ids[1], twoServersAndMDNS())
	p := ids[0]
	v.put(0, true, []sighting{{peer: p, ns: "chat", addrs: addrs("/ip4/192.0.2.1/tcp/1"), seq: new(uint64(7)), record: "standard", until: start.Add(time.Hour)}})
	v.put(1, true, []sighting{
		{peer: p, ns: "chat", addrs: addrs("/ip4/192.0.2.9/tcp/9"), seq: new(uint64(6)), record: "legacy", until: start.Add(2 * time.Hour)},
		{peer: ids[1], ns: "chat", addrs: addrs("/ip4/192.0.2.7/tcp/7")}, // the host itself
	})
	v.put(2, false, []sighting{{peer: p, addrs: addrs("/ip4/192.0.2.2/udp/2/quic-v1", "/ip4/192.0.2.1/tcp/1"), until: start.Add(90 * time.Second)}})

	suffix := "/p2p/" + p.String()
	want := []Peer{{
		ID: p, Sources: []string{SourceRendezvous, SourceMDNS}, Namespace: new("chat"),
		Addrs: []string{"/ip4/192.0.2.2/udp/2/quic-v1" + suffix, "/ip4/192.0.2.1/tcp/1" + suffix},
		TTL:   new(int64(7190)), Probe: Probe{State: Unprobed},
		Found: []Finding{
			{Source: SourceRendezvous, Server: new("east"), Namespace: new("chat"), TTL: new(int64(3590)), Seq: new(uint64(7)), Record: new("standard"), Newest: true},
			{Source: SourceRendezvous, Server: new("west"), Namespace: new("chat"), TTL: new(int64(7190)), Seq: new(uint64(6)), Record: new("legacy")},
			{Source: SourceMDNS, TTL: new(int64(80)), Newest: true},
		},
	}}
	if diff := cmp.Diff(want, v.list(start.Add(10*time.Second))); diff != "" {
		t.Error(diff)
	}
	for source, want := range []int{1, 1, 1} {
		if got := v.countPeers(source); got != want {
			t.Errorf("source %d knows %d peers, want %d", source, got, want)
		}
	}
}

func TestOlderRecordCountsOnceTheNewestRanOut(t *testing.T) {
	p := testPeers(t, 1)[0]
	v := newView("", twoServersAndMDNS())
	v.put(0, true, []sighting{{peer: p, addrs: addrs("/ip4/192.0.2.1/tcp/1"), seq: new(uint64(7)), until: start.Add(time.Minute)}})
	v.put(1, true, []sighting{{peer: p, addrs: addrs("/ip4/192.0.2.9/tcp/9"), seq: new(uint64(6)), until: start.Add(time.Hour)}})
	v.changes(start)
	// The newer record runs out first: what is left is the older one.
	v.expire(start.Add(time.Minute))
	got := v.changes(start.Add(time.Minute))
	if len(got) != 1 || got[0].Kind != PeerUpdated || got[0].Peer.Addrs[0] != "/ip4/192.0.2.9/tcp/9/p2p/"+p.String() {
		t.Errorf("changes %+v", got)
	}
}

func TestChanges(t *testing.T) {
	ids := testPeers(t, 2)
	a, b := ids[0], ids[1]
	seen := func(p peer.ID, at string, seq uint64, ttl time.Duration) sighting {
		return sighting{peer: p, ns: "chat", addrs: addrs(at), seq: &seq, until: start.Add(ttl)}
	}
	v := newView("", twoServersAndMDNS())
	for _, step := range []struct {
		name string
		do   func()
		want []string
	}{
		{"both come", func() {
			v.put(0, true, []sighting{seen(b, "/ip4/192.0.2.2/tcp/2", 1, time.Minute), seen(a, "/ip4/192.0.2.1/tcp/1", 1, time.Minute)})
		}, []string{"peer.added a", "peer.added b"}},
		{"nothing new", func() {}, nil},
		{"a refresh is no news", func() { v.put(0, false, []sighting{seen(a, "/ip4/192.0.2.1/tcp/1", 2, time.Hour)}) }, nil},
		{"an address is", func() { v.put(0, false, []sighting{seen(a, "/ip4/192.0.2.1/tcp/11", 3, time.Hour)}) }, []string{"peer.updated a"}},
		{"a second source is", func() { v.put(1, true, []sighting{seen(a, "/ip4/192.0.2.1/tcp/11", 3, time.Hour)}) }, []string{"peer.updated a"}},
		{"a probe is", func() { v.probed(a, Probe{State: Reachable}) }, []string{"peer.updated a"}},
		{"a probe of nobody is not", func() { v.probed("x", Probe{State: Reachable}) }, nil},
		{"b runs out", func() { v.expire(start.Add(time.Minute)) }, []string{"peer.expired b"}},
		{"one source loses a", func() { v.put(0, true, nil) }, []string{"peer.updated a"}},
		{"a namespace it is not in", func() { v.gone(1, "garden", a) }, nil},
		{"the other too", func() { v.gone(1, "chat", a) }, []string{"peer.expired a"}},
		{"and it is back", func() { v.put(0, false, []sighting{seen(a, "/ip4/192.0.2.1/tcp/1", 4, time.Hour)}) }, []string{"peer.added a"}},
		{"come and gone unseen", func() {
			v.put(0, false, []sighting{seen(b, "/ip4/192.0.2.2/tcp/2", 2, time.Hour)})
			v.gone(0, "chat", b)
		}, nil},
	} {
		step.do()
		var got []string
		for _, e := range v.changes(start) {
			got = append(got, string(e.Kind)+" "+map[peer.ID]string{a: "a", b: "b"}[e.Peer.ID])
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Fatalf("%s: (-want +got)\n%s", step.name, diff)
		}
	}
	if v.counts[0] != 1 || v.counts[1] != 0 {
		t.Errorf("counts %v", v.counts)
	}
}

func TestAddressesThatCannotBeWrittenAreLeftOut(t *testing.T) {
	p := testPeers(t, 1)[0]
	name := func(s string) ma.Multiaddr {
		c, err := ma.NewComponent("dns4", s)
		if err != nil {
			t.Fatal(err)
		}
		return ma.Join(c, ma.StringCast("/tcp/1"))
	}
	relay := testPeers(t, 2)[1].String()
	list := append(addrs("/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/tcp/1/p2p/"+relay+"/p2p-circuit"),
		name("fine.example"), name("two\nlines"), name("a b"), name("esc\x1b[2J"), name("\xff"), nil,
		ma.StringCast("/ip4/192.0.2.1/tcp/1/p2p/"+relay))
	var got []string
	for _, a := range usable(p, list) {
		got = append(got, a.String())
	}
	want := []string{"/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/tcp/1/p2p/" + relay + "/p2p-circuit", "/dns4/fine.example/tcp/1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	many := make([]ma.Multiaddr, 0, 2*addr.MaxAddrs)
	for i := range cap(many) {
		many = append(many, ma.StringCast(fmt.Sprintf("/ip4/192.0.2.1/tcp/%d", i+1)))
	}
	if n := len(usable(p, many)); n != addr.MaxAddrs {
		t.Errorf("%d addresses of one peer are kept", n)
	}
}

func TestASourceCannotFillTheMemory(t *testing.T) {
	v := newView("", twoServersAndMDNS())
	var flood []sighting
	for i := range MaxPerSource + 5 {
		flood = append(flood, sighting{peer: peer.ID(fmt.Sprintf("peer %d", i))})
	}
	v.put(0, false, flood)
	if v.size() != MaxPerSource {
		t.Errorf("%d peers are kept, want %d", v.size(), MaxPerSource)
	}
	v.put(1, false, flood[MaxPerSource:])
	if !v.more[0] || v.more[1] {
		t.Errorf("entries were left out: %v", v.more)
	}
	if v.size() != MaxPerSource+5 {
		t.Errorf("a flood at one source shuts out another's peers")
	}
	v.put(0, false, flood[:1])
	v.gone(0, "", flood[0].peer)
	v.put(0, false, flood[MaxPerSource:])
	if v.counts[0] != MaxPerSource {
		t.Errorf("%d sightings are counted, want %d", v.counts[0], MaxPerSource)
	}
	if v.put(0, true, flood[:MaxPerSource]); v.more[0] {
		t.Error("all that it has is known, but more is said to be left out")
	}
}

// sightings draws what sources might say of a few peers, each spot at most once.
func sightings(t *rapid.T, ids []peer.ID) map[spot]map[peer.ID]sighting {
	out := map[spot]map[peer.ID]sighting{}
	for range rapid.IntRange(0, 20).Draw(t, "sightings") {
		at := spot{rapid.IntRange(0, 2).Draw(t, "source"), rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "ns")}
		s := sighting{peer: rapid.SampledFrom(ids).Draw(t, "peer"), ns: at.ns}
		if rapid.Bool().Draw(t, "signed") {
			s.seq = new(rapid.Uint64Range(1, 3).Draw(t, "seq"))
		}
		for range rapid.IntRange(0, 3).Draw(t, "addrs") {
			s.addrs = append(s.addrs, ma.StringCast(fmt.Sprintf("/ip4/192.0.2.1/tcp/%d", rapid.IntRange(1, 5).Draw(t, "port"))))
		}
		if rapid.Bool().Draw(t, "ends") {
			s.until = start.Add(time.Duration(rapid.IntRange(1, 100).Draw(t, "ttl")) * time.Second)
		}
		if out[at] == nil {
			out[at] = map[peer.ID]sighting{}
		}
		out[at][s.peer] = s
	}
	return out
}

func TestMergeDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := testPeers(t, 3)
		var all []struct {
			source int
			s      sighting
		}
		for at, of := range sightings(t, ids) {
			for _, s := range of {
				all = append(all, struct {
					source int
					s      sighting
				}{at.source, s})
			}
		}
		fill := func(order []int) *view {
			v := newView(ids[2], twoServersAndMDNS())
			for _, i := range order {
				v.put(all[i].source, false, []sighting{all[i].s})
			}
			return v
		}
		order := make([]int, len(all))
		for i := range order {
			order[i] = i
		}
		one, other := fill(order), fill(rapid.Permutation(order).Draw(t, "order"))
		if diff := cmp.Diff(one.list(start), other.list(start)); diff != "" {
			t.Fatalf("order matters:\n%s", diff)
		}
		checkMerged(t, one, ids[2])
	})
}

// checkMerged holds what is true of every merged list.
func checkMerged(t *rapid.T, v *view, self peer.ID) {
	list := v.list(start)
	if !slices.IsSortedFunc(list, func(a, b Peer) int { return strings.Compare(a.ID.String(), b.ID.String()) }) {
		t.Fatal("not in the order of ids")
	}
	for _, p := range list {
		if p.ID == self {
			t.Fatal("the host found itself")
		}
		var newest uint64
		for _, f := range p.Found {
			newest = max(newest, *orEmpty(f.Seq))
			if f.TTL != nil && (p.TTL == nil || *p.TTL < *f.TTL) {
				t.Fatalf("%v outlives the peer", f)
			}
		}
		for _, text := range p.Addrs {
			target, err := addr.ParseTarget(text, addr.Options{})
			if err != nil || target.ID != p.ID || len(target.Addrs) != 1 {
				t.Fatalf("%s is no address of %s", text, p.ID)
			}
			if !slices.ContainsFunc(slices.Collect(maps.Values(v.peers[p.ID].seen)), func(s sighting) bool {
				return (s.seq == nil || *s.seq == newest) && slices.ContainsFunc(s.addrs, target.Addrs[0].Equal)
			}) {
				t.Fatalf("%s is of an older record", text)
			}
		}
	}
}

// What the events tell, put together, is what the list says.
func TestEventsAddUpToTheList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := testPeers(t, 3)
		v, told, now := newView("", twoServersAndMDNS()), map[peer.ID]bool{}, start
		for range rapid.IntRange(1, 5).Draw(t, "rounds") {
			for at, of := range sightings(t, ids) {
				var list []sighting
				for _, s := range of {
					list = append(list, s)
				}
				v.put(at.source, rapid.Bool().Draw(t, "all"), list)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 50).Draw(t, "wait")) * time.Second)
			v.expire(now)
			for _, e := range v.changes(now) {
				if told[e.Peer.ID] == (e.Kind == PeerAdded) {
					t.Fatalf("%s of a peer that was told: %v", e.Kind, told[e.Peer.ID])
				}
				told[e.Peer.ID] = e.Kind != PeerExpired
			}
			for _, id := range ids {
				listed := slices.ContainsFunc(v.list(now), func(p Peer) bool { return p.ID == id })
				if listed != told[id] {
					t.Fatalf("listed %v, told %v", listed, told[id])
				}
			}
			for _, e := range v.peers {
				for _, s := range e.seen {
					if !s.until.IsZero() && (!s.until.After(now) || v.first.IsZero() || v.first.After(s.until)) {
						t.Fatalf("what ends at %s is there at %s and will be looked at at %s", s.until, now, v.first)
					}
				}
			}
		}
	})
}
