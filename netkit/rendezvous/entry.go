package rendezvous

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// entryKey names a registration: a peer has one a namespace.
type entryKey struct {
	ns   string
	peer peer.ID
}

// entry is one registration. What it says does not change once it is in a
// registry: a refresh puts another in its place, so entries may be read without
// the registry's locks. Its places in the indexes are guarded by those.
type entry struct {
	space *space
	owner *owner
	// seq is the place in the registry's order.
	seq uint64
	// expires is when it ends, since the registry's start.
	expires time.Duration
	// packed holds the envelopes; at least one is there.
	packed packed
	// ttl is what was granted, in seconds.
	ttl uint32
	// primary is the flavour the peer sent in the specification's own field.
	primary Flavour
	// kinds are those of the addresses, as far as known.
	kinds AddrKinds

	// gone is set when it leaves the registry.
	gone bool
	// swap is nil but while a registration takes the place of another.
	swap *swap
	// Places in the timing wheel and in the list of its owner's entries.
	wheelNext    *entry
	wheelAt      **entry
	older, newer *entry
}

// swap is an entry's part in a registration's taking the place of another.
type swap struct {
	// before is the one it takes the place of, until that is settled, and
	// after the one that takes its own.
	before, after *entry
}

func (e *entry) before() *entry {
	if e.swap == nil {
		return nil
	}
	return e.swap.before
}

func (e *entry) after() *entry {
	if e.swap == nil {
		return nil
	}
	return e.swap.after
}

// setSwap sets its part; one of two nils is none.
func (e *entry) setSwap(before, after *entry) {
	if e.swap = nil; before != nil || after != nil {
		e.swap = &swap{before: before, after: after}
	}
}

func (e *entry) key() entryKey { return entryKey{ns: e.space.ns, peer: e.owner.id} }

func (e *entry) granted() time.Duration { return time.Duration(e.ttl) * time.Second }

// live reports whether the entry has not expired at now.
func (e *entry) live(now time.Duration) bool { return e.expires > now }

// remaining is the TTL left at now, in whole seconds rounded up, so that a
// live entry never shows 0. It is never above what was granted, even if the
// clock was set back.
func (e *entry) remaining(now time.Duration) uint64 {
	left := min(e.expires-now, e.granted())
	return uint64(max(left+time.Second-1, 0) / time.Second)
}

// space is a namespace with registrations.
type space struct {
	ns    string
	shard *shard
	order order
	// The entries that are nobody's predecessor: most namespaces have few.
	few  []*entry
	many map[*owner]*entry
}

// fewEntries is how many entries a namespace searches one by one.
const fewEntries = 8

// find returns the entry of an owner; both may be nil.
func (s *space) find(o *owner) *entry {
	if s == nil || o == nil {
		return nil
	}
	if s.many != nil {
		return s.many[o]
	}
	for _, e := range s.few {
		if e.owner == o {
			return e
		}
	}
	return nil
}

// count is how many peers are registered.
func (s *space) count() int {
	if s == nil {
		return 0
	}
	return max(len(s.few), len(s.many))
}

// set makes e the entry of its owner.
func (s *space) set(e *entry) {
	if s.many != nil {
		s.many[e.owner] = e
		return
	}
	for i, old := range s.few {
		if old.owner == e.owner {
			s.few[i] = e
			return
		}
	}
	s.few = append(s.few, e)
	if len(s.few) <= fewEntries {
		return
	}
	s.many = make(map[*owner]*entry, 2*fewEntries)
	for _, old := range s.few {
		s.many[old.owner] = old
	}
	s.few = nil
}

// unset takes e out, which is the entry of its owner.
func (s *space) unset(e *entry) {
	if s.many != nil {
		delete(s.many, e.owner)
		return
	}
	for i, old := range s.few {
		if old == e {
			last := len(s.few) - 1
			s.few[i], s.few[last] = s.few[last], nil
			s.few = s.few[:last]
			return
		}
	}
}
