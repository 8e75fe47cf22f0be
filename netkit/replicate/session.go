package replicate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"dibber/netkit/logstore"
	"dibber/netkit/negentropy"
	"dibber/netkit/wire"
)

const (
	minWindow = 64 << 10
	// window is how many bytes of runs may be under way: what a cut can cost.
	window = 1 << 20
	// fewLogs is up to how many logs are listed rather than reconciled.
	fewLogs = 256
	// idle is how long one frame may take to come, or to be taken.
	idle = time.Minute
	// partTime is how long the end of the other side is waited for.
	partTime = 5 * time.Second
)

// session is one side of one session.
type session struct {
	replica *Replica
	cfg     SessionConfig
	st      Stream
	ctx     context.Context //nolint:containedctx // it is that of the one call of run
	in      *wire.Reader
	bytes   *counter
	out     *writer
	takes   *taker
	view    *logstore.View
	own     hello
	theirs  hello
	algo    Algo

	// Of the goroutine that reads.
	got      uint64 // heads listed by the other side
	gotAll   bool
	asked    uint64 // runs asked for by the other side
	budget   int    // questions that the other side may still ask
	initiate *negentropy.Initiator
	respond  *negentropy.Responder
	mine     map[negentropy.ID]head // by what negentropy calls them
	differ   map[negentropy.ID]head // those of mine that the other side lacks
	wanted   map[negentropy.ID]struct{}
	answered int // messages of negentropy
	searches map[logID]*search
	heights  map[logID]uint64 // of what the other side listed, with List

	listed []head // told to the other side; complete before anything is asked for

	mu       sync.Mutex // guards following
	progress Progress
	ended    state
	forks    map[logID]uint64
	rounds   int
	err      error
	peerFin  *fin
	ownFin   *fin
}

// state is what must be done before a side says that it is.
type state struct {
	sent     bool // all that was asked for
	received bool // all that this side asked for, and it is on disk
	searches int  // under way
	// incomplete says that something the other side has was not taken.
	incomplete bool
	limited    bool // runs were given up for the limit of the path
	refused    int
	reason     string
	taken      uint64
	logs       int // of which runs moved
	minimum    float64
	verify     time.Duration
}

// Run is one side of a session over a stream. The result is also good, as far as it goes, when there is an error.
func (r *Replica) Run(ctx context.Context, st Stream, cfg SessionConfig) (res Result, err error) {
	if cfg.Idle == 0 {
		cfg.Idle = idle
	}
	view, err := r.Store.View()
	if err != nil {
		return res, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &session{
		replica: r, cfg: cfg, st: st, ctx: ctx, view: view, bytes: &counter{Stream: st, idle: cfg.Idle},
		searches: make(map[logID]*search), forks: make(map[logID]uint64),
	}
	s.in = wire.NewReader(s.bytes, maxFrame)
	s.out = newWriter(s, s.bytes)
	s.takes = newTaker(s)
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	err = s.run()
	if err != nil {
		s.fail(err)
		_ = st.Reset() // the first error is the one to tell
		err = s.cause()
	}
	if s.ended.taken > 0 {
		r.change()
	}
	return s.result(), errors.Join(err, view.Close())
}

// fail ends the session; the first error is the one that counts.
func (s *session) fail(err error) {
	s.mu.Lock()
	first := s.err == nil
	if first {
		s.err = err
	}
	s.mu.Unlock()
	if first {
		_ = s.st.Reset() // wakes whoever reads or writes
	}
}

func (s *session) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return s.err
}

func (s *session) run() error {
	if err := s.greet(); err != nil {
		return err
	}
	if s.atOnce() {
		if s.equal() {
			if err := s.remember(true); err != nil {
				return err
			}
		}
		s.part()
		return nil
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.out.run(); err != nil {
			s.fail(fmt.Errorf("write: %w", err))
		}
	})
	running.Go(func() {
		if err := s.takes.run(); err != nil {
			s.fail(err)
		}
	})
	s.out.change(func() { s.out.room = int64(s.theirs.window) })
	err := s.begin()
	if err == nil {
		err = s.read()
	}
	if err != nil {
		s.fail(err)
	}
	s.out.close()
	s.takes.close(err != nil)
	running.Wait()
	s.takes.release()
	s.mu.Lock()
	err = s.err
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.part()
	return s.remember(false)
}

