package peering

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	"pgregory.net/rapid"
)

// world is a table with peers that answer or not, in a time of its own.
type world struct {
	t   *table
	now time.Time

	up      map[peer.ID]bool // answers when dialled
	speaks  map[peer.ID]verdict
	conns   map[peer.ID]bool
	pending []order     // dials under way
	dials   []time.Time // of all that began
	dialsOf map[peer.ID][]time.Time
	upgrade []time.Time
	events  []Event
}

func newWorld(limit int) *world {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &world{
		t: newTable("self", limit, []peer.ID{"kept elsewhere"}, rand.New(rand.NewPCG(1, 2)), now), now: now,
		up: map[peer.ID]bool{}, speaks: map[peer.ID]verdict{}, conns: map[peer.ID]bool{}, dialsOf: map[peer.ID][]time.Time{},
	}
}

var errDown = errors.New("nobody answers")

func name(i int) peer.ID { return peer.ID(fmt.Sprint("peer ", i)) }

// seen is a sighting at one of several addresses.
func seen(port int) sighting {
	return sighting{sources: []string{"mdns"}, addrs: []ma.Multiaddr{ma.StringCast(fmt.Sprintf("/ip4/192.0.2.1/tcp/%d", port))}}
}

// add has a peer that is up found.
func (w *world) add(ids ...peer.ID) {
	for _, id := range ids {
		w.up[id], w.speaks[id] = true, fit
		w.t.found(w.now, 0, id, seen(1))
	}
}

// step has the table work until it waits, every dial ending at once.
func (w *world) step() time.Time {
	for {
		next := w.t.step(w.now)
		orders, events := w.t.take()
		w.events = append(w.events, events...)
		if len(orders) == 0 {
			return next
		}
		for _, o := range orders {
			w.obey(o)
		}
	}
}

func (w *world) obey(o order) {
	switch o.kind {
	case dial:
		w.dials = append(w.dials, w.now)
		w.dialsOf[o.peer] = append(w.dialsOf[o.peer], w.now)
		if !w.up[o.peer] {
			w.t.dialled(w.now, o.peer, errDown)
			return
		}
		w.connect(o.peer)
		w.t.dialled(w.now, o.peer, nil)
	case raise:
		w.upgrade = append(w.upgrade, w.now)
		w.t.raised(w.now, o.peer)
	case drop:
		w.cut(o.peer)
	case protect, release:
	}
}

func (w *world) connect(id peer.ID) {
	w.conns[id] = true
	w.t.observe(w.now, id, view{path: addr.PathDirect, addr: "there", since: w.now, fits: w.speaks[id]})
}

func (w *world) cut(id peer.ID) {
	delete(w.conns, id)
	w.t.observe(w.now, id, view{})
}

// pass lets time go by, working whenever the table wants to.
func (w *world) pass(d time.Duration) {
	end := w.now.Add(d)
	for {
		next := w.step()
		if next.IsZero() || next.After(end) {
			break
		}
		w.now = next
	}
	w.now = end
	w.step()
}

func (w *world) kept() (n int) {
	for _, c := range w.t.peers {
		if c.phase == kept {
			n++
		}
	}
	return n
}

// told are the kinds of events since the last call.
func (w *world) told() []EventKind {
	var out []EventKind
	for _, e := range w.events {
		out = append(out, e.Kind)
	}
	w.events = nil
	return out
}

func (w *world) expect(t *testing.T, kinds ...EventKind) {
	t.Helper()
	if got := w.told(); !slices.Equal(got, kinds) {
		t.Errorf("events %v, want %v", got, kinds)
	}
}

func TestLifeOfACandidate(t *testing.T) {
	w := newWorld(4)
	w.add("a")
	w.step()
	w.expect(t, Found, Connected)
	w.add("a")
	w.step()
	w.expect(t)
	w.up["a"] = false
	w.cut("a")
	w.pass(10 * time.Second)
	w.expect(t, Lost, Failed) // failed once, however often it was dialled
	w.up["a"] = true
	w.pass(missedRetry)
	w.expect(t, Connected)
	w.t.gone(0, "a")
	w.pass(time.Hour)
	w.expect(t) // that nobody speaks of it is no reason to hang up
	w.cut("a")
	w.pass(time.Hour)
	w.expect(t, Lost)
	if len(w.t.peers) > 0 {
		t.Error("remembered for nothing")
	}
}

