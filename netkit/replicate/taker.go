package replicate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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
}

// item is a frame for the taker.
type item struct {
	kind kind
	of   *taking
	body []byte
}

// filePart is a frame of a file.
type filePart struct {
	data  []byte
	end   bool
	whole bool // at the end: all of it was sent
}

// taker stores what the other side sends, in the order in which it comes.
type taker struct {
	s *session

	mu          sync.Mutex // guards following
	changed     *sync.Cond
	takings     map[uint64]*taking
	queue       []item
	outstanding int // bytes of runs in the queue, or being stored
	proofs      int
	files       []filePart
	filed       int // bytes in files
	awaited     int // files that were asked for and have not ended
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

// put queues a frame.
func (t *taker) put(k kind, body []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	it := item{kind: k, body: body}
	switch k {
	case kindRun, kindSkip:
		d := decoder{rest: body}
		index := d.number()
		if it.of = t.takings[index]; d.err != nil || it.of == nil {
			return broken("it sends a run that was not asked for")
		}
		if k == kindRun {
			if t.outstanding >= window+maxFrame {
				return broken("it sends more than it got credit for")
			}
			t.outstanding += len(body) + 1
		}
	case kindProof:
		if t.proofs++; t.proofs > maxProofs {
			return broken("it sends proofs without end")
		}
	default:
	}
	t.queue = append(t.queue, it)
	t.changed.Broadcast()
	return nil
}

// file queues a frame of a file.
func (t *taker) file(k kind, body []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.awaited == 0 {
		return broken("it sends a file that was not asked for")
	}
	if k == kindFileEnd {
		t.awaited--
		t.files = append(t.files, filePart{end: true, whole: len(body) == 1 && body[0] == 1})
	} else {
		if t.filed += len(body) + 1; t.filed > fileWindow+maxFrame || len(body) == 0 {
			return broken("it sends more of a file than it got credit for")
		}
		t.files = append(t.files, filePart{data: body})
	}
	t.changed.Broadcast()
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
func (t *taker) run() error {
	for {
		t.mu.Lock()
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
	switch it.kind {
	case kindRun:
		if err := t.take(it.of, it.body); err != nil {
			return err
		}
		size := len(it.body) + 1
		t.mu.Lock()
		t.outstanding -= size
		t.mu.Unlock()
		return t.s.out.say(encodeNumber(kindCredit, uint64(size)))
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

// take proves and stores a piece of a run.
func (t *taker) take(of *taking, body []byte) error {
	r, err := decodeRun(body)
	if err != nil {
		return err
	}
	if of.over {
		return nil
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
	records, err := t.s.replica.prove(of, &r)
	if err != nil {
		return err
	}
	took := time.Since(started)
	if files > 0 {
		release, err := t.receive(records)
		defer release()
		if err != nil {
			return err
		}
	}
	res, err := t.s.replica.Store.Put(records)
	if errors.Is(err, logstore.ErrForked) { // another session was faster to learn of it
		of.over = true
		if res.Fork != nil {
			t.s.noteFork(of.logID, res.Fork.Seq)
		}
		return t.s.reach(func(e *state) { e.incomplete = true })
	}
	if err != nil {
		return fmt.Errorf("store entries of log %d by %s: %w", of.log, of.author, err)
	}
	of.next += uint64(len(records))
	of.last = records[len(records)-1].ID
	if of.next > of.to {
		of.over = true
		if of.to == of.height && of.last != of.id {
			return broken("the log does not end with the entry that it said")
		}
	}
	inline := uint64(0)
	for i := range records {
		inline += uint64(len(records[i].Payload))
	}
	t.s.tally(func(p *Progress) { p.Pulled.add(len(records), inline) })
	return t.s.reach(func(e *state) {
		e.taken += uint64(res.Added)
		e.verify += took
	})
}

// prove makes the entries of a run whole and checks them, before anything else is done for them.
func (p *Replica) prove(of *taking, r *run) ([]logstore.Record, error) {
	v, err := p.Store.View()
	if err != nil {
		return nil, err
	}
	held := func(seq uint64) (bamboo.Hash, bool) {
		if seq == of.next-1 {
			return of.last, true
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

// receive gets the files that entries name, as far as they are not here. Nobody else receives them until release.
func (t *taker) receive(records []logstore.Record) (release func(), err error) {
	wants := filesOf(records)
	var releases []func()
	release = func() {
		for _, fn := range releases {
			fn()
		}
	}
	store := t.s.replica.Store
	var asked []fileWant
	for _, w := range wants {
		done, err := t.s.replica.claim(t.s.ctx, w.hash)
		if err != nil {
			return release, err
		}
		releases = append(releases, done)
		if w.from = store.HeldPayload(w.hash, w.size); w.from == w.size {
			continue
		}
		t.mu.Lock()
		t.awaited++
		t.mu.Unlock()
		if err := t.s.out.say(w.encode()); err != nil {
			return release, err
		}
		asked = append(asked, w)
	}
	return release, t.arrive(asked)
}

const (
	// smallFile is up to how long a file is held in memory while others come, since becoming durable takes a while for each; atOnce is
	// how many do that at the same time.
	smallFile = 128 << 10
	atOnce    = 16
)

// arrive stores the files that were asked for as they come.
func (t *taker) arrive(asked []fileWant) (err error) {
	var running sync.WaitGroup
	defer running.Wait()
	slots, failed := make(chan struct{}, atOnce), make(chan error, atOnce)
	for _, w := range asked {
		src := &fileReader{t: t}
		if w.size-w.from > smallFile {
			if err := t.keep(w, src, src); err != nil {
				return err
			}
			continue
		}
		data, err := io.ReadAll(io.LimitReader(src, 2*smallFile))
		if err != nil {
			return err
		}
		select {
		case slots <- struct{}{}:
		case err := <-failed:
			return err
		}
		running.Go(func() {
			defer func() { <-slots }()
			if err := t.keep(w, bytes.NewReader(data), src); err != nil {
				failed <- err
			}
		})
	}
	running.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// keep stores one file, of which data is what is read or was read from src.
func (t *taker) keep(w fileWant, data io.Reader, src *fileReader) error {
	err := t.s.replica.Store.ReceivePayload(w.hash, w.size, data)
	if err == nil {
		_, err = io.Copy(io.Discard, src)
	}
	if err != nil && src.refused {
		err = broken("it does not have a file that it named")
	}
	if err == nil {
		t.s.tally(func(p *Progress) { p.Pulled.add(0, w.size-w.from) })
	}
	return err
}

// fileReader reads one file out of the frames that come.
type fileReader struct {
	t       *taker
	part    []byte
	ended   bool
	refused bool
}

func (f *fileReader) Read(p []byte) (int, error) {
	for len(f.part) == 0 {
		if f.ended {
			return 0, io.EOF
		}
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.part)
	f.part = f.part[n:]
	return n, nil
}

// next waits for the next frame.
func (f *fileReader) next() error {
	t := f.t
	t.mu.Lock()
	for len(t.files) == 0 && !t.aborted {
		t.changed.Wait()
	}
	if t.aborted {
		t.mu.Unlock()
		return io.ErrUnexpectedEOF
	}
	part := t.files[0]
	t.files = t.files[1:]
	if part.end {
		t.mu.Unlock()
		f.ended, f.refused = true, !part.whole
		return nil
	}
	size := len(part.data) + 1
	t.filed -= size
	t.mu.Unlock()
	f.part = part.data
	return t.s.out.say(encodeNumber(kindFileRoom, uint64(size)))
}
