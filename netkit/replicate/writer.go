package replicate

import (
	"errors"
	"io"
	"sync"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
	"dibber/netkit/wire"
)

const (
	// runEntries and runBytes are about how much one run frame carries.
	runEntries = 1024
	runBytes   = 256 << 10
	// fileChunk is how much of a file one frame carries, fileWindow how much may be under way.
	fileChunk  = 128 << 10
	fileWindow = 2 << 20
	// fileGrant is for how many bytes the receiver gives credit at once.
	fileGrant = fileWindow / 8
	// maxControl is how many bytes of answers may wait: a peer that asks and does not read is up to something.
	maxControl = 8 << 20
)

var errStuffed = broken("it asks and does not read the answers")

// writer sends what is to be sent: answers first, then files, then runs, of these no more than the other side has room for.
type writer struct {
	s   *session
	dst io.Writer
	// Of the goroutine that writes:
	part  []byte   // room for a frame of a file
	ahead *opening // the file after the one that is being sent; nil if none was asked for yet

	mu       sync.Mutex // guards following
	changed  *sync.Cond
	control  [][]byte
	waiting  int // bytes in control
	room     int64
	fileRoom int64
	runs     []sending
	runsLast bool // no more runs will be asked for
	sent     bool
	files    []fileWant
	offered  map[bamboo.Hash]struct{} // files named in runs that were sent
	sought   int                      // files that were asked for without that
	unknown  []parcel                 // sent, and not known to be on the other side's disk
	payload  uint64                   // bytes of it that were sent
	closed   bool
}

// parcel is a frame of a run.
type parcel struct {
	size    uint64
	entries int
	payload uint64
}

// sending is a run that was asked for.
type sending struct {
	logID
	index    uint64
	next, to uint64
}

func newWriter(s *session, dst io.Writer) *writer {
	w := &writer{s: s, dst: dst, fileRoom: fileWindow, offered: make(map[bamboo.Hash]struct{})}
	w.changed = sync.NewCond(&w.mu)
	return w
}

// change changes what is to be sent.
func (w *writer) change(fn func()) {
	w.mu.Lock()
	fn()
	w.mu.Unlock()
	w.changed.Signal()
}

// say has an answer sent before anything else.
func (w *writer) say(frame []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting += len(frame); w.waiting > maxControl {
		return errStuffed
	}
	w.control = append(w.control, frame)
	w.changed.Signal()
	return nil
}

// ended reports whether no more runs may be asked for.
func (w *writer) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.runsLast
}

// close ends the writer when all answers are written.
func (w *writer) close() { w.change(func() { w.closed = true }) }

