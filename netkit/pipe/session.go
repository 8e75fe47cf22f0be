package pipe

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
)

var (
	// ErrLost means that the session had no connection for longer than it may.
	ErrLost = errors.New("connection lost")
	// ErrAborted means that the other side ended the session before it was over.
	ErrAborted = errors.New("other side gave up")
)

// Session is one pipe: what is written at one side is read at the other. It is safe for
// one reader and one writer at a time.
type Session struct {
	id      sessionID
	running sync.WaitGroup // what keeps the session going

	mu   sync.Mutex // guards following
	out  outgoing
	in   incoming
	err  error         // why the session ended early
	news chan struct{} // closed, and made anew, at every change
	use  *attachment   // the stream in use, nil when there is none
	idle time.Time     // since when there is none
	vain bool          // a relayed stream was spared, and no direct one came
}

// attachment is a stream while it carries a session.
type attachment struct {
	stream network.Stream
	gone   chan struct{} // closed when it carries the session no more
	budget int           // bytes of data that may be sent now; guarded by Session.mu
	rest   uint64        // bytes beyond, which may be sent if they are the last
}

func newSession(id sessionID, window int) *Session {
	return &Session{id: id, out: outgoing{window: window}, in: incoming{window: window}, news: make(chan struct{}), idle: time.Now()}
}

// changed wakes whoever waits. The caller holds s.mu.
func (s *Session) changed() {
	close(s.news)
	s.news = make(chan struct{})
}

// await runs f under the lock, again after each change, until it returns true.
func (s *Session) await(f func() bool) {
	for {
		s.mu.Lock()
		done, news := f(), s.news
		s.mu.Unlock()
		if done {
			return
		}
		<-news
	}
}

// Read reads what the other side wrote. It returns io.EOF after its CloseWrite, and
// ErrLost or os.ErrClosed when the session ended before.
func (s *Session) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.await(func() bool {
		var eof bool
		if n, eof = s.in.take(p); n > 0 || eof {
			if eof {
				err = io.EOF
			}
			s.changed()
			return true
		}
		err = s.err
		return err != nil
	})
	return n, err
}

// Write keeps p until the other side has consumed it, and waits while the window is
// full.
func (s *Session) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		s.await(func() bool {
			switch room := s.out.room(); {
			case s.err != nil:
				err = s.err
			case s.out.ended:
				err = os.ErrClosed
			case room > 0:
				m := min(room, len(p)-n)
				s.out.kept = append(s.out.kept, p[n:n+m]...)
				n += m
				s.changed()
			default:
				return false
			}
			return true
		})
	}
	return n, err
}

// CloseWrite tells the other side that nothing more comes.
func (s *Session) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.out.ended {
		s.out.ended = true
		s.changed()
	}
	return nil
}

// Close ends the session at once; what was not consumed is lost.
func (s *Session) Close() error {
	s.fail(os.ErrClosed)
	return nil
}

// fail ends the session with an error, unless it has ended.
func (s *Session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		s.changed()
	}
	if s.use != nil {
		// Its loops end, the other side being told if that is still possible.
		_ = s.use.stream.SetDeadline(time.Now().Add(lingering))
	}
}

// finished reports whether both directions are over and the other side knows it. The
// caller holds s.mu.
func (s *Session) finished() bool { return s.out.finished && s.in.over && s.in.told == s.in.read }

// Wait returns when both directions are over and nothing of the session runs any more,
// or the error that ended it.
func (s *Session) Wait() (err error) {
	s.await(func() bool {
		err = s.err
		// The last stream goes when the other side has read all that was said on it.
		return err != nil || s.finished() && s.use == nil
	})
	s.running.Wait()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// over reports whether there is nothing left to carry.
func (s *Session) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil || s.finished()
}

// carried reports whether a stream is in use.
func (s *Session) carried() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.use != nil
}

// leave gives up the stream in use, so that nothing more arrives on it, and returns how
// many bytes have. What is under way comes again on the next stream.
func (s *Session) leave() (received uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.use != nil {
		_ = s.use.stream.Reset() // its loops end
		s.use, s.idle = nil, time.Now()
		s.changed()
	}
	return s.in.received()
}

// expire ends the session when no stream has carried it for so long.
func (s *Session) expire(patience time.Duration) {
	for {
		s.mu.Lock()
		over := s.err != nil || s.finished()
		left := patience
		if s.use == nil {
			left = time.Until(s.idle.Add(patience))
		}
		news := s.news
		s.mu.Unlock()
		switch {
		case over:
			return
		case left <= 0:
			s.fail(ErrLost)
			return
		}
		wait := time.NewTimer(left)
		select {
		case <-news:
		case <-wait.C:
		}
		wait.Stop()
	}
}

