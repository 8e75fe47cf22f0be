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

// newest is the highest sequence number among the signed records.
func (e *entry) newest() (seq uint64) {
	for _, s := range e.seen {
		if s.seq != nil {
			seq = max(seq, *s.seq)
		}
	}
	return seq
}

// counts reports whether the addresses of s are still believed when seq is the
// newest record's.
func (s sighting) counts(seq uint64) bool { return s.seq == nil || *s.seq == seq }

func (e *entry) addrs() []ma.Multiaddr {
	seq := e.newest()
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
	seq := e.newest()
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