func TestNeitherSelfNorOthersPeersAreDialled(t *testing.T) {
	w := newWorld(4)
	w.add("self", "kept elsewhere")
	w.pass(time.Hour)
	w.expect(t)
	if len(w.dials) > 0 {
		t.Errorf("dialled %v", w.dialsOf)
	}
}

func TestExpiredCandidateIsForgotten(t *testing.T) {
	w := newWorld(4)
	w.add("a")
	w.up["a"] = false
	w.t.found(w.now, 1, "a", seen(2))
	w.pass(time.Minute)
	w.t.gone(0, "a")
	if got := w.t.peers["a"].addrs(); len(got) != 1 || !got[0].Equal(seen(2).addrs[0]) {
		t.Errorf("addresses %v", got)
	}
	w.t.gone(1, "a")
	before := len(w.dials)
	w.pass(time.Hour)
	if len(w.t.peers) > 0 || len(w.dials) > before {
		t.Errorf("%d more dials", len(w.dials)-before)
	}
}

// The wait doubles with each failure; new addresses and a source that works again end it.
func TestBackoff(t *testing.T) {
	w := newWorld(4)
	w.add("a")
	w.up["a"] = false
	w.pass(2 * time.Hour)
	times := w.dialsOf["a"]
	for i := 1; i < len(times); i++ {
		wait, most := times[i].Sub(times[i-1]), strangerRetry
		if i < 11 {
			most = min(most, firstRetry<<(i-1))
		}
		if wait > most || wait < most*3/4 {
			t.Errorf("wait %d is %s, want %s less a quarter at most", i, wait, most)
		}
	}
	if len(times) < 15 {
		t.Fatalf("%d dials in two hours", len(times))
	}
	w.t.found(w.now, 0, "a", seen(2))
	w.pass(2 * firstRetry)
	if len(w.dialsOf["a"]) == len(times) {
		t.Error("new addresses are not tried at once")
	}
	w.pass(2 * time.Hour)
	n := len(w.dialsOf["a"])
	w.t.revive(w.now)
	w.pass(2 * firstRetry)
	if len(w.dialsOf["a"]) == n {
		t.Error("a source works again, but nobody is dialled")
	}
}

func TestTurnedAwayForLong(t *testing.T) {
	w := newWorld(4)
	w.add("a")
	w.speaks["a"] = unfit
	w.pass(unfitRetry - time.Minute)
	w.expect(t, Found, Dropped)
	if w.conns["a"] || len(w.dials) != 1 {
		t.Errorf("connected: %v, dials: %d", w.conns["a"], len(w.dials))
	}
	w.t.found(w.now, 0, "a", seen(2))
	w.t.revive(w.now)
	w.pass(30 * time.Second)
	if len(w.dials) != 1 {
		t.Error("dialled again at once")
	}
	w.speaks["a"] = fit
	w.pass(unfitRetry)
	w.expect(t, Connected)
	w.t.observe(w.now, "a", view{path: addr.PathDirect, fits: unfit})
	w.step()
	if w.events[0].Reason != ReasonUnfit || w.conns["a"] {
		t.Errorf("%+v, connected: %v", w.events, w.conns["a"])
	}
	w.expect(t, Lost)
}

// A peer that connects by itself takes a free place, and is else left alone.
func TestInboundTakesAFreePlace(t *testing.T) {
	w := newWorld(1)
	w.add("a", "b")
	w.up["a"], w.up["b"] = false, false
	w.pass(time.Minute)
	w.told()
	w.connect("a")
	w.connect("b")
	w.step()
	w.expect(t, Connected)
	if w.kept() != 1 || !w.conns["a"] || !w.conns["b"] {
		t.Errorf("kept %d, connections %v", w.kept(), w.conns)
	}
	before := len(w.dials)
	for id, c := range w.t.peers {
		if c.phase == kept {
			w.cut(id)
		}
	}
	w.pass(time.Minute)
	w.expect(t, Lost, Connected)
	if len(w.dials) > before {
		t.Error("dialled while a connection was there")
	}
}

func TestWhoLeavesIsNotMissed(t *testing.T) {
	w := newWorld(4)
	w.add("a")
	w.step()
	w.told()
	w.t.leaves("a")
	w.up["a"] = false
	before := len(w.dials)
	w.cut("a")
	w.step()
	if w.events[0].Reason != ReasonLeft {
		t.Errorf("reason %q", w.events[0].Reason)
	}
	w.pass(leftRetry - time.Second)
	if len(w.dials) > before {
		t.Error("dialled at once")
	}
	w.pass(time.Hour)
	if n := len(w.dials) - before; n < 3 || n > 15 {
		t.Errorf("%d dials in an hour, while a source still speaks of it", n)
	}
	w.connect("a") // it is back
	w.told()
	w.step()
	w.expect(t, Connected)
}

