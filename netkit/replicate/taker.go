package replicate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
)

// maxProofs is how many proofs of forks one session takes.
const maxProofs = 4096

// taking is a run that this side has asked for.
type taking struct {
	head
	next    uint64      // number of the entry that comes next
	to      uint64      // that of the last one
	last    bamboo.Hash // id of the one before
	granted uint64      // bytes of payload that the other side said there are
	brought uint64
	over    bool // nothing more of it is taken
	skipped bool // the other side gave it up; guarded by the taker's lock
}

// item is a frame for the taker.
type item struct {
	kind kind
	of   *taking
	body []byte
}

// filePart is a frame of a file.
type filePart struct {
	frame []byte
	end   bool
	whole bool // at the end: all of it was sent
}

// taker stores what the other side sends, in the order in which it comes.
type taker struct {
	s *session
	// Of the goroutine that stores:
	taken   int      // bytes of files that no credit was given back for
	storing *storing // what is becoming durable while more comes; nil if nothing is

	mu          sync.Mutex // guards following
	changed     *sync.Cond
	takings     map[uint64]*taking
	queue       []item
	outstanding int // bytes of runs in the queue, or being stored
	proofs      int
	sent        bool // the other side has sent all
	files       []filePart
	filed       int  // bytes of frames in files
	short       bool // the last of them was no full one
	awaited     int  // files that were asked for and have not ended
	closed      bool
	aborted     bool
}

func newTaker(s *session) *taker {
	t := &taker{s: s, takings: make(map[uint64]*taking)}
	t.changed = sync.NewCond(&t.mu)
	return t
}

// expect notes that a run was asked for.
func (t *taker) expect(index uint64, of *taking) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.takings[index] = of
}

// minRun is the length in bytes of the shortest run, without its kind; maxSkip and maxProof are those of the longest skip and proof.
const (
	minRun   = 3 + minPiece
	maxSkip  = 2 * binary.MaxVarintLen64
	maxProof = 2 * (binary.MaxVarintLen16 + bamboo.MaxEntrySize)
)

// put queues a frame. What is stored later takes memory now, so everything that can come is bounded in number and in length.
func (t *taker) put(k kind, body []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	it := item{kind: k, body: body}
	switch k {
	case kindRun, kindSkip:
		d := decoder{rest: body}
		index := d.number()
		it.of = t.takings[index]
		if d.err != nil || it.of == nil || it.of.skipped || t.sent {
			return broken("it sends a run that was not asked for, or is over")
		}
		if err := t.bound(&it); err != nil {
			return err
		}
	case kindProof:
		if t.proofs++; t.proofs > maxProofs || len(body) > maxProof {
			return broken("it sends proofs without end")
		}
	default:
		if t.sent {
			return broken("it has sent all twice")
		}
		t.sent = true
	}
	t.queue = append(t.queue, it)
	t.changed.Broadcast()
	return nil
}

// bound refuses a run, or what comes instead of one, that the other side has no credit for.
func (t *taker) bound(it *item) error {
	switch {
	case it.kind == kindSkip && len(it.body) > maxSkip, it.kind == kindRun && len(it.body) < minRun:
		return broken("a frame of kind %d with %d bytes", it.kind, len(it.body))
	case it.kind == kindSkip:
		it.of.skipped = true
	case t.outstanding >= window+maxFrame:
		return broken("it sends more than it got credit for")
	default:
		t.outstanding += len(it.body) + 1
	}
	return nil
}

// close ends the taker: at once, or when all is stored.
func (t *taker) close(abort bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed, t.aborted = true, t.aborted || abort
	t.changed.Broadcast()
}

// release gives back what was admitted and did not come.
func (t *taker) release() {
	for _, of := range t.takings {
		t.s.replica.release(t.s.cfg.Peer, of.author, of.granted, of.granted-min(of.granted, of.brought))
	}
}

// run stores until the taker is closed.
func (t *taker) run() (err error) {
	defer func() { err = errors.Join(err, t.stored()) }()
	if t.s.own.seeks(&t.s.theirs) {
		if err := t.refill(); err != nil {
			return err
		}
	}
	for {
		t.mu.Lock()
		if len(t.queue) == 0 && t.storing != nil {
			t.mu.Unlock()
			if err := t.stored(); err != nil {
				return err
			}
			continue
		}
		for len(t.queue) == 0 && !t.closed {
			t.changed.Wait()
		}
		if t.aborted || len(t.queue) == 0 {
			t.mu.Unlock()
			return nil
		}
		it := t.queue[0]
		t.queue = t.queue[1:]
		t.mu.Unlock()
		if err := t.store(it); err != nil {
			return err
		}
	}
}

