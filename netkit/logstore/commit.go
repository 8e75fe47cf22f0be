package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"dibber/netkit/bamboo"
)

// batchMax is how many entries one batch takes before it is written.
const batchMax = 4096

// task is something that one caller wants written, and waits for.
type task struct {
	apply func(*work) error
	size  int // entries, about
	done  chan struct{}
	err   error
}

// do has a change made by the goroutine that writes, together with what others want at the same time, and returns when it is on disk.
// apply must either return an error or have staged all that belongs together.
func (s *Store) do(apply func(*work) error) error { return s.doMany(1, apply) }

func (s *Store) doMany(size int, apply func(*work) error) error {
	t := &task{apply: apply, size: size, done: make(chan struct{})}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.pending = append(s.pending, t)
	s.wake.Signal()
	s.mu.Unlock()
	<-t.done
	return t.err
}

// run writes until the store is closed. What comes while a batch is being synced shares the next.
func (s *Store) run() {
	defer close(s.done)
	for tasks := s.take(); tasks != nil; tasks = s.take() {
		err := s.failed
		if err == nil {
			err = s.write(tasks)
		}
		if s.failed == nil && err != nil {
			// What is on disk is not known any more; the next Open finds out.
			s.failed = err
		}
		for _, t := range tasks {
			if err != nil && t.err == nil {
				t.err = err
			}
			close(t.done)
		}
	}
}

// take waits for tasks and takes as many as make one batch, nil when the store is closed.
func (s *Store) take() []*task {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.pending) == 0 {
		if s.closed {
			return nil
		}
		s.wake.Wait()
	}
	n, size := 0, 0
	for n < len(s.pending) && (n == 0 || size+s.pending[n].size <= batchMax) {
		size += s.pending[n].size
		n++
	}
	out := slices.Clone(s.pending[:n])
	s.pending = append(s.pending[:0], s.pending[n:]...)
	return out
}

// write makes one batch of what the tasks want. Only an error that concerns them all is returned.
func (s *Store) write(tasks []*task) error {
	w := &work{store: s, base: s.view, batch: s.db.Pebble().NewBatch(), state: s.view.state, heads: make(map[logKey]*changed), ids: make(map[place]bamboo.Hash)}
	defer w.batch.Close()
	for _, t := range tasks {
		t.err = t.apply(w)
	}
	if w.err != nil {
		return w.err
	}
	if w.batch.Empty() && len(w.heads) == 0 {
		return nil
	}
	if w.state.arrivals > w.base.state.arrivals {
		if err := s.checkSpace(); err != nil {
			// Nothing was written: the store goes on.
			for _, t := range tasks {
				if t.err == nil {
					t.err = err
				}
			}
			return nil
		}
	}
	all, err := w.finish()
	if err != nil {
		return err
	}
	if err := s.db.Commit(w.batch); err != nil {
		return err
	}
	if err := s.letOut(w); err != nil {
		return err
	}
	s.publish(newView(s, w.state, all))
	return nil
}

// letOut brings the guard up to the batch that is on disk, before anybody sees it.
func (s *Store) letOut(w *work) error {
	if s.guard.missing {
		return nil
	}
	if w.state.arrivals > s.guard.mark {
		if err := s.guard.note(w.state.arrivals); err != nil {
			return err
		}
	}
	if len(w.own) == 0 {
		return nil
	}
	for k := range w.own {
		s.guard.raise(&w.heads[k].now)
	}
	return s.guard.save()
}

func (s *Store) publish(v *View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.view
	s.view = v
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	if err := old.release(); err != nil && s.failed == nil {
		s.failed = fmt.Errorf("release snapshot: %w", err)
	}
}

// work is a batch that is being made.
type work struct {
	store *Store
	base  *View
	batch *pebble.Batch
	state state
	heads map[logKey]*changed
	ids   map[place]bamboo.Hash // of the entries in this batch
	items []itemKey
	own   map[logKey]struct{} // logs that were signed for
	room  []byte
	err   error
}

type changed struct{ before, now Head }

// head returns a log as it will be, to be changed; a log that is not there is empty.
func (w *work) head(k logKey) (*Head, error) {
	if c := w.heads[k]; c != nil {
		return &c.now, nil
	}
	h, err := w.base.head(k)
	if errors.Is(err, ErrNotFound) {
		h, err = Head{Author: k.author(), Log: k.log()}, nil
	}
	if err != nil {
		return nil, err
	}
	c := &changed{before: h, now: h}
	w.heads[k] = c
	return &c.now, nil
}

// id returns the id of an entry, also of one in this batch.
func (w *work) id(p place) (bamboo.Hash, error) {
	if id, ok := w.ids[p]; ok {
		return id, nil
	}
	r, err := w.base.entry(p)
	return r.ID, err
}

// set stages a row. An error spoils the whole batch.
func (w *work) set(key, value []byte) {
	if err := w.batch.Set(key, value, nil); err != nil {
		w.err = errors.Join(w.err, err)
	}
}

// add stages an entry that follows the head h of its log.
func (w *work) add(h *Head, r *Record) {
	w.state.arrivals++
	w.state.bytes += r.PayloadSize
	p, item := h.key().at(r.Seq), itemOf(r.Time, r.ID)
	w.room = encodeRecord(w.room[:0], r, w.state.arrivals)
	w.set(row(rowEntry, p[:]), w.room)
	w.set(row(rowID, r.ID[:]), p[:])
	w.set(row(rowItem, item[:]), nil)
	w.set(row(rowArrival, number(w.state.arrivals)), p[:])
	if filed(&r.Entry) {
		w.set(row(rowFile, r.PayloadHash[:]), number(r.PayloadSize))
	}
	w.items = append(w.items, item)
	w.ids[p] = r.ID
	h.Height, h.ID, h.Ended = r.Seq, r.ID, r.End
	h.Bytes += r.PayloadSize
}

// fork stages a fork unless one at that number is known.
func (w *work) fork(f *Fork) (bool, error) {
	p := f.place()
	key := row(rowFork, p[:])
	if _, err := w.base.get(key); !errors.Is(err, ErrNotFound) {
		return false, err
	}
	h, err := w.head(p.log())
	if err != nil {
		return false, err
	}
	if h.Fork == 0 || f.Seq < h.Fork {
		h.Fork = f.Seq
	}
	w.set(key, f.encode())
	return true, nil
}

// finish stages what follows from all the tasks: heads, summaries, and the state of the store.
func (w *work) finish() (blocks, error) {
	for k, c := range w.heads {
		if c.before != c.now {
			w.state.replace(&c.before, &c.now)
			w.set(row(rowHead, k[:]), c.now.encode())
		}
	}
	slices.SortFunc(w.items, func(a, b itemKey) int { return bytes.Compare(a[:], b[:]) })
	all, touched, err := w.base.blocks.insert(w.items, w.base.between)
	if err != nil {
		return nil, err
	}
	for i := range touched {
		w.set(row(rowBlock, touched[i].first[:]), touched[i].encode())
	}
	w.set([]byte{rowState}, w.state.encode())
	return all, w.err
}
