package rendezvous

import (
	"context"
	"errors"
	"time"
)

// Errors of a [Space], wrapped by its methods.
var (
	// ErrSpaceAway is a space that cannot be asked, or that did not answer in time. A write may
	// have been made all the same.
	ErrSpaceAway = errors.New("shared registry is away")
	// ErrSpaceRefused is a space that was asked, and does not let this server in: it would say so
	// again until somebody changes what it, or the server, was told.
	ErrSpaceRefused = errors.New("shared registry refuses this server")
	// ErrSpaceForeign is a space that holds something else than a registry.
	ErrSpaceForeign = errors.New("what is there is no shared registry")
	// ErrSpaceForgotten is a revision the space keeps no more.
	ErrSpaceForgotten = errors.New("revision is forgotten")
)

// Space is keys and values that many servers share, in which every write has a revision above all
// before it. Servers with one space are one rendezvous point: see [ServerConfig]. Keys are text
// without a common prefix, which the space adds by itself. Each method may fail with [ErrSpaceAway]
// or [ErrSpaceRefused].
type Space interface {
	// Commit makes a write, all of it or nothing, and returns its revision. Kept is false, and
	// nothing was written, when a guard does not hold; revision is then that of its key.
	Commit(ctx context.Context, w SpaceWrite) (revision uint64, kept bool, err error)
	// Get returns a key's value and the revision it was written at, as of now: whatever was
	// committed before the call is seen. A key that is not there has revision 0.
	Get(ctx context.Context, key string) (value []byte, revision uint64, err error)
	// Remembers returns [ErrSpaceForgotten] for a revision that the space keeps no more, or has
	// not reached.
	Remembers(ctx context.Context, revision uint64) error
	// All returns every key, in the order of their revisions, and the revision as of which it is so.
	All(ctx context.Context) (all []SpaceChange, revision uint64, err error)
	// Follow gives each later change to fn, those of one revision together, in order, until the
	// context ends or the changes can no more be followed without a gap.
	Follow(ctx context.Context, after uint64, fn func(revision uint64, changes []SpaceChange)) error
}

// SpaceWrite is what one [Space.Commit] does.
type SpaceWrite struct {
	// Guards are keys that must still be at a revision, 0 for not there.
	Guards map[string]uint64
	// Puts are written and Deletes deleted, no key twice.
	Puts    []SpacePut
	Deletes []string
}

// SpacePut is a key written.
type SpacePut struct {
	Key   string
	Value []byte
	// Expires is the time before which the key does not go by itself, and soon after which it
	// does; zero is never. How soon is the space's choice: readers look at the clock.
	Expires time.Time
}

// SpaceChange is a key as it was written, or that it went.
type SpaceChange struct {
	Key      string
	Value    []byte
	Revision uint64
	Gone     bool
}
