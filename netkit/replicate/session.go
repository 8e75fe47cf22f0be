package replicate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
	"dibber/netkit/negentropy"
	"dibber/netkit/wire"
)

// Algo is how two sides find out in which logs they differ.
type Algo byte

const (
	// Auto takes the first of the others that can be taken.
	Auto Algo = iota
	// Cursor lists what has grown since the last session.
	Cursor
	// Vector lists all logs.
	Vector
	// Ranges reconciles the sets of heads.
	Ranges
)

// String returns the algorithm's word.
func (a Algo) String() string {
	return []string{"auto", "cursor", "vector", "rbsr"}[min(a, Ranges)]
}

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

// Stream is what a session runs over.
type Stream interface {
	io.ReadWriter
	// CloseWrite tells the other side that nothing more comes; Reset makes reads and writes on both sides fail.
	CloseWrite() error
	Reset() error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// SessionConfig says what a session is to do. The zero value answers.
type SessionConfig struct {
	// Dialled says that this side began; exactly one of the two does.
	Dialled bool
	// Peer names the other side, to remember how far it has come; empty does not.
	Peer string
	// NoPull takes nothing, NoPush gives nothing.
	NoPull, NoPush bool
	// Compare compares the roots and transfers nothing. List finds out what each side lacks and transfers nothing either.
	Compare, List bool
	// Algo is how to find out in which logs the sides differ; the side that dialled decides, as far as it can be done.
	Algo Algo
	// Limit is how many bytes the path carries each way before it is cut: runs go in small frames, and stop before; zero is no limit.
	Limit uint64
	// Idle is how long one frame may take to come, or to be taken; zero means a minute.
	Idle time.Duration
	// On is told of progress; nil means nobody. It is called by several goroutines, one at a time.
	On func(Progress)
	// OnMissing is told of every run that one side has and the other lacks, as far as this side learns of it; nil means nobody.
	OnMissing func(Missing)
}

func (c *SessionConfig) frame() int {
	if c.Limit > 0 {
		return logstore.InlineMax
	}
	return runBytes
}

// Missing is a run of a log that one side lacks.
type Missing struct {
	Author bamboo.Author
	Log    uint64
	// From and To are the numbers of the first and the last entry.
	From, To uint64
	// Here says that this side lacks it.
	Here bool
}

// Count counts entries and the bytes of their payloads.
type Count struct {
	Entries int    `json:"entries"`
	Bytes   uint64 `json:"bytes"`
}

func (c *Count) add(entries int, bytes uint64) {
	c.Entries += entries
	c.Bytes += bytes
}

// Progress is how far a session has come.
type Progress struct {
	Pulled Count `json:"pulled"`
	Pushed Count `json:"pushed"`
	// Have and Need are how many entries the other side and this one were found to lack so far.
	Have uint64 `json:"have"`
	Need uint64 `json:"need"`
}

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
	if compare := (s.own.flags|s.theirs.flags)&flagCompare != 0; compare || s.equal() {
		if !compare {
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

// greet exchanges the hellos.
func (s *session) greet() (err error) {
	if s.own, err = s.describe(); err != nil {
		return err
	}
	if s.cfg.Dialled {
		if err := s.recall(); err != nil {
			return err
		}
		if err := s.out.write(s.own.encode()); err != nil {
			return fmt.Errorf("hello: %w", err)
		}
	}
	frame, err := s.next()
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	if len(frame) == 0 || kind(frame[0]) != kindHello {
		if len(frame) > 0 && kind(frame[0]) == kindRefusal {
			return fmt.Errorf("%w by the peer: %q", ErrRefused, frame[1:])
		}
		return broken("it does not say hello")
	}
	if s.theirs, err = decodeHello(frame[1:]); err != nil {
		return err
	}
	s.rounds = 1
	if s.cfg.Dialled {
		s.algo = s.theirs.algo
		return nil
	}
	if err := s.recall(); err != nil {
		return err
	}
	s.algo = s.choose()
	s.own.algo = s.algo
	return s.out.write(s.own.encode())
}

// describe makes the own hello.
func (s *session) describe() (hello, error) {
	h := hello{
		algo: s.cfg.Algo, window: window, epoch: s.view.Epoch(), arrivals: s.view.Arrivals(), entries: uint64(s.view.Len()), root: s.view.Root(),
	}
	switch {
	case s.cfg.Compare:
		h.flags = flagCompare
	case !s.cfg.List:
		h.flags = flagTakes | flagGives
	}
	if s.cfg.NoPull {
		h.flags &^= flagTakes
	}
	if s.cfg.NoPush {
		h.flags &^= flagGives
	}
	sum, err := s.view.Sum(0, s.view.Len())
	if err != nil {
		return h, err
	}
	h.fingerprint = sum.Fingerprint()
	digest := newDigest()
	err = s.view.Heads(func(l logstore.Head) error {
		if l.Height > 0 {
			h.logs++
		}
		if l.Fork > 0 {
			digest.add(l.Author, l.Log, l.Fork)
		}
		return nil
	})
	h.forks = digest.sum()
	return h, err
}

// recall adds to the own hello how far this side has come with the other.
func (s *session) recall() error {
	if s.cursorName() == "" || s.cfg.List { // which is to count everything
		return nil
	}
	c, err := s.view.Cursor(s.cursorName())
	if errors.Is(err, logstore.ErrNotFound) {
		return nil
	}
	s.own.cursorEpoch, s.own.received = c.Epoch, c.Received
	return err
}

// cursorName is under what this side remembers the other: who dials knows a peer, who answers knows a store, whatever identity the
// peer has that day.
func (s *session) cursorName() string {
	if s.cfg.Dialled || s.cfg.Peer == "" {
		return s.cfg.Peer
	}
	return string(binary.BigEndian.AppendUint64([]byte("epoch"), s.theirs.epoch))
}

// choose decides how to find out in which logs the sides differ.
func (s *session) choose() Algo {
	here := s.own.cursorEpoch == s.theirs.epoch && s.own.received <= s.theirs.arrivals
	there := s.theirs.cursorEpoch == s.own.epoch && s.theirs.received <= s.own.arrivals
	// Nothing remembered is as good as a cursor at the beginning, unless that means to list many logs.
	cursor := here && (there || s.own.logs <= fewLogs) || there && s.theirs.logs <= fewLogs
	if !here {
		s.own.received = 0
	}
	many := s.own.logs > fewLogs || s.theirs.logs > fewLogs
	// Entries that differ though their sums do not were made to collide: sums over heads are not to be relied upon either.
	collided := s.own.entries == s.theirs.entries && s.own.fingerprint == s.theirs.fingerprint && s.own.root != s.theirs.root
	want := s.theirs.algo
	switch {
	case cursor && (want == Auto || want == Cursor):
		return Cursor
	case want == Vector, collided, !many && want != Ranges:
		return Vector
	default:
		return Ranges
	}
}

// equal reports whether there is nothing to do.
func (s *session) equal() bool {
	return s.own.root == s.theirs.root
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
		if err := s.take(kind(frame[0]), frame[1:]); err != nil {
			return err
		}
	}
}

// take deals with one frame.
func (s *session) take(k kind, body []byte) error {
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
		return s.takes.file(k, body)
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
	case kindGet:
		f, err := decodeFileWant(body)
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

// remember keeps how far this side has come with the other.
func (s *session) remember(equal bool) error {
	if s.cursorName() == "" || s.cfg.List {
		return nil
	}
	c, err := s.view.Cursor(s.cursorName())
	if errors.Is(err, logstore.ErrNotFound) {
		if !s.cfg.Dialled && s.ended.taken == 0 {
			return nil // who brings nothing leaves no trace
		}
		err = nil
	}
	if err != nil {
		return err
	}
	before := c
	s.mu.Lock()
	converged := equal || s.ownFin != nil && s.peerFin != nil && s.ownFin.root == s.peerFin.root
	switch {
	case converged, s.own.flags&flagTakes != 0 && s.theirs.flags&flagGives != 0 && !s.ended.incomplete && s.algo != Cursor:
		c.Epoch, c.Received = s.theirs.epoch, s.theirs.arrivals
	case s.algo == Cursor:
		c.Epoch, c.Received = 0, 0 // it did not lead there: the next session looks at everything
	}
	if converged || s.peerFin != nil && s.peerFin.complete && s.own.flags&flagGives != 0 {
		c.Acked = s.own.arrivals
	}
	s.mu.Unlock()
	c.Converged = converged
	if c == before { // nothing is written for nothing
		return nil
	}
	c.Synced = uint64(time.Now().UnixMilli())
	return s.replica.Store.SetCursor(s.cursorName(), c)
}

// next reads a frame, which cannot be drawn out for longer than it may take as a whole.
func (s *session) next() ([]byte, error) {
	if err := s.st.SetReadDeadline(time.Now().Add(s.cfg.Idle)); err != nil {
		return nil, err
	}
	return s.in.Next()
}

// counter counts the bytes of a stream, and bounds how long writing them may take.
type counter struct {
	Stream
	idle           time.Duration
	sent, received atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	c.received.Add(int64(n))
	return n, err
}

func (c *counter) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	n, err := c.Stream.Write(p)
	c.sent.Add(int64(n))
	return n, err
}
