package rendezvous

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// sharedWait is how long a request waits for a shared registry that is away before it is refused.
// It is less than clients wait for an answer.
const sharedWait = 5 * time.Second

// shared is the backend of a server that shares its registrations with others in a [Space]. The
// registry is a replica of the space, numbered by its revisions: a cookie of one server is good at
// every other.
//
// It decides about a registration by its replica, and writes under the guard of the peer's key: if
// any server has registered the peer since, nothing is written, and it decides again. So what a
// peer may hold is exact, however many servers it asks at once. Which registration makes room in a
// full registry is under a guard, too: no two come in the place of one.
type shared struct {
	reg   *registry
	space Space
	// key is that of cookies, set before opened is closed.
	key *atomic.Pointer[cookieKey]
	// opened is closed once the replica has been filled for the first time.
	opened chan struct{}

	// head is the revision of the last change that was taken in.
	head     atomic.Uint64
	progress progress
	barrier  barrier
	clocks   clocks
	health   health
	// evicting holds one who makes room, so that those who come to this server at once do not
	// choose the same registration again and again.
	evicting chan struct{}

	mu    sync.Mutex
	peers map[peer.ID]known

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// openShared fills reg from a space, which it follows from then on, and sets the key of cookies. A
// space that is away may come later: until then nothing can be done with the backend, which tells
// why. One that refuses is an error.
func openShared(space Space, reg *registry, key *atomic.Pointer[cookieKey], tell func(away error)) (*shared, error) {
	reg.given = true
	ctx, cancel := context.WithCancel(context.Background())
	b := &shared{reg: reg, space: space, key: key, opened: make(chan struct{}), evicting: make(chan struct{}, 1), peers: make(map[peer.ID]known), cancel: cancel}
	b.clocks.name, b.health.tell = rand.Text(), tell
	revision, err := b.load(ctx)
	if err != nil && !errors.Is(err, ErrSpaceAway) {
		cancel()
		return nil, fmt.Errorf("open shared registry: %w", err)
	}
	b.health.note(func(h *health) { h.read = err })
	b.running.Go(func() { b.follow(ctx, revision, err == nil) })
	b.running.Go(func() { b.beat(ctx) })
	return b, nil
}

// sharedKey is the key of cookies that all servers share; the first makes it.
func sharedKey(ctx context.Context, space Space) (key cookieKey, err error) {
	fresh := newCookieKey()
	value := append(append([]byte{}, fresh.secret[:]...), fresh.epoch[:]...)
	write := SpaceWrite{Guards: map[string]uint64{spaceCookie: 0}, Puts: []SpacePut{{Key: spaceCookie, Value: value}}}
	_, kept, err := space.Commit(ctx, write)
	if err != nil {
		return key, err
	}
	if kept {
		return fresh, nil
	}
	if value, _, err = space.Get(ctx, spaceCookie); err != nil {
		return key, err
	}
	if len(value) != cookieKeyBytes {
		return key, fmt.Errorf("key of cookies: %w", ErrSpaceForeign)
	}
	copy(key.secret[:], value)
	copy(key.epoch[:], value[cookieSecretBytes:])
	return key, nil
}

func (b *shared) close() {
	b.cancel()
	b.running.Wait()
}

// unavailable refuses what a space that is away cannot do. The cause is not told to peers: it names
// members, which are none of theirs. Who runs the server has it by health.
func unavailable() *StatusError { return refusal(reasonAway, "%v", ErrSpaceAway) }

// ready refuses as long as the replica has not been filled.
func (b *shared) ready(ctx context.Context) *StatusError {
	select {
	case <-b.opened:
		return nil
	case <-ctx.Done():
		return unavailable()
	}
}

func (b *shared) put(ctx context.Context, c claim) (EventKind, []*change, *StatusError) {
	if why := b.reg.checkTTL(c.ttl); why != nil {
		return "", nil, why
	}
	ctx, cancel := context.WithTimeout(ctx, sharedWait)
	defer cancel()
	if why := cmp.Or(b.ready(ctx), b.clocks.check()); why != nil {
		return "", nil, why
	}
	evicts := false
	asked := false // whether a refusal is by all that there is, and not by what this server knew already
	for ctx.Err() == nil {
		write, kind, why := b.weigh(c)
		if why != nil && !asked {
			asked = true
			if why := b.fresh(ctx); why != nil {
				return "", nil, why
			}
			continue
		}
		if why != nil {
			return "", nil, why
		}
		if len(write.Deletes) > 0 && !evicts {
			select {
			case b.evicting <- struct{}{}:
				defer func() { <-b.evicting }()
				evicts = true
			case <-ctx.Done():
			}
			continue
		}
		revision, kept, err := b.space.Commit(ctx, write)
		switch {
		case err != nil:
			// It may have been written: then the guard does not hold the next time, and it is
			// decided again by what is there.
			b.pause(ctx)
		case kept:
			// Durable, and so acknowledged even if the replica cannot follow just now.
			_ = b.progress.await(ctx, revision)
			return kind, nil, nil
		default:
			b.catchUp(ctx, revision)
		}
	}
	return "", nil, unavailable()
}

// pause waits a moment between two attempts.
func (b *shared) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(followAgain):
	}
}

