package peering

import (
	"cmp"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// maxCandidates bounds how many peers are remembered: a hostile source invents
	// them for nothing.
	maxCandidates = 10_000
	// parallelDials is how many dials run at once.
	parallelDials = 8
	// strangersPerSecond is how many peers that were never connected are dialled a
	// second, after a burst of as many as may be kept: a node whose rendezvous point
	// lists thousands must not dial them all (calimero#2631).
	strangersPerSecond = 1

	// firstRetry is the first wait after a failed dial; it doubles with each failure.
	firstRetry = time.Second
	// missedRetry is the longest wait for a peer that was connected not long ago. With
	// the time that a dial takes to fail it is below 10 s.
	missedRetry = 3500 * time.Millisecond
	// missedFor is how long after the loss a peer counts as missed.
	missedFor = 30 * time.Minute
	// strangerRetry is the longest wait for any other.
	strangerRetry = 10 * time.Minute
	// unfitRetry is the wait before a peer is dialled again that spoke nothing wanted.
	unfitRetry = 30 * time.Minute
	// leftRetry is the first wait for a peer that took its leave, of which a source
	// still speaks.
	leftRetry = 30 * time.Second
	leftFails = 6 // firstRetry doubled as often is leftRetry, about

	// firstUpgrade is how old a relayed connection is when a direct one is tried for
	// the first time beside it; the wait doubles up to lastUpgrade. Both ends count
	// from the opening, so that they try at the same moments and their packets open
	// the NATs for each other.
	firstUpgrade = 10 * time.Second
	lastUpgrade  = 10 * time.Minute
)

// verdict says whether a peer speaks what is wanted.
type verdict int

const (
	undecided verdict = iota // it has not said yet
	fit
	unfit
)

// view is how the connections with a peer stand.
type view struct {
	path  string    // "" without one, else the best: direct or relayed
	addr  string    // of the peer, on the best connection
	since time.Time // when the best connection opened
	fits  verdict
}

// phase is what the node has to do with a candidate.
type phase int

const (
	waiting  phase = iota // it may be dialled, when its time comes
	dialling              // a dial is under way
	meeting               // connected, but what it speaks is not known yet
	kept                  // connected for good
)

// sighting is what one source says of a peer.
type sighting struct {
	sources []string // words
	addrs   []ma.Multiaddr
}

// candidate is a peer that sources named.
type candidate struct {
	id   peer.ID
	rank uint64 // its place among equals, another on every node
	seen map[int]sighting

	phase phase
	view  view
	mine  bool      // connected by a dial of ours: only such connections are closed
	left  bool      // it said that it leaves
	unfit bool      // turned away at the last meeting
	fails int       // dials failed in a row
	next  time.Time // not dialled before
	last  time.Time // when it was dialled last
	lost  time.Time // when it was kept last; zero: never, or it left

	upgrades int       // direct dials beside the relayed connection
	upgrade  time.Time // when the next is due; zero: none is
	raising  bool      // one is under way
}

func (c *candidate) sources() []string {
	var out []string
	for _, i := range slices.Sorted(maps.Keys(c.seen)) {
		for _, word := range c.seen[i].sources {
			if !slices.Contains(out, word) {
				out = append(out, word)
			}
		}
	}
	return out
}

// addrs are the addresses by all sources, the best first.
func (c *candidate) addrs() []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, s := range c.seen {
		out = append(out, s.addrs...)
	}
	out = ma.Unique(out)
	addr.Sort(out)
	return out[:min(len(out), addr.MaxAddrs)]
}

// missed reports whether a lost peer is still to be got back quickly.
func (c *candidate) missed(now time.Time) bool {
	return !c.lost.IsZero() && now.Sub(c.lost) < missedFor
}

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
	drop                     // close the connections
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

	credit   float64 // dials of strangers allowed now
	credited time.Time

	orders []order
	events []Event
}

