package logstore

import (
	"errors"
	"fmt"

	"dibber/netkit/bamboo"
	"dibber/netkit/store"
)

var (
	// ErrNotFound is returned for an entry, a log or a payload that is not in the store.
	ErrNotFound = errors.New("not in the store")
	// ErrNoStore is returned by [Open] where there is none and none is to be made.
	ErrNoStore = errors.New("there is no store of logs")
	// ErrGuard is what a [GuardError] wraps.
	ErrGuard = errors.New("own log is behind what was published")
	// ErrForked is returned for entries that would extend a log of which a fork is known.
	ErrForked = errors.New("log is forked and not extended any more")
	// ErrEnded is returned for entries after the one with which a log ends.
	ErrEnded = errors.New("log has ended")
	// ErrDiskFull is returned before anything is written when less than Config.MinFree would be left.
	ErrDiskFull = store.ErrFull
	// ErrPayloadMissing is returned for an entry whose payload is a file that has not been received.
	ErrPayloadMissing = errors.New("payload has not been received")
	// ErrClosed is returned after [Store.Close].
	ErrClosed = errors.New("store is closed")
)

// LostError is returned by [Open] for a store that holds less than it acknowledged, or whose parts contradict each other: its
// write-ahead log was damaged, or an older copy of it was put back. Config.AcceptLoss opens what is left.
type LostError struct {
	// Dir is the store's folder.
	Dir string
	// Held and Acknowledged count arrivals; what is between them is gone.
	Held, Acknowledged uint64
	// Cause is what was found, where it was not the count.
	Cause error
}

func (e *LostError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("store in %s has lost entries that it acknowledged: %v", e.Dir, e.Cause)
	}
	return fmt.Sprintf("store in %s has lost entries that it acknowledged: it holds %d of %d", e.Dir, e.Held, e.Acknowledged)
}

// Unwrap returns the cause.
func (e *LostError) Unwrap() error { return e.Cause }

// GuardError refuses to sign: another entry with the same number may be known to others. It wraps [ErrGuard]. Once the log has been
// fetched from peers, [Store.Recover] lifts it.
type GuardError struct {
	// Missing says that the guard itself is gone, so that nothing is known of what was published.
	Missing bool
	Author  bamboo.Author
	Log     uint64
	// Published is the number of the highest entry that was let out, Held that of the highest the store has.
	Published, Held uint64
}

func (e *GuardError) Error() string {
	if e.Missing {
		return ErrGuard.Error() + ", perhaps: the record of what was published is missing"
	}
	return fmt.Sprintf("%v: log %d by %s was published up to entry %d, the store has %d", ErrGuard, e.Log, e.Author, e.Published, e.Held)
}

// Unwrap returns [ErrGuard].
func (e *GuardError) Unwrap() error { return ErrGuard }

// GapError says that a run does not begin where the log ends here.
type GapError struct {
	Author bamboo.Author
	Log    uint64
	// Height is the number of the last entry held, Got that of the first one given.
	Height, Got uint64
}

func (e *GapError) Error() string {
	return fmt.Sprintf("log %d by %s: entry %d cannot follow entry %d", e.Log, e.Author, e.Got, e.Height)
}

// CorruptError says that something read from disk is not what was written.
type CorruptError struct {
	// What names it.
	What string
	// Cause is what is wrong with it.
	Cause error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged on disk: %v", e.What, e.Cause)
}

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Cause }