func (t *taker) store(it item) error {
	if it.kind == kindRun {
		return t.take(it.of, it.body)
	}
	if err := t.stored(); err != nil {
		return err
	}
	switch it.kind {
	case kindSkip:
		d := decoder{rest: it.body}
		_, reason := d.number(), d.number()
		if err := d.end(); err != nil {
			return err
		}
		it.of.over = true
		return t.s.reach(func(e *state) {
			e.incomplete = true
			e.limited = e.limited || reason == skipLimit
		})
	case kindProof:
		return t.proof(it.body)
	default: // all was sent
		missing := false
		t.mu.Lock()
		for _, of := range t.takings {
			missing = missing || !of.over
		}
		t.mu.Unlock()
		return t.s.reach(func(e *state) { e.received, e.incomplete = true, e.incomplete || missing })
	}
}

// proof keeps the proof of a fork.
func (t *taker) proof(body []byte) error {
	a, b, err := decodeProof(body)
	if err != nil {
		return err
	}
	return t.s.keepFork(a, b)
}

// take proves a piece of a run and gets its files; it is stored while the next one comes.
func (t *taker) take(of *taking, body []byte) error {
	r, err := decodeRun(body)
	if err != nil {
		return err
	}
	next := &storing{of: of, credit: len(body) + 1, done: make(chan struct{})}
	if of.over {
		return t.credit(next)
	}
	size, files := uint64(0), 0
	for i := range r.entries {
		size = plus(size, r.entries[i].size)
		if r.entries[i].size > logstore.InlineMax {
			files++
		}
	}
	of.brought = plus(of.brought, size)
	switch {
	case r.from != of.next || r.from+uint64(len(r.entries))-1 > of.to:
		return broken("entries %d to %d of a log come where those from %d to %d were asked for", r.from, r.from+uint64(len(r.entries))-1, of.next, of.to)
	case of.brought > of.granted:
		return broken("a log is longer than was said: %d bytes and more, not %d", of.brought, of.granted)
	}
	started := time.Now()
	if next.records, err = t.s.replica.prove(of, &r, t.storing); err != nil {
		return err
	}
	next.verify = time.Since(started)
	settle, release := func() error { return nil }, func() {}
	if files > 0 {
		settle, release, err = t.receive(next.records)
		if err != nil {
			defer release()
			return errors.Join(err, settle())
		}
	}
	if err := t.stored(); err != nil || of.over { // over: a fork was found in what came before
		defer release()
		return errors.Join(err, settle())
	}
	of.next += uint64(len(next.records))
	of.last = next.records[len(next.records)-1].ID
	if of.next > of.to && of.to == of.height && of.last != of.id {
		defer release()
		return errors.Join(settle(), broken("the log does not end with the entry that it said"))
	}
	t.storing = next
	go func() {
		defer close(next.done)
		defer release()
		if next.err = settle(); next.err == nil {
			next.put, next.err = t.s.replica.Store.Put(next.records)
		}
	}()
	if files == 0 { // nothing would be gained
		return t.stored()
	}
	return nil
}

// prove makes the entries of a run whole and checks them, before anything else is done for them. Those before them may not be stored
// yet.
func (p *Replica) prove(of *taking, r *run, before *storing) ([]logstore.Record, error) {
	v, err := p.Store.View()
	if err != nil {
		return nil, err
	}
	held := func(seq uint64) (bamboo.Hash, bool) {
		if seq == of.next-1 {
			return of.last, true
		}
		if id, ok := before.holds(of, seq); ok {
			return id, true
		}
		e, err := v.Entry(of.author, of.log, seq)
		return e.ID, err == nil
	}
	records, err := r.rebuild(of.logID, held)
	if err == nil {
		signed := make([]bamboo.Signed, len(records))
		for i := range records {
			signed[i] = records[i].Signed
		}
		if err = bamboo.VerifyRun(signed, held); err != nil {
			err = fmt.Errorf("entries %d to %d of log %d by %s: %w", r.from, r.from+uint64(len(records))-1, of.log, of.author, err)
		}
	}
	return records, errors.Join(err, v.Close())
}
