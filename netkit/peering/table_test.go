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
	ma "github.com/multiformats/go-multiaddr"
)

// world is a table with peers that answer or not, in a time of its own.
type world struct {
	t   *table
	now time.Time

	up      map[peer.ID]bool // answers when dialled
	speaks  map[peer.ID]verdict
	conns   map[peer.ID]bool
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
	if len(w.events) != 1 || w.events[0].Reason != ReasonUnfit || w.conns["a"] {
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
	if len(w.events) != 1 || w.events[0].Reason != ReasonLeft {
		t.Errorf("events %+v", w.events)
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

// A source that invents peers shuts nobody out, neither those it names later nor those of
// another source, and that some are left out is told.
func TestInventedPeersShutNobodyOut(t *testing.T) {
	w := newWorld(1)
	for i := range maxCandidates {
		w.t.found(w.now, 0, name(i), seen(1))
	}
	w.t.take()
	w.speaks["later"], w.speaks["elsewhere"] = fit, fit
	w.t.max = 0 // nobody is dialled
	if !w.t.found(w.now, 0, "later", seen(1)) || !w.t.found(w.now, 1, "elsewhere", seen(1)) {
		t.Error("shut out")
	}
	if got := w.t.named; len(w.t.peers) != maxCandidates+1 || got[0] != maxCandidates || got[1] != 1 {
		t.Errorf("%d peers, %v by source", len(w.t.peers), got)
	}
	w.step()
	w.expect(t, LeftOut, Found, Found)
	for i := range 3 * maxCandidates {
		w.t.found(w.now, 0, name(maxCandidates+i), seen(1))
	}
	if w.t.peers["elsewhere"] == nil || len(w.t.peers) != maxCandidates+1 {
		t.Errorf("%d peers; one of another source is forgotten", len(w.t.peers))
	}
	_, events := w.t.take()
	if slices.ContainsFunc(events, func(e Event) bool { return e.Kind == LeftOut }) {
		t.Error("told again")
	}
	for id := range w.t.peers {
		w.t.gone(0, id)
		w.t.gone(0, id) // a second time changes nothing
	}
	if len(w.t.peers) != 1 || w.t.named[0] != 0 || len(w.t.crowded) != 0 {
		t.Errorf("%d peers left, %v by source", len(w.t.peers), w.t.named)
	}
}
