package rendezvous

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"sync"
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
// peer may hold is exact, however many servers it asks at once.
type shared struct {
	reg   *registry
	space Space

	progress progress
	barrier  barrier
	clocks   clocks

	mu    sync.Mutex
	peers map[peer.ID]known

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// openShared fills reg from a space, which it follows from then on, and returns the key of its cookies.
func openShared(space Space, reg *registry, publish func(*change)) (*shared, cookieKey, error) {
	reg.given = true
	ctx, cancel := context.WithCancel(context.Background())
	b := &shared{reg: reg, space: space, peers: make(map[peer.ID]known), cancel: cancel}
	b.clocks.name = rand.Text()
	revision, err := b.load(ctx)
	var key cookieKey
	if err == nil {
		key, err = sharedKey(ctx, space)
	}
	if err != nil {
		cancel()
		return nil, key, fmt.Errorf("open shared registry: %w", err)
	}
	reg.publish = publish
	b.running.Go(func() { b.follow(ctx, revision) })
	b.running.Go(func() { b.beat(ctx) })
	return b, key, nil
}

// sharedKey is the key of cookies that all servers share; the first makes it.
func sharedKey(ctx context.Context, space Space) (key cookieKey, err error) {
	fresh := newCookieKey()
	value := append(append([]byte{}, fresh.secret[:]...), fresh.epoch[:]...)
	write := SpaceWrite{Guard: spaceCookie, Puts: []SpacePut{{Key: spaceCookie, Value: value}}}
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
		return key, fmt.Errorf("key of cookies: %w", errMalformed)
	}
	copy(key.secret[:], value)
	copy(key.epoch[:], value[cookieSecretBytes:])
	return key, nil
}

func (b *shared) close() {
	b.cancel()
	b.running.Wait()
}

// unavailable refuses what a space that is away cannot do.
func unavailable(err error) *StatusError { return refusal(reasonAway, "%v", err) }

func (b *shared) put(ctx context.Context, c claim) (EventKind, []*change, *StatusError) {
	if why := b.reg.checkTTL(c.ttl); why != nil {
		return "", nil, why
	}
	ctx, cancel := context.WithTimeout(ctx, sharedWait)
	defer cancel()
	if why := b.clocks.check(); why != nil {
		return "", nil, why
	}
	asked := false // whether a refusal is by all that there is, and not by what this server knew already
	var last error
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
		revision, kept, err := b.space.Commit(ctx, write)
		switch {
		case err != nil:
			// It may have been written: then the guard does not hold the next time, and it is
			// decided again by what is there.
			last = err
			b.pause(ctx)
		case kept:
			// Durable, and so acknowledged even if the replica cannot follow just now.
			_ = b.progress.await(ctx, revision)
			return kind, nil, nil
		default:
			b.catchUp(ctx, revision)
		}
	}
	return "", nil, unavailable(errors.Join(last, ctx.Err()))
}

// pause waits a moment between two attempts.
func (b *shared) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(followAgain):
	}
}

// catchUp waits until the replica knows the peer's key as of a revision, 0 for gone.
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
	w := SpaceWrite{Guard: spacePeerKey(c.peer), GuardRevision: was.revision, Puts: []SpacePut{
		{Key: spaceEntryKey(c.entryKey), Value: encodeClaim(c, expires), Expires: expires},
		{Key: spacePeerKey(c.peer), Value: strconv.AppendInt(nil, until.UnixMilli(), 10), Expires: until},
		{Key: spaceHead},
	}}
	if victim != nil {
		w.Deletes = []string{spaceEntryKey(victim.key())}
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

func (b *shared) remove(ctx context.Context, key entryKey) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, sharedWait)
	defer cancel()
	_, at, err := b.space.Get(ctx, spaceEntryKey(key))
	if err != nil || at == 0 {
		return false, err
	}
	revision, _, err := b.space.Commit(ctx, SpaceWrite{Deletes: []string{spaceEntryKey(key)}, Puts: []SpacePut{{Key: spaceHead}}})
	if err != nil {
		return false, err
	}
	_ = b.progress.await(ctx, revision)
	return true, nil
}

func (b *shared) fresh(ctx context.Context) *StatusError {
	if why := b.clocks.check(); why != nil {
		return why
	}
	ctx, cancel := context.WithTimeout(ctx, sharedWait)
	defer cancel()
	revision, err := b.barrier.head(ctx, b.space, &b.running)
	if err == nil {
		err = b.progress.await(ctx, revision)
	}
	if err != nil {
		return unavailable(err)
	}
	return nil
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
		return unavailable(err)
	default:
		return nil
	}
}