// A connection that is about to end takes no place.
func TestWhoLeavesIsNotAdopted(t *testing.T) {
	w := newWorld(1)
	w.add("a")
	w.up["a"] = false
	w.pass(time.Minute)
	w.told()
	w.t.leaves("a")
	w.connect("a")
	w.step()
	w.expect(t)
	w.cut("a")
	w.connect("a") // it is back
	w.step()
	w.expect(t, Connected)
}

func TestPathsAndUpgrades(t *testing.T) {
	w := newWorld(4)
	w.add("a")
	w.up["a"] = false
	w.step()
	w.told()
	opened := w.now
	w.t.observe(w.now, "a", view{path: addr.PathRelayed, since: opened, fits: fit})
	w.step()
	w.expect(t, Connected)
	w.pass(5 * time.Minute)
	var at []time.Duration
	for _, u := range w.upgrade {
		at = append(at, u.Sub(opened))
	}
	if want := []time.Duration{10 * time.Second, 30 * time.Second, 70 * time.Second, 150 * time.Second}; !slices.Equal(at, want) {
		t.Errorf("direct paths tried at %v, want %v", at, want)
	}
	w.t.observe(w.now, "a", view{path: addr.PathDirect, since: w.now, fits: fit})
	w.step()
	w.expect(t, Connected)
	n := len(w.upgrade)
	w.pass(time.Hour)
	if len(w.upgrade) > n {
		t.Error("direct, and still tried")
	}
}

// A thousand peers of which none answers, as a rendezvous point invents them: what is
// dialled a minute is bounded, and does not grow with their number.
func TestNoDialStorm(t *testing.T) {
	w := newWorld(8)
	for i := range 1000 {
		w.add(name(i))
		w.up[name(i)] = false
	}
	for minute := range 30 {
		before := len(w.dials)
		w.pass(time.Minute)
		most := 60*strangersPerSecond + 1
		if minute == 0 {
			most += 8
		}
		if n := len(w.dials) - before; n > most {
			t.Fatalf("%d dials in minute %d, want %d at most", n, minute, most)
		}
	}
	order := slices.Collect(func(yield func(int) bool) {
		for i := range 1000 {
			if len(w.dialsOf[name(i)]) > 0 && !yield(i) {
				return
			}
		}
	})
	if len(order) < 900 {
		t.Errorf("only %d of 1000 were ever tried", len(order))
	}
}

// Two nodes with the same list begin at different places in it.
func TestEveryNodeHasItsOwnOrder(t *testing.T) {
	first := func(seed uint64) (out []peer.ID) {
		w := newWorld(4)
		w.t.rng = rand.New(rand.NewPCG(seed, 0))
		for i := range 100 {
			w.add(name(i))
		}
		w.step()
		for id := range w.dialsOf {
			out = append(out, id)
		}
		slices.Sort(out)
		return out
	}
	if a, b := first(1), first(2); len(a) != 4 || slices.Equal(a, b) {
		t.Errorf("both dialled %v of 100", a)
	}
}

