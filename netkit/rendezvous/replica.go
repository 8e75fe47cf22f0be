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
		b.take(now, c)
	}
	b.reach(revision)
}

// take takes in one change. Nobody may rely on it before its revision is reached: there may be more of it.
func (b *shared) take(now time.Time, c SpaceChange) {
	if c.Key == spaceHead {
		b.head.Store(c.Revision)
	} else if key, ok := strings.CutPrefix(c.Key, spaceEntry); ok {
		b.applyEntry(now, key, c)
	} else if name, ok := strings.CutPrefix(c.Key, spacePeer); ok {
		b.applyPeer(name, c)
	} else if name, ok := strings.CutPrefix(c.Key, spaceServer); ok && !c.Gone {
		b.clocks.heard(name, c.Value, now)
	}
}

// reach says that everything up to a revision was taken in.
func (b *shared) reach(revision uint64) {
	b.reg.reach(revision)
	b.progress.reach(revision)
}

func (b *shared) applyEntry(now time.Time, key string, c SpaceChange) {
	k, err := readEntryKey(key)
	if err != nil {
		return
	}
	if c.Gone {
		b.reg.gone(now, k, c.Revision)
		return
	}
	e, err := decodeValue(c.Value, now)
	if err != nil || e.entryKey != k {
		return
	}
	if e.left > 0 {
		b.reg.came(now, e.claim, c.Revision, b.reg.clock(now)+e.left)
	} else {
		b.reg.gone(now, k, c.Revision)
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
	// First, since it is answered at once: a space that is away is not waited for long.
	if b.key.Load() == nil {
		key, err := sharedKey(ctx, b.space)
		if err != nil {
			return 0, err
		}
		b.key.Store(&key)
	}
	all, revision, err := b.space.All(ctx)
	if err != nil {
		return 0, err
	}
	reached := b.reg.visible.Load()
	if revision < reached {
		return 0, notTheOne(revision, reached)
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
			b.take(now, c)
		}
	}
	b.reach(revision)
	select {
	case <-b.opened:
	default:
		close(b.opened)
	}
	return revision, nil
}

// notTheOne is the error of a space that was put back to what it was before. A server that knows more
// than that would claim it.
func notTheOne(revision, was uint64) error {
	return fmt.Errorf("shared registry is at revision %d and was at %d: it is not the one it was; restart this server", revision, was)
}

// follow keeps the replica in step until the context ends. It begins with a load where there was none.
func (b *shared) follow(ctx context.Context, after uint64, loaded bool) {
	for ctx.Err() == nil {
		if loaded {
			_ = b.space.Follow(ctx, after, func(revision uint64, changes []SpaceChange) {
				b.apply(revision, changes)
				after = revision
			})
		}
		b.pause(ctx)
		// Whether there is a gap or not: what was missed is in what there is.
		revision, err := b.load(ctx)
		if ctx.Err() != nil {
			return
		}
		if loaded = err == nil; loaded {
			after = revision
		}
		b.health.note(func(h *health) { h.read = err })
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
