package logstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	iofs "io/fs"

	"github.com/cockroachdb/pebble/v2"

	"dibber/netkit/bamboo"
)

// check is one run of [Store.Verify].
type check struct {
	s      *Store
	v      *View
	ctx    context.Context
	cfg    VerifyConfig
	report *VerifyReport
	fix    *pebble.Batch

	kept       int    // entries that are proven
	last       uint64 // the highest arrival of those
	renumbered uint64 // how many of them have got another number
	state      state  // as it follows from them
}

// fixMax is how many bytes of changes are gathered before they are written.
const fixMax = 4 << 20

// change stages a change if there is to be a repair, and writes what was gathered when it is much.
func (c *check) change(stage func(*pebble.Batch) error) error {
	if !c.cfg.Repair {
		return nil
	}
	if err := stage(c.fix); err != nil {
		return err
	}
	if c.fix.Len() < fixMax {
		return nil
	}
	return c.flush()
}

func (c *check) flush() error {
	if err := c.s.db.Commit(c.fix); err != nil {
		return err
	}
	err := c.fix.Close()
	c.fix = c.s.db.Pebble().NewBatch()
	return err
}

func (c *check) set(key, value []byte) error {
	return c.change(func(b *pebble.Batch) error { return b.Set(key, value, nil) })
}

func (c *check) drop(key []byte) error {
	return c.change(func(b *pebble.Batch) error { return b.Delete(key, nil) })
}

// remove takes out an entry that could not be proven. What leads to one that cannot even be read is among the strays.
func (c *check) remove(e *pendingEntry) error {
	err := c.drop(row(rowEntry, e.place[:]))
	if e.record.Raw == nil {
		return err
	}
	item := itemOf(e.record.Time, e.record.ID)
	return errors.Join(err, c.drop(row(rowID, e.record.ID[:])), c.drop(row(rowItem, item[:])), c.drop(row(rowArrival, number(e.arrival))))
}

// keep counts a log in.
func (c *check) keep(h Head) {
	c.state.replace(&Head{}, &h)
	c.state.bytes += h.Bytes
}

