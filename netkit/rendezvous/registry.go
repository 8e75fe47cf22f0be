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

// entry is one registration. It does not change once it is in a registry: a
// refresh puts another in its place, so entries may be read without the
// registry's lock.
type entry struct {
	entryKey
	// seq is the place in the registry's order.
	seq uint64
	// records holds the envelopes by flavour; at least one is there.
	records [2][]byte
	// recordSeqs are the seqs inside the envelopes.
	recordSeqs [2]uint64
	// primary is the flavour the peer sent in the specification's own field.
	primary Flavour
	// ttl is what was granted, expires when it ends.
	ttl     time.Duration
	expires time.Time
}

// remaining is the TTL left at now, in whole seconds rounded up, so that a
// live entry never shows 0. It is never above what was granted, even if the
// clock was set back.
func (e *entry) remaining(now time.Time) uint64 {
	left := min(e.expires.Sub(now), e.ttl)
	return uint64(max(left+time.Second-1, 0) / time.Second)
}

// peerState is what a registry knows of a peer while it has registrations.
type peerState struct {
	count int
	// recordSeqs are the newest record seqs accepted, by flavour: an
	// implementation that counts in seconds and one that counts in
	// nanoseconds may share an identity.
	recordSeqs [2]uint64
	// primary is the flavour of the last registration.
	primary Flavour
}

// registry is the state of a rendezvous server: registrations ordered by one
// sequence that every registration and every refresh takes the next number
// of, so that a cookie can say "everything up to here". It is pure: time is an
// argument and nothing blocks. It is not safe for concurrent use.
type registry struct {
	limits  Limits
	seq     uint64
	entries map[entryKey]*entry
	spaces  map[string]*order
	all     order
	peers   map[peer.ID]*peerState
	due     *calendar
}

func newRegistry(limits Limits, start time.Time) *registry {
	return &registry{
		limits:  limits,
		entries: make(map[entryKey]*entry),
		spaces:  make(map[string]*order),
		peers:   make(map[peer.ID]*peerState),
		due:     newCalendar(start),
	}
}

// put registers e for its ttl, or refreshes the registration it already is.
// It assigns seq and expires, and returns the registration replaced, if any.
func (r *registry) put(now time.Time, e *entry) (replaced *entry, err *StatusError) {
	if err := r.checkTTL(e.ttl); err != nil {
		return nil, err
	}
	known := r.peers[e.peer]
	for flavour, record := range e.records {
		if record != nil && known != nil && e.recordSeqs[flavour] < known.recordSeqs[flavour] {
			return nil, refusal(StatusInvalidSignedPeerRecord, "record is older than the last one accepted")
		}
	}
	replaced = r.entries[e.entryKey]
	if replaced == nil {
		if err := r.checkQuota(e.peer); err != nil {
			return nil, err
		}
	} else {
		r.drop(replaced)
	}
	r.seq++
	e.seq = r.seq
	e.expires = now.Add(e.ttl)
	r.insert(e, known)
	return replaced, nil
}

// restore inserts an entry read from disk, in order of seq. It takes no
// notice of limits: what was acknowledged is kept.
func (r *registry) restore(e *entry) (replaced *entry) {
	known := r.peers[e.peer]
	if replaced = r.entries[e.entryKey]; replaced != nil {
		r.drop(replaced)
	}
	r.seq = max(r.seq, e.seq)
	r.insert(e, known)
	return replaced
}

func (r *registry) checkTTL(ttl time.Duration) *StatusError {
	if ttl < r.limits.MinTTL || ttl > r.limits.MaxTTL {
		return refusal(StatusInvalidTTL, "ttl must be %d to %d s", r.limits.MinTTL/time.Second, r.limits.MaxTTL/time.Second)
	}
	return nil
}

// checkQuota refuses a new registration that is one too many. A refresh is
// never checked: a peer at its limit can keep what it has.
func (r *registry) checkQuota(p peer.ID) *StatusError {
	if known := r.peers[p]; known != nil && known.count >= r.limits.PerPeer {
		return refusal(StatusNotAuthorized, "at most %d registrations a peer", r.limits.PerPeer)
	}
	if len(r.entries) >= r.limits.Total {
		return refusal(StatusUnavailable, "registry is full")
	}
	return nil
}

// insert adds e to every index. known is what the registry knew of the peer
// before the entry e replaces was dropped, and may be nil.
func (r *registry) insert(e *entry, known *peerState) {
	state := r.peers[e.peer]
	if state == nil {
		state = new(peerState)
		if known != nil {
			state.recordSeqs = known.recordSeqs
		}
		r.peers[e.peer] = state
	}
	state.count++
	state.primary = e.primary
	for flavour, seq := range e.recordSeqs {
		state.recordSeqs[flavour] = max(state.recordSeqs[flavour], seq)
	}
	space := r.spaces[e.ns]
	if space == nil {
		space = new(order)
		r.spaces[e.ns] = space
	}
	r.entries[e.entryKey] = e
	space.push(e)
	r.all.push(e)
	r.due.add(e)
}

// drop takes e out of every index.
func (r *registry) drop(e *entry) {
	delete(r.entries, e.entryKey)
	r.due.remove(e)
	r.all.remove(e.seq)
	if space := r.spaces[e.ns]; space.remove(e.seq) == 0 {
		delete(r.spaces, e.ns)
	}
	if state := r.peers[e.peer]; state.count > 1 {
		state.count--
	} else {
		delete(r.peers, e.peer)
	}
}

// remove ends a registration and returns it, or nil when there is none.
func (r *registry) remove(key entryKey) *entry {
	e := r.entries[key]
	if e == nil {
		return nil
	}
	r.drop(e)
	return e
}

// sweep drops what has expired at now and returns it.
func (r *registry) sweep(now time.Time) []*entry {
	expired := r.due.until(now)
	for _, e := range expired {
		r.drop(e)
	}
	return expired
}

// page returns the live entries of a namespace, or of all when ns is empty,
// whose seq is above after: as many as fit limit entries and budget bytes. size
// tells what an entry costs; 0 leaves it out. last is the seq up to which
// everything has been looked at, where the next page goes on.
func (r *registry) page(now time.Time, ns string, after uint64, limit, budget int, size func(*entry) int) (found []*entry, last uint64) {
	last = after
	for e := range r.order(ns).above(after) {
		cost := 0
		if e.expires.After(now) {
			cost = size(e)
		}
		if cost > 0 {
			if len(found) == limit || cost > budget {
				return found, last
			}
			budget -= cost
			found = append(found, e)
		}
		last = e.seq
	}
	return found, last
}

func (r *registry) order(ns string) *order {
	if ns == "" {
		return &r.all
	}
	if space := r.spaces[ns]; space != nil {
		return space
	}
	return new(order)
}
