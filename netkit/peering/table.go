package peering

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// order is what the table wants done.
type order struct {
	kind  orderKind
	peer  peer.ID
	addrs []ma.Multiaddr // to dial
	quick bool           // the dial is to get back what was lost: give up soon, to try again soon
}

type orderKind int

const (
	dial    orderKind = iota // connect, and call dialled
	raise                    // try a direct connection beside the relayed one, and call raised
	drop                     // close the connections that this node opened
	protect                  // keep them from being trimmed, and see that they live
	release                  // no longer
)

// table decides which of the peers found are dialled, kept and given up. It does no
// I/O and takes time as an argument.
type table struct {
	max    int // peers connected at once
	self   peer.ID
	except map[peer.ID]struct{}
	rng    *rand.Rand
	peers  map[peer.ID]*candidate
	// named counts the candidates of each source, and crowded are the sources that
	// named more than are remembered.
	named   map[int]int
	crowded map[int]struct{}

	credit   float64 // dials of strangers allowed now
	credited time.Time

	orders []order
	events []Event
}

func newTable(self peer.ID, limit int, except []peer.ID, rng *rand.Rand, now time.Time) *table {
	t := &table{
		max: limit, self: self, except: make(map[peer.ID]struct{}), rng: rng,
		peers: make(map[peer.ID]*candidate), named: make(map[int]int), crowded: make(map[int]struct{}), credit: float64(limit), credited: now,
	}
	for _, p := range except {
		t.except[p] = struct{}{}
	}
	return t
}

// found takes what a source says of a peer. It reports whether the peer is new.
func (t *table) found(now time.Time, source int, id peer.ID, s sighting) bool {
	if _, not := t.except[id]; not || id == t.self {
		return false
	}
	c := t.peers[id]
	if c == nil || !c.namedBy(source) {
		if !t.makeRoom(now, source, id, s) {
			return false
		}
		t.named[source]++
	}
	if c == nil {
		c = &candidate{id: id, rank: t.rng.Uint64(), seen: map[int]sighting{source: s}, next: now}
		t.peers[id] = c
		t.tell(Event{Kind: Found, Peer: id, Sources: c.sources(), Addrs: c.addrs()})
		return true
	}
	before := c.addrs()
	c.seen[source] = s
	if !c.unfit && slices.ContainsFunc(c.addrs(), func(a ma.Multiaddr) bool { return !ma.Contains(before, a) }) {
		t.hope(now, c) // what failed at the old addresses says nothing of the new
	}
	return false
}

// gone takes back what a source said.
func (t *table) gone(source int, id peer.ID) {
	if c := t.peers[id]; c != nil && c.namedBy(source) {
		delete(c.seen, source)
		if t.named[source]--; t.named[source] < maxCandidates/2 {
			delete(t.crowded, source)
		}
		t.forget(c)
	}
}

// makeRoom sees that one more peer of a source can be remembered: another of its
// peers is forgotten, so that nobody is shut out by those that were invented before,
// nor by another source. It reports whether there is room.
func (t *table) makeRoom(now time.Time, source int, id peer.ID, s sighting) bool {
	if t.named[source] < maxCandidates {
		return true
	}
	if _, told := t.crowded[source]; !told {
		t.crowded[source] = struct{}{}
		t.tell(Event{Kind: LeftOut, Peer: id, Reason: ReasonTooMany, Sources: s.sources})
	}
	var worst *candidate
	looked := 0
	for _, c := range t.peers { // begins anywhere
		if !c.namedBy(source) || c.phase != waiting || c.view.path != "" || c.missed(now) {
			continue
		}
		if worst == nil || before(worst, c, now) < 0 {
			worst = c
		}
		if looked++; looked == sampled {
			break
		}
	}
	if worst == nil {
		return false
	}
	t.gone(source, worst.id)
	return true
}

// forget drops a peer that nobody speaks of and that is not connected by us.
func (t *table) forget(c *candidate) {
	if len(c.seen) == 0 && c.phase == waiting {
		delete(t.peers, c.id)
	}
}

// revive gives every peer a new chance: a source works again that did not, so
// failures of the time before may have been this node's own.
func (t *table) revive(now time.Time) {
	for _, c := range t.peers {
		if !c.unfit {
			t.hope(now, c)
		}
	}
}

// hope ends the back-off of a peer.
func (t *table) hope(now time.Time, c *candidate) {
	if c.phase != waiting || c.fails == 0 {
		return
	}
	c.fails = 0
	c.next = later(now, c.last.Add(firstRetry)).Add(t.jitter(firstRetry))
}

// observe takes how the connections with a peer stand now.
func (t *table) observe(now time.Time, id peer.ID, v view) {
	c := t.peers[id]
	if c == nil {
		return
	}
	before := c.view
	c.view = v
	switch {
	case v.path == "":
		t.absent(now, c)
	case v.fits == unfit:
		t.turnAway(now, c)
	case c.phase == dialling:
		c.phase = meeting
		t.meet(c)
	case c.phase == meeting:
		t.meet(c)
	case c.phase == kept && v.path != before.path:
		t.connected(c)
	}
}