// run writes until the writer is closed.
func (w *writer) run() error {
	defer func() { w.ahead.drop() }()
	for {
		file, run, err := w.next()
		switch {
		case err != nil:
			return err
		case file != nil:
			err = w.sendFile(file)
		case run != nil:
			err = w.sendRun(run)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// next writes answers until there is something else to send. It returns neither when the writer was closed.
func (w *writer) next() (file *fileWant, run *sending, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case len(w.control) > 0:
			if err := w.answer(); err != nil {
				return nil, nil, err
			}
		case w.closed:
			return nil, nil, nil
		case len(w.files) > 0:
			f := w.files[0]
			w.files = w.files[1:]
			return &f, nil, nil
		case len(w.runs) > 0 && w.room > 0:
			return nil, &w.runs[0], nil
		case len(w.runs) == 0 && w.runsLast && !w.sent:
			w.sent = true
			w.mu.Unlock()
			err := w.s.allSent()
			w.mu.Lock()
			if err != nil {
				return nil, nil, err
			}
		default:
			w.changed.Wait()
		}
	}
}

// answer writes all answers that wait.
func (w *writer) answer() error {
	frames := w.control
	w.control, w.waiting = nil, 0
	w.mu.Unlock()
	defer w.mu.Lock()
	var out []byte
	for _, f := range frames {
		if len(f) > maxFrame {
			return wire.ErrTooLarge
		}
		out = wire.AppendFrame(out, f)
	}
	_, err := w.dst.Write(out)
	return err
}

func (w *writer) write(frame []byte) error {
	return wire.WriteFrame(w.dst, frame, maxFrame)
}

// sendRun sends the next frame of a run.
func (w *writer) sendRun(r *sending) error {
	records, err := w.s.collect(r)
	if err != nil && !errors.Is(err, errUnprovable) {
		return err
	}
	if err != nil {
		w.change(func() { w.runs = w.runs[1:] })
		return w.write(encodeSkip(r.index, skipUnprovable))
	}
	frame := encodeRun(r.index, records)
	if most := w.s.cfg.Limit; most > 0 && uint64(w.s.bytes.sent.Load())+uint64(len(frame)) > most/16*15-min(most/16*15, limitReserve) {
		return w.stop()
	}
	size := uint64(0)
	w.mu.Lock()
	w.room -= int64(len(frame))
	for i := range records {
		if records[i].PayloadSize > logstore.InlineMax {
			w.offered[records[i].PayloadHash] = struct{}{}
		} else {
			size += records[i].PayloadSize
		}
	}
	w.unknown = append(w.unknown, parcel{uint64(len(frame)), len(records), size})
	w.payload += size
	if r.next += uint64(len(records)); r.next > r.to {
		w.runs = w.runs[1:]
	}
	w.mu.Unlock()
	return w.write(frame)
}

// limitReserve is what is left of a limited path for all that is not runs.
const limitReserve = 8 << 10

// stop gives up all runs that are still to be sent: the path would not carry them.
func (w *writer) stop() error {
	w.mu.Lock()
	runs := w.runs
	w.runs = nil
	w.mu.Unlock()
	for _, r := range runs {
		if err := w.write(encodeSkip(r.index, skipLimit)); err != nil {
			return err
		}
	}
	return w.s.reach(func(e *state) { e.limited = true })
}

// stored notes that runs of so many bytes are on the other side's disk.
func (w *writer) stored(body []byte) error {
	n, err := decodeNumber(body)
	if err != nil {
		return err
	}
	var done Count
	w.mu.Lock()
	for n > 0 && len(w.unknown) > 0 && w.unknown[0].size <= n {
		n -= w.unknown[0].size
		done.add(w.unknown[0].entries, w.unknown[0].payload)
		w.unknown = w.unknown[1:]
	}
	w.mu.Unlock()
	if n > 0 || done.Entries == 0 {
		return broken("it gives credit for what it did not get")
	}
	if err := w.grant(&w.room, w.s.theirs.window, body); err != nil {
		return err
	}
	w.s.tally(func(p *Progress) { p.Pushed.add(done.Entries, done.Bytes) })
	return nil
}

// grant notes that the other side has room for more. It must not give back more than it got.
func (w *writer) grant(room *int64, most uint64, body []byte) error {
	n, err := decodeNumber(body)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n == 0 || n > most+maxFrame || *room+int64(n) > int64(most) {
		return broken("it gives credit for %d bytes, which it did not get", n)
	}
	*room += int64(n)
	w.changed.Signal()
	return nil
}

// get notes that a file is asked for, which must have been named and not been asked for before, or be one of not too many.
func (w *writer) get(f fileWant) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f.sought {
		if w.sought++; w.sought > maxSought || !w.s.theirs.seeks(&w.s.own) {
			return broken("it asks for files without end")
		}
	} else {
		if _, ok := w.offered[f.hash]; !ok {
			return broken("it asks for a file that was not named")
		}
		delete(w.offered, f.hash)
	}
	w.files = append(w.files, f)
	w.changed.Signal()
	return nil
}

// errUnprovable means that no part of a run can be sent: no signature in it verifies, or it is damaged or forked.
var errUnprovable = errors.New("run cannot be proven")

// collect reads the next frame of a run. It ends at an entry whose signature verifies, so that the receiver can prove it by itself.
func (s *session) collect(r *sending) ([]logstore.Record, error) {
	var out []logstore.Record
	size := 0
	err := s.view.Run(r.author, r.log, r.next, min(r.to, plus(r.next, runEntries-1)), func(rec logstore.Record) error {
		if out = append(out, rec); size > s.cfg.frame() {
			return errFound
		}
		size += minPiece + 16 + len(rec.Payload)
		return nil
	})
	if err != nil && !errors.Is(err, errFound) {
		return nil, damagedRun(err)
	}
	for len(out) > 0 && out[len(out)-1].Verify() != nil {
		out = out[:len(out)-1]
	}
	if len(out) == 0 {
		return nil, errUnprovable
	}
	return out, nil
}

// damagedRun lets a session go on without a log that the own store cannot read.
func damagedRun(err error) error {
	if _, ok := errors.AsType[*logstore.CorruptError](err); ok {
		return errUnprovable
	}
	return err
}