// catchUp waits until the replica knows a key as of a revision, 0 for gone.
func (b *shared) catchUp(ctx context.Context, revision uint64) {
	if revision > 0 {
		_ = b.progress.await(ctx, revision)
		return
	}
	// It went, by the end of its lease, which the head does not tell: the watch does. Only follow
	// may load, or what it took in meanwhile would be undone.
	b.pause(ctx)
}

// weigh decides about a claim by what the replica holds, and returns what to write.
func (b *shared) weigh(c claim) (SpaceWrite, EventKind, *StatusError) {
	now := time.Now()
	b.mu.Lock()
	was := b.peers[c.peer]
	b.mu.Unlock()
	kind, victim, why := b.reg.weigh(now, c)
	if why != nil {
		return SpaceWrite{}, "", why
	}
	expires := now.Add(c.ttl)
	until := expires
	if was.until.After(until) {
		until = was.until
	}
	w := SpaceWrite{Guards: map[string]uint64{spacePeerKey(c.peer): was.revision}, Puts: []SpacePut{
		{Key: spaceEntryKey(c.entryKey), Value: encodeClaim(c, expires), Expires: expires},
		{Key: spacePeerKey(c.peer), Value: strconv.AppendInt(nil, until.UnixMilli(), 10), Expires: until},
		{Key: spaceHead},
	}}
	if victim != nil {
		name := spaceEntryKey(victim.key())
		w.Guards[name], w.Deletes = victim.seq, []string{name}
	}
	return w, kind, nil
}

// weigh says what a claim would be, and which registration would have to make room for it.
func (r *registry) weigh(now time.Time, c claim) (kind EventKind, victim *entry, why *StatusError) {
	sh := r.shard(c.ns)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	old, victim, why := r.judge(sh, c)
	if old != nil && old.live(r.clock(now)) {
		return EventRefresh, victim, why
	}
	return EventRegister, victim, why
}

// remove ends what was registered when it was asked to, and nothing newer: an attempt that comes
// late, since the space was away, finds what the peer has registered meanwhile, at another server
// perhaps. That it leaves, if it is newer by more than clocks may be apart.
func (b *shared) remove(ctx context.Context, key entryKey) (bool, *StatusError) {
	ctx, cancel := context.WithTimeout(ctx, sharedWait)
	defer cancel()
	asked, name, tried := time.Now(), spaceEntryKey(key), false
	for ctx.Err() == nil {
		value, at, err := b.space.Get(ctx, name)
		if err != nil {
			b.pause(ctx)
			continue
		}
		if at == 0 {
			return tried, nil // by an attempt that seemed to fail
		}
		if e, err := decodeValue(value, asked); err == nil && e.since.Sub(asked) > clockApart {
			return false, nil
		}
		revision, kept, err := b.space.Commit(ctx, SpaceWrite{
			Guards: map[string]uint64{name: at}, Deletes: []string{name}, Puts: []SpacePut{{Key: spaceHead}},
		})
		switch {
		case err != nil:
			tried = true
			b.pause(ctx)
		case kept:
			_ = b.progress.await(ctx, revision)
			return true, nil
		}
	}
	return false, unavailable()
}

func (b *shared) fresh(ctx context.Context) *StatusError {
	ctx, cancel := context.WithTimeout(ctx, sharedWait)
	defer cancel()
	if why := b.ready(ctx); why != nil {
		return why
	}
	seen := b.head.Load()
	revision, err := b.barrier.head(ctx, b.space, &b.running)
	if err == nil && revision < seen {
		err = notTheOne(revision, seen)
		b.health.note(func(h *health) { h.read = err })
	}
	if err == nil {
		err = b.progress.await(ctx, revision)
	}
	if err != nil {
		return unavailable()
	}
	return b.clocks.check() // by what the others told up to then
}

func (b *shared) remembers(ctx context.Context, seq uint64) *StatusError {
	if seq == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sharedWait)
	defer cancel()
	switch err := b.space.Remembers(ctx, seq); {
	case errors.Is(err, ErrSpaceForgotten):
		return refusal(reasonForgotten, "cookie is older than what the registry remembers: begin again without")
	case err != nil:
		return unavailable()
	default:
		return nil
	}
}
