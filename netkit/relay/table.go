package relay

import (
	"container/list"
	"net/netip"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// table holds who has a reservation and how many circuits are open. It is pure:
// time is an argument and nothing blocks. It is not safe for concurrent use.
//
// Every operation takes a time that does not grow with the reservations held:
// counters stand in maps, and as all reservations last equally long, those that
// expire first stand at the front of a list.
type table struct {
	limits   Limits
	ttl      time.Duration
	asnOf    func(netip.Addr) uint32
	draining bool

	slots  map[peer.ID]*slot
	queue  *list.List    // of *slot, by expires
	placed map[place]int // reservations

	circuits int
	perPeer  map[peer.ID]int // circuits, at either end
}

// slot is one reservation.
type slot struct {
	peer                     peer.ID
	from                     ma.Multiaddr // where the peer was connected from
	places                   []place
	opened, renewed, expires time.Time
	element                  *list.Element // in table.queue
}

func newTable(l Limits, ttl time.Duration, asnOf func(netip.Addr) uint32) *table {
	return &table{
		limits: l, ttl: ttl, asnOf: asnOf,
		slots: make(map[peer.ID]*slot), queue: list.New(), placed: make(map[place]int),
		perPeer: make(map[peer.ID]int),
	}
}

// setLimits replaces the limits. What stands is not cut.
func (t *table) setLimits(l Limits) {
	recount := l.PrefixLength != t.limits.PrefixLength
	t.limits = l
	if !recount {
		return
	}
	clear(t.placed)
	for _, s := range t.slots {
		s.places = l.places(ipOf(s.from), t.asnOf)
		t.count(s, 1)
	}
}

// ipOf returns the IP address of a connection, not valid where it has none.
func ipOf(from ma.Multiaddr) netip.Addr {
	ip, _ := addr.IP(from)
	return ip
}

// reserve gives p, connected from there, a reservation or renews the one it has.
// A renewal is never refused but while draining: a peer can keep what it has.
func (t *table) reserve(now time.Time, p peer.ID, from ma.Multiaddr) (expires time.Time, renewed bool, why Reason) {
	if t.draining {
		return time.Time{}, false, ReasonDraining
	}
	places := t.limits.places(ipOf(from), t.asnOf)
	s, renewed := t.slots[p]
	if renewed {
		t.count(s, -1)
		t.queue.Remove(s.element)
	} else {
		if why := t.room(places); why != "" {
			return time.Time{}, false, why
		}
		s = &slot{peer: p, opened: now}
		t.slots[p] = s
	}
	s.from, s.places, s.renewed, s.expires = from, places, now, now.Add(t.ttl)
	t.count(s, 1)
	t.enqueue(s)
	return s.expires, renewed, ""
}

// room tells what leaves no room for one more reservation at places.
func (t *table) room(places []place) Reason {
	if reached(len(t.slots), t.limits.Reservations) {
		return ReasonReservations
	}
	for _, p := range places {
		if limit, why := t.limits.of(p); reached(t.placed[p], limit) {
			return why
		}
	}
	return ""
}

// count adds n to the counters of s's places.
func (t *table) count(s *slot, n int) {
	for _, p := range s.places {
		if t.placed[p] += n; t.placed[p] == 0 {
			delete(t.placed, p)
		}
	}
}

// enqueue files s by its expiry. As time does not run backwards its place is the
// last, or a step or two before it when the clock was read before another's.
func (t *table) enqueue(s *slot) {
	at := t.queue.Back()
	for at != nil && at.Value.(*slot).expires.After(s.expires) {
		at = at.Prev()
	}
	if at == nil {
		s.element = t.queue.PushFront(s)
		return
	}
	s.element = t.queue.InsertAfter(s, at)
}

// drop ends the reservation of p; false means that it had none.
func (t *table) drop(p peer.ID) bool {
	s, ok := t.slots[p]
	if !ok {
		return false
	}
	delete(t.slots, p)
	t.queue.Remove(s.element)
	t.count(s, -1)
	return true
}

// expire ends the reservations that are over at now and returns their peers.
func (t *table) expire(now time.Time) []peer.ID {
	var over []peer.ID
	for at := t.queue.Front(); at != nil && !at.Value.(*slot).expires.After(now); at = t.queue.Front() {
		s := at.Value.(*slot)
		t.drop(s.peer)
		over = append(over, s.peer)
	}
	return over
}

// next returns when the next reservation is over; false when there is none.
func (t *table) next() (time.Time, bool) {
	if at := t.queue.Front(); at != nil {
		return at.Value.(*slot).expires, true
	}
	return time.Time{}, false
}

// holds reports whether p has a reservation at now.
func (t *table) holds(now time.Time, p peer.ID) bool {
	s, ok := t.slots[p]
	return ok && s.expires.After(now)
}

// enter counts a circuit from src to dst, or tells why there may be none. Each
// that entered must leave.
func (t *table) enter(now time.Time, src, dst peer.ID) Reason {
	switch {
	case t.draining:
		return ReasonDraining
	case !t.holds(now, dst):
		return ReasonNoReservation
	case reached(t.circuits, t.limits.Circuits):
		return ReasonCircuits
	case reached(t.perPeer[src], t.limits.CircuitsPerPeer):
		return ReasonSourceCircuits
	case reached(t.perPeer[dst], t.limits.CircuitsPerPeer):
		return ReasonDestinationCircuits
	}
	t.circuits++
	t.perPeer[src]++
	t.perPeer[dst]++
	return ""
}

// leave takes back an enter. While draining, reservations whose last circuit
// that was are over; their peers are returned.
func (t *table) leave(src, dst peer.ID) []peer.ID {
	t.circuits--
	var over []peer.ID
	for _, p := range []peer.ID{src, dst} {
		if t.perPeer[p]--; t.perPeer[p] == 0 {
			delete(t.perPeer, p)
			if t.draining && t.drop(p) {
				over = append(over, p)
			}
		}
	}
	return over
}

// drain refuses all that is new from now on, and ends the reservations without a
// circuit, whose peers it returns. The others last until their circuits end.
func (t *table) drain() []peer.ID {
	t.draining = true
	var over []peer.ID
	for p := range t.slots {
		if t.perPeer[p] == 0 {
			t.drop(p)
			over = append(over, p)
		}
	}
	return over
}