// strays finds rows that lead to no entry, or to one that cannot be read.
func (c *check) strays() error {
	for _, kind := range []struct {
		row  byte
		size int
		what string
	}{{rowID, 32, "id"}, {rowItem, 40, "place in the order"}, {rowArrival, 8, "arrival"}} {
		err := c.v.scan([]byte{kind.row}, []byte{kind.row + 1}, func(key, value []byte) error {
			ok := len(key) == 1+kind.size
			if ok {
				var err error
				if ok, err = c.leadsSomewhere(key, value); err != nil {
					return err
				}
			}
			if ok {
				return nil
			}
			c.report.found("%s %x leads to no entry", kind.what, key[1:])
			return c.drop(bytes.Clone(key))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// leadsSomewhere says whether the entry that a row leads to leads back to it.
func (c *check) leadsSomewhere(key, value []byte) (bool, error) {
	if key[0] == rowItem {
		id, err := c.v.get(row(rowID, key[9:]))
		if err != nil {
			return false, ignoreNotFound(err)
		}
		value = id
	}
	p, err := placeOf(value)
	if err != nil {
		return false, nil // a row of the wrong form leads nowhere
	}
	got, err := c.v.get(row(rowEntry, p[:]))
	if err != nil {
		return false, ignoreNotFound(err)
	}
	r, arrival, _, err := decodeSigned(p, got)
	if err != nil {
		return false, nil // a damaged entry was found before
	}
	switch key[0] {
	case rowID:
		return bytes.Equal(key[1:], r.ID[:]), nil
	case rowItem:
		k := itemOf(r.Time, r.ID)
		return bytes.Equal(key[1:], k[:]), nil
	default:
		return binary.BigEndian.Uint64(key[1:]) == arrival, nil
	}
}

func ignoreNotFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// summaries compares the blocks with the items and the state with the logs.
func (c *check) summaries() error {
	counted := 0
	for i, b := range c.v.blocks {
		var upTo *itemKey
		if i+1 < len(c.v.blocks) {
			upTo = &c.v.blocks[i+1].first
		}
		keys, err := c.v.between(b.first, upTo)
		if err != nil {
			return err
		}
		var want block
		if len(keys) > 0 {
			want = summarise(keys)
		}
		if want.sum != b.sum {
			c.report.found("summary %x: it counts %d, there are %d", b.first, b.sum.Count, want.sum.Count)
		}
		counted += int(want.sum.Count)
	}
	if counted != c.kept {
		c.report.found("the summaries are of %d entries, there are %d", counted, c.kept)
	}
	got := &c.v.state
	if got.bytes != c.state.bytes || got.heads != c.state.heads || got.arrivals != c.last {
		c.report.found("the state of the store is not what follows from its logs")
	}
	return nil
}

// rebuild writes what was found, and then everything that is a sum, from the rows as they are after that.
func (c *check) rebuild() error {
	if err := c.flush(); err != nil {
		return err
	}
	now := newView(c.s, state{}, nil)
	all, err := c.sumUp(now)
	if err = errors.Join(err, now.snap.Close()); err != nil {
		return err
	}
	st := c.state
	st.epoch, st.arrivals = c.v.state.epoch, c.last
	if c.report.Removed > 0 || c.last != c.v.state.arrivals {
		st.epoch = newEpoch() // numbers of arrivals will be given again
	}
	if err := c.fix.Set([]byte{rowState}, st.encode(), nil); err != nil {
		return err
	}
	if err := c.flush(); err != nil {
		return err
	}
	if g := c.s.guard; !g.missing && g.epoch == c.v.state.epoch {
		g.epoch, g.mark = st.epoch, st.arrivals
		if err := errors.Join(g.save(), g.note(st.arrivals)); err != nil {
			return err
		}
	}
	c.s.publish(newView(c.s, st, all))
	return nil
}

// sumUp stages new blocks for all items.
func (c *check) sumUp(now *View) (all blocks, err error) {
	if err := c.fix.DeleteRange([]byte{rowBlock}, []byte{rowBlock + 1}, nil); err != nil {
		return nil, err
	}
	var keys []itemKey
	cut := func() error {
		if len(keys) == 0 {
			return nil
		}
		b := summarise(keys)
		if len(all) == 0 {
			b.first = itemKey{}
		}
		all, keys = append(all, b), keys[:0]
		return c.fix.Set(row(rowBlock, b.first[:]), b.encode(), nil)
	}
	err = now.keys(itemKey{}, nil, func(k itemKey) error {
		if keys = append(keys, k); len(keys) < blockMax {
			return nil
		}
		return cut()
	})
	return all, errors.Join(err, cut())
}

// mend makes the tree of a payload again; a file that is something else is removed, so that it can be received again. It reports
// whether the payload is there then.
func (s *Store) mend(hash bamboo.Hash) (there bool, err error) {
	l := &landed{path: s.file(hash), hash: hash}
	info, err := s.fs.Stat(l.path)
	if errors.Is(err, iofs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		l.f, err = s.fs.Open(l.path)
	}
	if err != nil {
		return false, fmt.Errorf("mend payload %s: %w", hash, err)
	}
	if info.Size() <= treeless {
		err = l.compare(uint64(info.Size()))
	} else if err = s.plantTree(l, uint64(info.Size())); err == nil {
		err = l.tree.Sync()
	}
	if there = !errors.Is(err, bamboo.ErrPayload); there {
		err = errors.Join(err, l.close())
	} else {
		err = s.discard(l)
	}
	if err = errors.Join(err, s.settle(s.fs.PathDir(l.path))); err != nil {
		return there, fmt.Errorf("mend payload %s: %w", hash, err)
	}
	return there, nil
}

// MissingPayloads calls fn for every payload that entries name and that a repair ([Store.Verify]) found not to be there, nor received
// since, until fn returns an error, which MissingPayloads returns. A [Delivery] puts them back.
func (v *View) MissingPayloads(fn func(hash bamboo.Hash, size uint64) error) error {
	return v.lacks(func(hash bamboo.Hash, size uint64, there bool) error {
		if there {
			return nil
		}
		return fn(hash, size)
	})
}

// Lacks reports whether there are any.
func (v *View) Lacks() (bool, error) {
	any := false
	err := v.MissingPayloads(func(bamboo.Hash, uint64) error {
		any = true
		return errStop
	})
	return any, err
}

func (v *View) lacks(fn func(hash bamboo.Hash, size uint64, there bool) error) error {
	return v.scan([]byte{rowLack}, []byte{rowLack + 1}, func(key, value []byte) error {
		if len(key) != 1+len(bamboo.Hash{}) || len(value) != 8 {
			return &CorruptError{What: fmt.Sprintf("file %x", key), Cause: errRow}
		}
		hash, size := bamboo.Hash(key[1:]), binary.BigEndian.Uint64(value)
		return fn(hash, size, v.store.hasFile(hash, size))
	})
}

// Restored notes that payloads which were missing are there again, as far as they are.
func (s *Store) Restored() error {
	return s.do(func(w *work) error {
		return w.base.lacks(func(hash bamboo.Hash, _ uint64, there bool) error {
			if there {
				return w.batch.Delete(row(rowLack, hash[:]), nil)
			}
			return nil
		})
	})
}
