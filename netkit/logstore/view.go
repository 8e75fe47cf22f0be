package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"dibber/netkit/bamboo"
	"dibber/netkit/negentropy"
)

// View is a store at one moment: everything in it is on disk, and nothing in it changes. It must be closed, before the store is.
// Its methods may be called concurrently.
type View struct {
	store *Store
	snap  *pebble.Snapshot
	refs  int // by the lock of the store
	state state
	// blocks are the summaries; what they add up to is computed when first asked for.
	blocks blocks
	sums   func() []negentropy.Sum
}

func newView(s *Store, st state, b blocks) *View {
	return &View{store: s, snap: s.db.Pebble().NewSnapshot(), refs: 1, state: st, blocks: b, sums: sync.OnceValue(b.sums)}
}

// Close gives the view up.
func (v *View) Close() error {
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	return v.release()
}

func (v *View) release() error {
	v.refs--
	if v.refs > 0 {
		return nil
	}
	return v.snap.Close()
}

// Epoch is a number drawn when the store was made, and again when it lost something: cursors of another epoch are worth nothing.
func (v *View) Epoch() uint64 { return v.state.epoch }

// Arrivals is the number of the entry that was stored last; they are counted from 1.
func (v *View) Arrivals() uint64 { return v.state.arrivals }

// Bytes is the length of all payloads together.
func (v *View) Bytes() uint64 { return v.state.bytes }

// Root is the same in two stores that hold the same logs up to the same entries.
func (v *View) Root() [32]byte { return v.state.heads.root() }

// get returns a copy of a row, or [ErrNotFound].
func (v *View) get(key []byte) ([]byte, error) {
	value, closer, err := v.snap.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, damaged(err)
	}
	return bytes.Clone(value), closer.Close()
}

// errStop ends a scan that has seen enough.
var errStop = errors.New("stop")

// scan calls fn for each row from one key up to before another. The slices are valid during the call.
func (v *View) scan(from, upTo []byte, fn func(key, value []byte) error) (err error) {
	iter, err := v.snap.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: upTo})
	if err != nil {
		return damaged(err)
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	for ok := iter.First(); ok; ok = iter.Next() {
		value, err := iter.ValueAndErr()
		if err != nil {
			return damaged(err)
		}
		if err := fn(iter.Key(), value); errors.Is(err, errStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return damaged(iter.Error())
}

// damaged gives an error that means bit rot its name.
func damaged(err error) error {
	if pebble.IsCorruptionError(err) {
		return &CorruptError{What: "database", Cause: err}
	}
	return err
}

// Head returns what is known of a log, or [ErrNotFound].
func (v *View) Head(author bamboo.Author, log uint64) (Head, error) {
	return v.head(keyOf(author, log))
}

func (v *View) head(k logKey) (Head, error) {
	value, err := v.get(row(rowHead, k[:]))
	if err != nil {
		return Head{}, err
	}
	return decodeHead(k, value)
}

// Heads calls fn for every log, by author, then by number, until it returns an error, which Heads returns.
func (v *View) Heads(fn func(Head) error) error { return v.headsOf(nil, fn) }

// HeadsOf does so for the logs of one author.
func (v *View) HeadsOf(author bamboo.Author, fn func(Head) error) error {
	return v.headsOf(author[:], fn)
}

// headsOf does so for the logs whose keys begin with a prefix.
func (v *View) headsOf(prefix []byte, fn func(Head) error) error {
	from := row(rowHead, prefix)
	return v.scan(from, after(from), func(key, value []byte) error {
		if len(key) != 1+len(logKey{}) {
			return &CorruptError{What: fmt.Sprintf("head %x", key), Cause: errRow}
		}
		h, err := decodeHead(logKey(key[1:]), value)
		if err != nil {
			return err
		}
		return fn(h)
	})
}

// after returns the first key that does not begin with prefix any more; the first byte of a row is never 0xff.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; ; i-- {
		if end[i] != math.MaxUint8 {
			end[i]++
			return end[:i+1]
		}
	}
}

// Entry returns an entry by its number, or [ErrNotFound].
func (v *View) Entry(author bamboo.Author, log, seq uint64) (Record, error) {
	return v.entry(keyOf(author, log).at(seq))
}

func (v *View) entry(p place) (Record, error) {
	value, err := v.get(row(rowEntry, p[:]))
	if err != nil {
		return Record{}, err
	}
	return decodeRecord(p, value)
}

// ByID returns an entry by its id, or [ErrNotFound].
func (v *View) ByID(id bamboo.Hash) (Record, error) {
	value, err := v.get(row(rowID, id[:]))
	if err != nil {
		return Record{}, err
	}
	p, err := placeOf(value)
	if err != nil {
		return Record{}, err
	}
	r, err := v.entry(p)
	if errors.Is(err, ErrNotFound) || err == nil && r.ID != id {
		return Record{}, &CorruptError{What: "row of id " + id.String(), Cause: errors.New("it leads elsewhere")}
	}
	return r, err
}

func placeOf(value []byte) (place, error) {
	if len(value) != len(place{}) {
		return place{}, &CorruptError{What: "row that leads to an entry", Cause: errRow}
	}
	return place(value), nil
}

// Run calls fn for the entries of a log in order, from one number to another, both included, until it returns an error, which Run
// returns. A number that is missing in between is a [CorruptError]; the log may end earlier.
func (v *View) Run(author bamboo.Author, log, from, to uint64, fn func(Record) error) error {
	k := keyOf(author, log)
	next := max(from, 1)
	first, last := k.at(next), k.at(to)
	return v.scan(row(rowEntry, first[:]), append(row(rowEntry, last[:]), 0), func(key, value []byte) error {
		p := place(key[1:])
		if p.seq() != next {
			return &CorruptError{What: fmt.Sprintf("entry %d of log %d by %s", next, log, author), Cause: ErrNotFound}
		}
		next++
		r, err := decodeRecord(p, bytes.Clone(value))
		if err != nil {
			return err
		}
		return fn(r)
	})
}

// Arrival says where the entry is that was stored as the n-th.
type Arrival struct {
	N      uint64
	Author bamboo.Author
	Log    uint64
	Seq    uint64
}

// Since calls fn for the entries that arrived after the n-th, in that order, until it returns an error, which Since returns.
func (v *View) Since(n uint64, fn func(Arrival) error) error {
	if n == math.MaxUint64 {
		return nil
	}
	return v.scan(row(rowArrival, number(n+1)), []byte{rowArrival + 1}, func(key, value []byte) error {
		p, err := placeOf(value)
		if err != nil {
			return err
		}
		return fn(Arrival{N: place(append(make([]byte, 40), key[1:]...)).seq(), Author: p.log().author(), Log: p.log().log(), Seq: p.seq()})
	})
}