func newTable(self peer.ID, limit int, except []peer.ID, rng *rand.Rand, now time.Time) *table {
	t := &table{
		max: limit, self: self, except: make(map[peer.ID]struct{}), rng: rng,
		peers: make(map[peer.ID]*candidate), credit: float64(limit), credited: now,
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
	if c == nil {
		if len(t.peers) >= maxCandidates {
			return false
		}
		c = &candidate{id: id, rank: t.rng.Uint64(), seen: map[int]sighting{source: s}, next: now}
		t.peers[id] = c
		t.tell(Event{Kind: Found, Peer: id, Sources: c.sources(), Addrs: c.addrs()})
		return true
	}
	before := c.addrs()
	c.seen[source] = s
	if !c.unfit && !slices.EqualFunc(before, c.addrs(), ma.Multiaddr.Equal) {
		t.hope(now, c) // what failed at the old addresses says nothing of the new
	}
	return false
}

// gone takes back what a source said.
func (t *table) gone(source int, id peer.ID) {
	if c := t.peers[id]; c != nil {
		delete(c.seen, source)
		t.forget(c)
	}
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

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// jitter is up to d, so that nodes that lost each other at once do not all dial at
// once.
func (t *table) jitter(d time.Duration) time.Duration {
	return time.Duration(t.rng.Int64N(int64(d/4) + 1))
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
		c.phase, c.fails, c.unfit, c.left = kept, 0, false, false
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
		t.tell(Event{Kind: Dropped, Peer: c.id, Reason: ReasonUnfit, Sources: c.sources()})
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

// backoff is the wait after the latest of c.fails failures.
func (t *table) backoff(now time.Time, c *candidate) time.Duration {
	most := strangerRetry
	if c.missed(now) {
		most = missedRetry
	}
	d := most
	if doublings := c.fails - 1; doublings < 16 {
		d = min(most, firstRetry<<doublings)
	}
	return d - t.jitter(d)
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

// upgradeAt is the first moment after now at which to try a direct connection, after
// so many tries since the relayed one opened. It depends on since alone but for
// moments missed, so that both ends agree.
func upgradeAt(since time.Time, tries int, now time.Time) time.Time {
	at, wait := since.Add(firstUpgrade), firstUpgrade
	for i := 0; i < tries || !at.After(now); i++ {
		wait = min(2*wait, lastUpgrade)
		at = at.Add(wait)
	}
	return at
}

// step puts to work what is due, and returns when to come again; zero if nothing is
// waited for.
func (t *table) step(now time.Time) (next time.Time) {
	t.refill(now)
	t.adopt()
	used, dials := t.used()
	var due []*candidate
	for _, c := range t.peers {
		if c.phase == kept && !c.upgrade.IsZero() && !c.raising {
			if !c.upgrade.After(now) {
				c.raising = true
				t.order(order{kind: raise, peer: c.id, addrs: c.addrs()})
			} else {
				next = sooner(next, c.upgrade)
			}
		}
		if c.phase != waiting || c.view.path != "" || len(c.seen) == 0 || used >= t.max {
			continue
		}
		if c.next.After(now) {
			next = sooner(next, c.next)
		} else {
			due = append(due, c)
		}
	}
	slices.SortFunc(due, func(a, b *candidate) int { return before(a, b, now) })
	for _, c := range due {
		if used >= t.max || dials >= parallelDials {
			break // a dial's end comes next
		}
		if !c.missed(now) {
			if t.credit < 1 {
				next = sooner(next, now.Add(t.untilCredit()))
				break
			}
			t.credit--
		}
		c.phase, c.mine, c.last = dialling, true, now
		used++
		dials++
		t.order(order{kind: dial, peer: c.id, addrs: c.addrs(), quick: c.missed(now)})
	}
	return next
}

// before is the order of dialling: whom we miss, who failed least, then chance, so
// that a thousand nodes that find the same list do not all dial its head.
func before(a, b *candidate, now time.Time) int {
	missed := func(c *candidate) int {
		if c.missed(now) {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(missed(a), missed(b)), cmp.Compare(a.fails, b.fails), cmp.Compare(a.rank, b.rank))
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// adopt counts on peers that connected by themselves, as long as there is room.
func (t *table) adopt() {
	used, _ := t.used()
	var there []*candidate
	for _, c := range t.peers {
		if c.phase == waiting && c.view.path != "" && c.view.fits != unfit && !c.left {
			there = append(there, c)
		}
	}
	slices.SortFunc(there, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(a.view.path, b.view.path), cmp.Compare(a.rank, b.rank))
	})
	for _, c := range there {
		if used == t.max {
			return
		}
		c.phase = meeting
		used++
		t.meet(c)
	}
}

// used counts the peers that have one of the places, and the dials under way.
func (t *table) used() (places, dials int) {
	for _, c := range t.peers {
		if c.phase != waiting {
			places++
		}
		if c.phase == dialling {
			dials++
		}
	}
	return places, dials
}

// refill adds to the credit what came in since the last look.
func (t *table) refill(now time.Time) {
	t.credit = min(float64(t.max), t.credit+now.Sub(t.credited).Seconds()*strangersPerSecond)
	t.credited = now
}

// untilCredit is the wait for one more dial. It is rounded up: a timer that fires a
// nanosecond early would spin.
func (t *table) untilCredit() time.Duration {
	return time.Duration((1-t.credit)/strangersPerSecond*float64(time.Second)) + time.Millisecond
}

func (t *table) order(o order) { t.orders = append(t.orders, o) }
func (t *table) tell(e Event)  { t.events = append(t.events, e) }

// take returns what is to be done and told since the last call.
func (t *table) take() ([]order, []Event) {
	o, e := t.orders, t.events
	t.orders, t.events = nil, nil
	return o, e
}