// Whatever happens: no more places than the cap, no more dials than at once and a minute
// are allowed, and all is well within ten seconds once the network is.
func TestTableHolds(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		limit := rapid.IntRange(1, 12).Draw(r, "limit")
		w := newWorld(limit)
		peers := rapid.IntRange(1, 20).Draw(r, "peers")
		minute := func() (n int) {
			for _, at := range w.dials {
				if w.now.Sub(at) <= time.Minute {
					n++
				}
			}
			return n
		}
		r.Repeat(map[string]func(*rapid.T){
			"": func(r *rapid.T) {
				if places, dials := w.t.used(); places > limit || dials > parallelDials {
					r.Fatalf("%d places, %d dials, limit %d", places, dials, limit)
				}
				missed := 0
				for _, c := range w.t.peers {
					if c.phase == waiting && c.missed(w.now) {
						missed++
					}
				}
				if missed > limit {
					r.Fatalf("%d peers are missed, limit %d", missed, limit)
				}
				// Strangers by the credit; the missed, of whom there are no more than places.
				if most := limit + 61*strangersPerSecond + limit*int(time.Minute/firstRetry); minute() > most {
					r.Fatalf("%d dials within a minute, limit %d", minute(), most)
				}
			},
			"found": func(r *rapid.T) { w.add(name(rapid.IntRange(1, peers).Draw(r, "peer"))); w.step() },
			"moved": func(r *rapid.T) {
				w.t.found(w.now, 0, name(rapid.IntRange(1, peers).Draw(r, "peer")), seen(rapid.IntRange(1, 9).Draw(r, "port")))
				w.step()
			},
			"gone":   func(r *rapid.T) { w.t.gone(0, name(rapid.IntRange(1, peers).Draw(r, "peer"))); w.step() },
			"revive": func(*rapid.T) { w.t.revive(w.now); w.step() },
			"down": func(r *rapid.T) {
				id := name(rapid.IntRange(1, peers).Draw(r, "peer"))
				w.up[id] = false
				w.cut(id)
				w.step()
			},
			"up": func(r *rapid.T) { w.up[name(rapid.IntRange(1, peers).Draw(r, "peer"))] = true },
			"inbound": func(r *rapid.T) {
				id := name(rapid.IntRange(1, peers).Draw(r, "peer"))
				w.up[id], w.speaks[id] = true, fit
				w.connect(id)
				w.step()
			},
			"unfit": func(r *rapid.T) {
				id := name(rapid.IntRange(1, peers).Draw(r, "peer"))
				if w.conns[id] {
					w.t.observe(w.now, id, view{path: addr.PathDirect, fits: unfit})
					w.step()
				}
			},
			"leaves": func(r *rapid.T) { w.t.leaves(name(rapid.IntRange(1, peers).Draw(r, "peer"))) },
			"time":   func(r *rapid.T) { w.pass(time.Duration(rapid.IntRange(1, 300_000).Draw(r, "ms")) * time.Millisecond) },
		})
	})
}

// After an outage of all, all that was connected is again within ten seconds.
func TestEverybodyComesBackAfterAnOutage(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		limit := rapid.IntRange(1, 40).Draw(r, "limit")
		w := newWorld(limit)
		for i := range rapid.IntRange(1, 40).Draw(r, "peers") {
			w.add(name(i))
		}
		w.pass(time.Minute)
		before := w.kept()
		for id := range w.up {
			w.up[id] = false
			w.cut(id)
		}
		w.pass(time.Duration(rapid.IntRange(0, 1_790_000).Draw(r, "ms")) * time.Millisecond)
		if w.kept() > 0 {
			r.Fatal("nobody is there, and is kept")
		}
		for id := range w.up {
			w.up[id] = true
		}
		w.pass(10*time.Second - quickTimeout)
		if w.kept() < before {
			r.Fatalf("%d of %d are back", w.kept(), before)
		}
	})
}

func TestWhichConnectionStays(t *testing.T) {
	old, young := time.Unix(1, 0), time.Unix(2, 0)
	for _, c := range []struct {
		name       string
		keep, drop link
	}{
		{"direct before relayed", link{true, "b", old}, link{false, "a", young}},
		{"the smaller id opened it", link{true, "a", old}, link{true, "b", young}},
		{"the youngest of one opener", link{true, "a", young}, link{true, "a", old}},
		{"relayed ones alike", link{false, "a", old}, link{false, "b", young}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.keep.compare(c.drop) >= 0 || c.drop.compare(c.keep) <= 0 {
				t.Errorf("%+v does not come before %+v", c.keep, c.drop)
			}
		})
	}
}

func TestWhoSpeaksARole(t *testing.T) {
	plain := []protocol.ID{"/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0", "/libp2p/circuit/relay/0.2.0/stop", "/libp2p/dcutr"}
	for _, c := range []struct {
		with, require protocol.ID
		want          bool
	}{
		{"", "", false},
		{"/libp2p/circuit/relay/0.2.0/hop", "", true},
		{"/rendezvous/1.0.0", "", true},
		{"/libp2p/autonat/1.0.0", "", true},
		{"/libp2p/autonat/2/dial-request", "", true},
		{"/p2p/p2panda/1.0.0", "", true},
		{"/dibber/anything", "", true},
		{"/dibber/punch/1.0.0", "", false},
		{"/dibber/anything", "/chat/1", false},
		{"/chat/1", "/chat/1", true},
		{"/chat/1", "", false},
		{"", "/libp2p/dcutr", true},
	} {
		var require []protocol.ID
		if c.require != "" {
			require = append(require, c.require)
		}
		if got := speaksOne(append(slices.Clone(plain), c.with), require); got != c.want {
			t.Errorf("%q with %q required: %v", c.with, c.require, got)
		}
	}
}
