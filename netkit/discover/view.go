package discover

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// maxPerSource bounds how many sightings of one source are kept: a hostile server
// invents peers for nothing.
const maxPerSource = 10_000

// State says what is known of the way to a peer.
type State string

// The states of a peer.
const (
	Unprobed    State = "unprobed"
	Reachable   State = "reachable"   // directly
	Relayed     State = "relayed"     // through a relay only
	Unreachable State = "unreachable" // at none of its addresses
)

// Probe is what came of trying to reach a peer.
type Probe struct {
	State State    `json:"state"`
	RTT   *float64 `json:"rtt_ms"` // of one ping; null: no echo, or not connected
	Agent *string  `json:"agent"`  // null: it did not say
	// Error is why it could not be reached; null: it could, or was not tried.
	Error *string `json:"error"`
}

// Peer is all that the sources say of one peer.
type Peer struct {
	ID peer.ID `json:"peer"`
	// Sources are the words of the sources that know it, each once.
	Sources []string `json:"sources"`
	// Namespace is the first by name that it is registered in; null: in none.
	Namespace *string `json:"namespace"`
	// Addrs can be dialed as they are: each ends with /p2p/ID. Direct ones come
	// first. They are those of the peer's newest signed record, and those that
	// sources without signed records add.
	Addrs []string `json:"addrs"`
	// TTL is how many seconds it stays known if nothing more is heard: the longest of
	// Found. Null: no source says.
	TTL *int64 `json:"ttl_s"`
	Probe
	// Found has an entry for each source and namespace that knows the peer.
	Found []Finding `json:"found"`
}

// Finding is where a peer was found.
type Finding struct {
	Source    string  `json:"source"`
	Server    *string `json:"server"`    // null: the source has none
	Namespace *string `json:"namespace"` // null: the source has none
	TTL       *int64  `json:"ttl_s"`     // seconds left; null: the source does not say
	Seq       *uint64 `json:"seq"`       // of the signed record; null: there is none
	Record    *string `json:"record"`    // its flavour, standard or legacy; null: there is none
	// Newest is false for a record that an other source has a newer one of: its
	// addresses do not count.
	Newest bool `json:"newest"`
}

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
	dirty   map[peer.ID]struct{} // peers that may differ from what was told
}

// sourceName tells sources apart.
type sourceName struct {
	word   string
	server *string
}

func newView(self peer.ID, sources []sourceName) *view {
	return &view{
		self: self, sources: sources,
		peers: make(map[peer.ID]*entry), counts: make([]int, len(sources)), dirty: make(map[peer.ID]struct{}),
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
		if !known && v.counts[source] >= maxPerSource {
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

// gone takes back what a source said of a peer.
func (v *view) gone(source int, id peer.ID) {
	v.drop(func(at spot, s sighting) bool { return at.source == source && s.peer == id })
}

// expire drops what has come to its end.
func (v *view) expire(now time.Time) {
	v.drop(func(_ spot, s sighting) bool { return !s.until.IsZero() && !s.until.After(now) })
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

// next is when something expires; zero when nothing does.
func (v *view) next() time.Time {
	var first time.Time
	for _, e := range v.peers {
		for _, s := range e.seen {
			if !s.until.IsZero() && (first.IsZero() || s.until.Before(first)) {
				first = s.until
			}
		}
	}
	return first
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

// newest is the highest sequence number among the signed records.
func (e *entry) newest() (seq uint64, signed bool) {
	for _, s := range e.seen {
		if s.seq != nil {
			seq, signed = max(seq, *s.seq), true
		}
	}
	return seq, signed
}

// counts reports whether the addresses of s are still believed when seq is the
// newest record's.
func (s sighting) counts(seq uint64) bool { return s.seq == nil || *s.seq == seq }

func (e *entry) addrs() []ma.Multiaddr {
	seq, _ := e.newest()
	var out []ma.Multiaddr
	for _, s := range e.seen {
		if s.counts(seq) {
			out = append(out, s.addrs...)
		}
	}
	out = ma.Unique(out)
	addr.Sort(out)
	return out[:min(len(out), addr.MaxAddrs)]
}

// merge makes one Peer of all sightings.
func (v *view) merge(id peer.ID, e *entry, now time.Time) Peer {
	p := Peer{ID: id, Probe: e.probe, Sources: []string{}, Addrs: []string{}}
	seq, _ := e.newest()
	for _, at := range slices.SortedFunc(maps.Keys(e.seen), func(a, b spot) int {
		return cmp.Or(cmp.Compare(a.source, b.source), cmp.Compare(a.ns, b.ns))
	}) {
		s := e.seen[at]
		f := Finding{Source: v.sources[at.source].word, Server: v.sources[at.source].server, Seq: s.seq, Newest: s.counts(seq)}
		f.Namespace, f.Record, f.TTL = optional(s.ns), optional(s.record), left(s.until, now)
		p.Found = append(p.Found, f)
		if !slices.Contains(p.Sources, f.Source) {
			p.Sources = append(p.Sources, f.Source)
		}
		if f.Namespace != nil && (p.Namespace == nil || *f.Namespace < *p.Namespace) {
			p.Namespace = f.Namespace
		}
		if f.TTL != nil && (p.TTL == nil || *f.TTL > *p.TTL) {
			p.TTL = f.TTL
		}
	}
	for _, a := range e.addrs() {
		p.Addrs = append(p.Addrs, addr.WithPeer(a, id).String())
	}
	return p
}

// left is how many whole seconds there are until a moment; nil if it never comes.
func left(until, now time.Time) *int64 {
	if until.IsZero() {
		return nil
	}
	s := max(0, int64(until.Sub(now)/time.Second))
	return &s
}

// optional is null for the empty string.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// usable keeps the addresses that can be written on a line and read back: names
// in addresses may hold any byte, and others give these lines to dial.
func usable(id peer.ID, addrs []ma.Multiaddr) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, a := range addrs {
		if len(a) == 0 || len(out) == addr.MaxAddrs {
			continue
		}
		text := addr.WithPeer(a, id).String()
		unprintable := func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar }
		if strings.ContainsFunc(text, unprintable) {
			continue
		}
		read, err := addr.ParseTarget(text, addr.Options{})
		if err == nil && read.ID == id && len(read.Addrs) == 1 && read.Addrs[0].Equal(a) {
			out = append(out, a)
		}
	}
	return out
}