// meet keeps a peer that is known to speak what is wanted.
func (t *table) meet(c *candidate) {
	if c.view.fits == fit {
		c.phase, c.fails, c.unfit, c.told, c.left = kept, 0, false, false, false
		t.order(order{kind: protect, peer: c.id})
		t.connected(c)
	}
}

// connected tells of a new path.
func (t *table) connected(c *candidate) {
	c.upgrades, c.upgrade = 0, time.Time{}
	if c.view.path != addr.PathDirect {
		c.upgrade = c.view.since.Add(firstUpgrade)
	}
	t.tell(Event{Kind: Connected, Peer: c.id, Path: c.view.path, Addr: c.view.addr, Sources: c.sources()})
}

// absent takes that no connection with a peer is left.
func (t *table) absent(now time.Time, c *candidate) {
	switch c.phase {
	case kept:
		t.lose(now, c, ReasonClosed)
	case meeting:
		t.fail(now, c, errHungUp)
	case waiting: // nothing was counted on it
		c.left = false
	case dialling: // the dial will tell
	}
}

// lose ends the keeping of a peer.
func (t *table) lose(now time.Time, c *candidate, reason Reason) {
	if c.left {
		reason = ReasonLeft
	}
	c.phase, c.mine, c.left = waiting, false, false
	c.lost, c.fails, c.next = now, 0, now.Add(t.jitter(firstRetry))
	switch reason {
	case ReasonLeft:
		c.lost, c.fails, c.next = time.Time{}, leftFails, now.Add(leftRetry)
	case ReasonUnfit:
		c.lost, c.unfit, c.next = time.Time{}, true, now.Add(unfitRetry+t.jitter(unfitRetry))
	case ReasonClosed:
		t.missOne(now)
	case ReasonTooMany: // of those that are left out
	}
	t.order(order{kind: release, peer: c.id})
	t.tell(Event{Kind: Lost, Peer: c.id, Reason: reason, Sources: c.sources()})
	t.forget(c)
}

// missOne sees that no more peers are missed than may be kept: the one lost first
// is a stranger again.
func (t *table) missOne(now time.Time) {
	var first *candidate
	n := 0
	for _, c := range t.peers {
		if c.phase != waiting || !c.missed(now) {
			continue
		}
		n++
		if first == nil || c.lost.Before(first.lost) {
			first = c
		}
	}
	if n > t.max {
		first.lost = time.Time{}
	}
}

// turnAway ends with a peer that speaks nothing wanted. What it opened itself is
// left to it: it may use a role that this node has for others.
func (t *table) turnAway(now time.Time, c *candidate) {
	mine := c.mine || c.phase == dialling
	switch c.phase {
	case kept:
		t.lose(now, c, ReasonUnfit)
	case dialling, meeting:
		c.phase, c.unfit, c.next = waiting, true, now.Add(unfitRetry+t.jitter(unfitRetry))
		c.mine = false
		if !c.told {
			c.told = true
			t.tell(Event{Kind: Dropped, Peer: c.id, Reason: ReasonUnfit, Sources: c.sources()})
		}
		t.forget(c)
	case waiting:
		c.unfit, c.next = true, now.Add(unfitRetry)
		return
	}
	if mine {
		t.order(order{kind: drop, peer: c.id})
	}
}

// leaves takes that a peer said goodbye.
func (t *table) leaves(id peer.ID) {
	if c := t.peers[id]; c != nil {
		c.left = true
	}
}

// dialled takes the end of a dial. What it connected was observed before.
func (t *table) dialled(now time.Time, id peer.ID, err error) {
	c := t.peers[id]
	if c == nil || c.phase != dialling {
		return
	}
	t.fail(now, c, cmp.Or(err, errHungUp))
}

// errHungUp means that a connection ended before the peer said what it speaks.
var errHungUp = errors.New("the peer hung up before it said what it speaks")

func (t *table) fail(now time.Time, c *candidate, err error) {
	c.phase, c.mine = waiting, false
	c.fails++
	c.next = now.Add(t.backoff(now, c))
	if c.fails == 1 { // told once, until it is reached
		t.tell(Event{Kind: Failed, Peer: c.id, Err: err, Sources: c.sources()})
	}
	t.forget(c)
}

// raised takes the end of an attempt to get a direct connection.
func (t *table) raised(now time.Time, id peer.ID) {
	c := t.peers[id]
	if c == nil || !c.raising {
		return
	}
	c.raising = false
	if c.phase == kept && c.view.path != addr.PathDirect {
		c.upgrades++
		c.upgrade = upgradeAt(c.view.since, c.upgrades, now)
	}
}

func (t *table) order(o order) { t.orders = append(t.orders, o) }

func (t *table) tell(e Event) { t.events = append(t.events, e) }

// take returns what is to be done and told since the last call.
func (t *table) take() ([]order, []Event) {
	o, e := t.orders, t.events
	t.orders, t.events = nil, nil
	return o, e
}
