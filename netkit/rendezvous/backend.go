package rendezvous

import (
	"context"
	"time"
)

// backend is where a server's registrations come from and go to. What it shows is in the server's
// registry, in memory.
type backend interface {
	// put stores a claim, and returns when it is durable, with what made room for it.
	put(ctx context.Context, c claim) (kind EventKind, evicted []*change, why *StatusError)
	// remove ends a registration and returns when that is durable; found is false when there is none.
	remove(ctx context.Context, key entryKey) (found bool, why *StatusError)
	// fresh returns once the registry holds everything that was acknowledged before the call, by
	// whichever server, or refuses when that cannot be known.
	fresh(ctx context.Context) *StatusError
	// remembers refuses a number of the order from which one cannot go on.
	remembers(ctx context.Context, seq uint64) *StatusError
	// close ends it, when nobody uses it any more.
	close()
}

// embedded is the backend of a server by itself: the registry, and a journal where it has a database.
type embedded struct {
	reg     *registry
	journal *journal
}

func (b *embedded) put(_ context.Context, c claim) (EventKind, []*change, *StatusError) {
	done, why := b.reg.put(time.Now(), c)
	if why != nil {
		return "", nil, why
	}
	if done.commit != nil {
		if err := done.commit.wait(); err != nil {
			return "", done.evicted, notStored(err)
		}
	}
	return done.event(), done.evicted, nil
}

func (b *embedded) remove(_ context.Context, key entryKey) (bool, *StatusError) {
	gone := b.reg.remove(key)
	if gone == nil {
		return false, nil
	}
	if gone.commit != nil {
		if err := gone.commit.wait(); err != nil {
			return true, notStored(err)
		}
	}
	return true, nil
}

func (b *embedded) fresh(context.Context) *StatusError             { return nil }
func (b *embedded) remembers(context.Context, uint64) *StatusError { return nil }

func (b *embedded) close() {
	if b.journal != nil {
		b.journal.close()
	}
}

// event is what a server reports of a registration that came.
func (c *change) event() EventKind {
	if c.kind == changeRefresh {
		return EventRefresh
	}
	return EventRegister
}