// part ends a session that is over. The side that dialled waits for the other to have heard its last word, since it may take the
// connection away next. Errors mean no more than that the other side has left already.
func (s *session) part() {
	if s.st.CloseWrite() == nil && s.cfg.Dialled && s.st.SetReadDeadline(time.Now().Add(partTime)) == nil {
		_, _ = s.in.Next()
	}
}

// read takes frames until both sides are done.
func (s *session) read() error {
	for {
		s.mu.Lock()
		done := s.ownFin != nil && s.peerFin != nil
		s.mu.Unlock()
		if done {
			return nil
		}
		frame, err := s.next()
		if err != nil {
			s.mu.Lock()
			done := s.ownFin != nil && s.peerFin != nil
			s.mu.Unlock()
			if done { // the other side had our last word and left
				return nil
			}
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read: %w", err)
		}
		if len(frame) == 0 {
			return broken("an empty frame")
		}
		if err := s.take(frame); err != nil {
			return err
		}
	}
}

// take deals with one frame.
func (s *session) take(frame []byte) error {
	k, body := kind(frame[0]), frame[1:]
	switch k {
	case kindHeads:
		return s.onHeads(body)
	case kindWants:
		return s.onWants(body)
	case kindNegentropy:
		return s.onNegentropy(body)
	case kindAsk:
		return s.onAsk(body)
	case kindRun, kindSkip, kindProof, kindSent:
		return s.takes.put(k, body)
	case kindFile, kindFileEnd:
		return s.takes.file(frame)
	case kindProbe:
		return s.onProbe(body)
	case kindPoints:
		return s.onPoints(body)
	case kindFetch:
		return s.onFetch(body)
	case kindEntry:
		return s.onEntry(body)
	case kindCredit:
		return s.out.stored(body)
	case kindFileRoom:
		return s.out.grant(&s.out.fileRoom, fileWindow, body)
	case kindGet, kindSeek:
		f, err := decodeFileWant(k, body)
		if err != nil {
			return err
		}
		return s.out.get(f)
	case kindFin:
		return s.onFin(body)
	case kindHello, kindRefusal:
	}
	return broken("frame of kind %d where none can be", k)
}

func (s *session) onFin(body []byte) error {
	f, err := decodeFin(body)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peerFin != nil {
		return broken("it ends twice")
	}
	s.peerFin = &f
	return nil
}

// tally changes the progress and tells it.
func (s *session) tally(fn func(*Progress)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(&s.progress)
	if s.cfg.On != nil {
		s.cfg.On(s.progress)
	}
}

// reach notes that something is done, and says so when all is.
func (s *session) reach(fn func(*state)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(&s.ended)
	if !s.ended.sent || !s.ended.received || s.ended.searches > 0 || s.ownFin != nil {
		return nil
	}
	v, err := s.replica.Store.View()
	if err != nil {
		return err
	}
	s.ownFin = &fin{complete: !s.ended.incomplete, root: v.Root(), taken: s.ended.taken, refused: uint64(s.ended.refused)}
	if err := v.Close(); err != nil {
		return err
	}
	return s.out.say(s.ownFin.encode())
}

// allSent passes the proofs of forks on, if the other side knows others, and says that all was sent.
func (s *session) allSent() error {
	if s.own.forks != s.theirs.forks && !s.cfg.List {
		err := s.view.Forks(func(f logstore.Fork) error { return s.out.write(encodeProof(f.Kept.Raw, f.Other.Raw)) })
		if err != nil {
			return err
		}
	}
	if err := s.out.write([]byte{byte(kindSent)}); err != nil {
		return err
	}
	return s.reach(func(e *state) { e.sent = true })
}

// next reads a frame, which cannot be drawn out for longer than it may take as a whole.
func (s *session) next() ([]byte, error) {
	if err := s.st.SetReadDeadline(time.Now().Add(s.cfg.Idle)); err != nil {
		return nil, err
	}
	return s.in.Next()
}