// attach lets a stream carry the session after leave, and returns when it does so no
// longer. received is what the other side has received, budget how many bytes may be sent
// at once.
func (s *Session) attach(st network.Stream, frames *wire.Reader, received uint64, budget int) error {
	a := &attachment{stream: st, gone: make(chan struct{}), budget: budget, rest: spareRest * uint64(budget)}
	defer s.spare(a)()
	s.mu.Lock()
	if s.err == nil {
		s.err = s.out.restart(received)
	}
	if s.err != nil { // to tell the other side is all that the stream is for
		_ = st.SetDeadline(time.Now().Add(lingering))
	}
	s.use = a
	s.in.told = 0
	s.changed()
	s.mu.Unlock()

	var loops sync.WaitGroup
	loops.Go(func() { s.receive(a, frames) })
	s.send(a)
	loops.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.use == a {
		s.use, s.idle = nil, time.Now()
		s.changed()
	}
	return s.err
}

// detach notes that a stream carries nothing any more.
func (s *Session) detach(a *attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-a.gone:
	default:
		close(a.gone)
		_ = a.stream.Reset() // wakes the loop that still waits on it
		s.changed()
	}
}

// send writes frames until the stream fails, is replaced, or all is said.
func (s *Session) send(a *attachment) {
	defer s.detach(a)
	for {
		var frame []byte
		over, giveUp := false, false
		s.await(func() bool {
			select {
			case <-a.gone:
				over = true
				return true
			default:
			}
			if s.err != nil || s.use != a {
				over, giveUp = true, s.use == a && !errors.Is(s.err, ErrAborted)
				return true
			}
			frame = s.nextFrame(a)
			if frame == nil && s.finished() {
				over = true
			}
			return over || frame != nil
		})
		if over {
			s.farewell(a, giveUp)
			return
		}
		if err := wire.WriteFrame(a.stream, frame, maxFrame); err != nil {
			return
		}
	}
}

// farewell closes a stream in good order when the session is over, so that the last
// frame is not taken back by a reset. giveUp tells the other side that it is over early.
func (s *Session) farewell(a *attachment, giveUp bool) {
	s.mu.Lock()
	done := s.finished()
	s.mu.Unlock()
	if giveUp {
		_ = wire.WriteFrame(a.stream, []byte{byte(abort)}, maxFrame) // the stream may be broken
	}
	if done || giveUp {
		_ = a.stream.CloseWrite()
		select {
		case <-a.gone:
		case <-time.After(lingering):
		}
	}
}

// lingering is how long a stream is kept for its last frame to arrive.
const lingering = 2 * time.Second

// nextFrame is what to say next on a stream, nil for nothing. The caller holds s.mu.
func (s *Session) nextFrame(a *attachment) []byte {
	if count, worth := s.in.news(); worth {
		s.in.told = count
		return append([]byte{byte(consumed)}, encodeCount(count)...)
	}
	if left := s.out.last() - s.out.sent; a.budget <= 0 && left > 0 && !(s.out.ended && left <= a.rest) {
		return nil
	}
	piece, isEnd := s.out.next()
	a.budget -= len(piece)
	switch {
	case isEnd:
		return []byte{byte(end)}
	case piece != nil:
		return append([]byte{byte(data)}, piece...)
	}
	return nil
}

// receive takes frames until the stream fails or ends.
func (s *Session) receive(a *attachment, frames *wire.Reader) {
	defer s.detach(a)
	for {
		frame, err := frames.Next()
		if err != nil {
			return
		}
		if err := s.take(a, frame); err != nil {
			s.fail(err)
			return
		}
	}
}

// take applies one frame.
func (s *Session) take(a *attachment, frame []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.use != a {
		return nil // said on a stream that was left: it is said again on the other
	}
	if len(frame) == 0 {
		return errProtocol
	}
	defer s.changed()
	switch body := frame[1:]; kind(frame[0]) {
	case data:
		return s.in.arrived(body)
	case consumed:
		count, err := decodeCount(body)
		if err != nil {
			return err
		}
		return s.out.consumed(count)
	case end:
		s.in.ended = true
		return nil
	case abort:
		return ErrAborted
	default:
		return errProtocol
	}
}
