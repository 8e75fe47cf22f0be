package discover

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// MaxPerSource is how many entries of one source are kept, each of a peer in a namespace: a
// hostile server invents peers for nothing.
const MaxPerSource = 10_000

// sighting is what one source says of a peer, in one namespace.
type sighting struct {
	peer   peer.ID
	ns     string         // empty if it is in none
	addrs  []ma.Multiaddr // without /p2p/ID at their end
	seq    *uint64
	record string
	until  time.Time // zero if it has no end
}

// spot is where a sighting was made.
type spot struct {
	source int
	ns     string
}

// entry is a peer with its sightings.
type entry struct {
	seen  map[spot]sighting
	probe Probe
	// probedAt are the addresses of the last probe.
	probedAt []ma.Multiaddr
	told     *Peer // as the last event had it; nil before the first
}

// view merges the sightings of several sources. It does no I/O and takes time as
// an argument.
type view struct {
	self    peer.ID
	sources []sourceName
	peers   map[peer.ID]*entry
	counts  []int                // sightings of each source
	more    []bool               // of each source, whether some were left out for want of room
	dirty   map[peer.ID]struct{} // peers that may differ from what was told
	// first is a moment before which nothing expires; zero when nothing does.
	first time.Time
}

// sourceName tells sources apart.
type sourceName struct {
	word   string
	server *string
}

func newView(self peer.ID, sources []sourceName) *view {
	return &view{
		self: self, sources: sources,
		peers: make(map[peer.ID]*entry), counts: make([]int, len(sources)), more: make([]bool, len(sources)), dirty: make(map[peer.ID]struct{}),
	}
}

// size is how many peers are known.
func (v *view) size() int {
	n := 0
	for _, e := range v.peers {
		if len(e.seen) > 0 {
			n++
		}
	}
	return n
}

// countPeers is how many peers a source knows.
func (v *view) countPeers(source int) int {
	n := 0
	for _, e := range v.peers {
		for at := range e.seen {
			if at.source == source {
				n++
				break
			}
		}
	}
	return n
}

// put takes what a source says. With all set, it said everything it knows: what it
// said before and does not repeat is gone.
func (v *view) put(source int, all bool, sightings []sighting) {
	if all {
		v.more[source] = false
		keep := make(map[peer.ID][]string, len(sightings))
		for _, s := range sightings {
			keep[s.peer] = append(keep[s.peer], s.ns)
		}
		v.drop(func(at spot, s sighting) bool {
			return at.source == source && !slices.Contains(keep[s.peer], at.ns)
		})
	}
	for _, s := range sightings {
		if s.peer == v.self {
			continue
		}
		e, known := v.peers[s.peer]
		at := spot{source, s.ns}
		if known {
			_, known = e.seen[at]
		}
		if !known && v.counts[source] >= MaxPerSource {
			v.more[source] = true
			continue
		}
		if e == nil {
			e = &entry{seen: make(map[spot]sighting), probe: Probe{State: Unprobed}}
			v.peers[s.peer] = e
		}
		if !known {
			v.counts[source]++
		}
		s.addrs = usable(s.peer, s.addrs)
		e.seen[at] = s
		v.first = sooner(v.first, s.until)
		v.dirty[s.peer] = struct{}{}
	}
}

// probed takes the outcome of a probe.
func (v *view) probed(id peer.ID, p Probe) {
	if e := v.peers[id]; e != nil {
		e.probe = p
		v.dirty[id] = struct{}{}
	}
}

// gone takes back what a source said of a peer in a namespace.
func (v *view) gone(source int, ns string, id peer.ID) {
	e, at := v.peers[id], spot{source, ns}
	if e == nil {
		return
	}
	if _, known := e.seen[at]; known {
		delete(e.seen, at)
		v.counts[source]--
		v.dirty[id] = struct{}{}
	}
}

// expire drops what has come to its end. Mostly that is nothing, and costs nothing:
// it is asked after every event.
func (v *view) expire(now time.Time) {
	if v.first.IsZero() || v.first.After(now) {
		return
	}
	v.first = time.Time{}
	v.drop(func(_ spot, s sighting) bool {
		out := !s.until.IsZero() && !s.until.After(now)
		if !out {
			v.first = sooner(v.first, s.until)
		}
		return out
	})
}

// sooner is the first of two moments, of which zero is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (v *view) drop(which func(spot, sighting) bool) {
	for id, e := range v.peers {
		maps.DeleteFunc(e.seen, func(at spot, s sighting) bool {
			out := which(at, s)
			if out {
				v.counts[at.source]--
				v.dirty[id] = struct{}{}
			}
			return out
		})
	}
}

// changes returns what is different from what was told before, by peer id, and
// forgets the peers that no source knows any more.
func (v *view) changes(now time.Time) []Event {
	var out []Event
	for id := range v.dirty {
		e := v.peers[id]
		if len(e.seen) == 0 {
			delete(v.peers, id)
			if e.told != nil {
				out = append(out, Event{Kind: PeerExpired, Peer: e.told})
			}
			continue
		}
		p := v.merge(id, e, now)
		switch {
		case e.told == nil:
			out = append(out, Event{Kind: PeerAdded, Peer: &p})
		case !alike(*e.told, p):
			out = append(out, Event{Kind: PeerUpdated, Peer: &p})
		}
		e.told = &p
	}
	clear(v.dirty)
	slices.SortFunc(out, func(a, b Event) int { return strings.Compare(a.Peer.ID.String(), b.Peer.ID.String()) })
	return out
}

// alike reports whether nothing changed but times and sequence numbers, which do
// at every refresh.
func alike(a, b Peer) bool {
	same := func(f, g Finding) bool {
		return f.Source == g.Source && f.Newest == g.Newest && ptrEqual(f.Server, g.Server) && ptrEqual(f.Namespace, g.Namespace)
	}
	return slices.Equal(a.Addrs, b.Addrs) && slices.EqualFunc(a.Found, b.Found, same) &&
		a.State == b.State && ptrEqual(a.RTT, b.RTT) && ptrEqual(a.Agent, b.Agent) && ptrEqual(a.Error, b.Error)
}

func ptrEqual[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

// list returns all peers by peer id.
func (v *view) list(now time.Time) []Peer {
	out := make([]Peer, 0, len(v.peers))
	for id, e := range v.peers {
		if len(e.seen) > 0 {
			out = append(out, v.merge(id, e, now))
		}
	}
	slices.SortFunc(out, func(a, b Peer) int { return strings.Compare(a.ID.String(), b.ID.String()) })
	return out
}

// addrs returns the addresses of a peer, without its id.
func (v *view) addrs(id peer.ID) []ma.Multiaddr {
	if e := v.peers[id]; e != nil {
		return e.addrs()
	}
	return nil
}
