package rendezvous

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Keys of a [Space].
const (
	// spaceEntry is a registration: then the namespace, escaped as in a URL, "/" and the peer.
	spaceEntry = "entry/"
	// spacePeer is written with every registration of the peer, so that two servers cannot decide
	// about the same peer at once. Its value is the unix time, in milliseconds, it is kept until.
	spacePeer = "peer/"
	// spaceHead is written with every change, so that its revision is the one a reader must have seen.
	spaceHead = "head"
	// spaceCookie is the key of cookies.
	spaceCookie = "cookie-key"
)

func spaceEntryKey(key entryKey) string {
	return spaceEntry + url.PathEscape(key.ns) + "/" + key.peer.String()
}

func spacePeerKey(id peer.ID) string { return spacePeer + id.String() }

// readEntryKey is the inverse of spaceEntryKey, without its beginning.
func readEntryKey(key string) (k entryKey, err error) {
	ns, id, _ := strings.Cut(key, "/")
	if k.ns, err = url.PathUnescape(ns); err != nil {
		return k, fmt.Errorf("key %q of shared registry: %w", key, err)
	}
	if k.peer, err = peer.Decode(id); err != nil {
		return k, fmt.Errorf("key %q of shared registry: %w", key, err)
	}
	return k, nil
}

// known is what a replica knows of a peer's key.
type known struct {
	revision uint64
	until    time.Time
}

// apply takes the changes of one revision into the registry. What cannot be read is left out: it
// is of a later version, or of somebody else.
func (b *shared) apply(revision uint64, changes []SpaceChange) {
	now := time.Now()
	for _, c := range changes {
		if key, ok := strings.CutPrefix(c.Key, spaceEntry); ok {
			b.applyEntry(now, key, revision, c)
		} else if name, ok := strings.CutPrefix(c.Key, spacePeer); ok {
			b.applyPeer(name, c)
		} else if name, ok := strings.CutPrefix(c.Key, spaceServer); ok && !c.Gone {
			b.clocks.heard(name, c.Value, now)
		}
	}
	b.reg.reach(revision)
	b.progress.reach(revision)
}

func (b *shared) applyEntry(now time.Time, key string, revision uint64, c SpaceChange) {
	k, err := readEntryKey(key)
	if err != nil {
		return
	}
	if c.Gone {
		b.reg.gone(now, k, revision)
		return
	}
	e, err := decodeValue(c.Value, now)
	if err != nil || e.entryKey != k {
		return
	}
	if e.left > 0 {
		b.reg.came(now, e.claim, revision, b.reg.clock(now)+e.left)
	} else {
		b.reg.gone(now, k, revision)
	}
}

func (b *shared) applyPeer(name string, c SpaceChange) {
	id, err := peer.Decode(name)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.Gone {
		delete(b.peers, id)
		return
	}
	until, _ := strconv.ParseInt(string(c.Value), 10, 64)
	b.peers[id] = known{c.Revision, time.UnixMilli(until)}
}

// load takes in what there is, and lets go of what there is no more.
func (b *shared) load(ctx context.Context) (revision uint64, err error) {
	all, revision, err := b.space.All(ctx)
	if err != nil {
		return 0, err
	}
	reached := b.reg.visible.Load()
	if revision < reached {
		return 0, fmt.Errorf("shared registry is at revision %d and was at %d: it is not the one it was", revision, reached)
	}
	there := make(map[string]bool, len(all))
	for _, c := range all {
		there[c.Key] = true
	}
	now := time.Now()
	for _, key := range b.reg.keys() {
		if !there[spaceEntryKey(key)] {
			b.reg.gone(now, key, reached)
		}
	}
	b.mu.Lock()
	for id := range b.peers {
		if !there[spacePeerKey(id)] {
			delete(b.peers, id)
		}
	}
	b.mu.Unlock()
	for _, c := range all {
		if c.Revision > reached {
			b.apply(c.Revision, []SpaceChange{c})
		}
	}
	b.reg.reach(revision)
	b.progress.reach(revision)
	return revision, nil
}

// follow keeps the replica in step until the context ends.
func (b *shared) follow(ctx context.Context, after uint64) {
	for ctx.Err() == nil {
		_ = b.space.Follow(ctx, after, func(revision uint64, changes []SpaceChange) {
			b.apply(revision, changes)
			after = revision
		})
		select {
		case <-ctx.Done():
			return
		case <-time.After(followAgain):
		}
		// Whether there is a gap or not: what was missed is in what there is.
		if revision, err := b.load(ctx); err == nil {
			after = revision
		}
	}
}

// followAgain is how long a replica waits before it follows anew.
const followAgain = 200 * time.Millisecond

// came takes in a registration of another's making, numbered with its revision.
func (r *registry) came(now time.Time, c claim, revision uint64, expires time.Duration) {
	sh := r.shard(c.ns)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	old := sh.spaces[c.ns].find(r.ledger.owners[c.peer])
	if old != nil && old.seq >= revision {
		return
	}
	if old != nil && !old.live(r.clock(now)) {
		r.end(old, changeExpire)
		old = nil
	}
	r.setSeq(revision)
	done := r.insert(sh, expires-c.ttl, c, old)
	r.settleLocked(done)
}

// gone ends a registration that another ended.
func (r *registry) gone(now time.Time, key entryKey, revision uint64) {
	sh := r.shard(key.ns)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	e := sh.spaces[key.ns].find(r.ledger.owners[key.peer])
	if e == nil {
		return
	}
	r.setSeq(revision)
	kind := changeRemove
	if !e.live(r.clock(now)) {
		kind = changeExpire
	}
	r.end(e, kind)
}

func (r *registry) setSeq(revision uint64) {
	r.numbering.Lock()
	defer r.numbering.Unlock()
	r.seq = max(r.seq, revision)
}

// reach says that everything up to a revision is there.
func (r *registry) reach(revision uint64) {
	r.setSeq(revision)
	r.visible.Store(max(r.visible.Load(), revision))
}

// keys are those of all registrations.
func (r *registry) keys() (keys []entryKey) {
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.RLock()
		for _, sp := range sh.spaces {
			for _, e := range sp.few {
				keys = append(keys, e.key())
			}
			for _, e := range sp.many {
				keys = append(keys, e.key())
			}
		}
		sh.mu.RUnlock()
	}
	return keys
}
