package p2panda

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/network"
	"golang.org/x/time/rate"
)

var (
	// ErrUnsupported is returned for a peer that does not speak the protocol.
	ErrUnsupported = errors.New("peer does not speak the protocol")
	// ErrAbused is why a connection is closed whose peer sends what is no message, or more of them than it has reason to.
	ErrAbused = errors.New("peer breaks the protocol")
	// ErrLost is why a synchronisation ends whose connection does.
	ErrLost = errors.New("connection ended")

	errRefused = errors.New("peer closed its end")
)

const (
	service = "p2panda"
	// memory is what a connection takes at most: a message, the entries that wait to be stored, and as much to write.
	memory = 2*MaxMessage + batchBytes
	// supportedWithin is how long a peer may take to say whether it speaks the protocol.
	supportedWithin = 10 * time.Second
	// maxTold is how many sessions of a connection are kept for a synchronisation that begins later.
	maxTold = 8
	// maxMalformed is how many streams of a connection may end with what is no message.
	maxMalformed = 3
	// perSecond and burst are how many messages that are no entries a peer may send. It has reason for some three sessions in 5 s.
	perSecond = 5
	burst     = 50
)

// channel is a link on its connection: this side's stream, the reader of the other's, and the clock.
type channel struct {
	service *Service
	conn    network.Conn
	relayed bool
	opened  time.Time
	ctx     context.Context
	cancel  context.CancelCauseFunc
	wake    chan struct{}
	// spoken says that the peer has said something.
	spoken atomic.Bool
	talk   *rate.Limiter

	told []Session // the first ones that ended, by the lock of the service

	mu        sync.Mutex
	link      *link
	in        network.Stream
	malformed int
}

func newChannel(s *Service, conn network.Conn) *channel {
	c := &channel{
		service: s, conn: conn, relayed: conn.Stat().Limited, opened: conn.Stat().Opened, wake: make(chan struct{}, 1),
		talk: rate.NewLimiter(perSecond, burst),
		link: &link{
			lib: s.replica, self: s.node.ID(), peer: conn.RemotePeer(), interval: s.cfg.Interval, timeout: s.cfg.Timeout,
		},
	}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	return c
}

// run writes until the connection is of no use any more.
func (c *channel) run() {
	err := c.speak()
	if errors.Is(err, errRefused) && !c.spoken.Load() && !c.supported() {
		err = ErrUnsupported
	}
	c.mu.Lock()
	busy := len(c.link.sessions) > 0
	c.mu.Unlock()
	c.reset()
	if c.service.ctx.Err() != nil {
		return
	}
	// A peer that does not speak, or does not any more, keeps its connection, which may serve others; one that holds a session for
	// unfinished can only forget it by losing the connection.
	if busy || !errors.Is(err, errRefused) && !errors.Is(err, ErrUnsupported) {
		_ = c.conn.Close()
	}
	c.service.tell(c, Event{Closed: err})
}

// supported asks whether the peer speaks the protocol: one that does not ends the stream, mostly without saying why.
func (c *channel) supported() bool {
	ctx, cancel := context.WithTimeout(c.service.ctx, supportedWithin)
	defer cancel()
	ok, err := c.service.node.Supports(ctx, c.conn, ProtocolID)
	return ok || err != nil
}

// speak opens this side's stream and writes on it what the link has to say.
func (c *channel) speak() (err error) {
	out, err := c.service.node.OpenStream(c.ctx, c.conn, ProtocolID)
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	var draining sync.WaitGroup
	defer func() {
		c.cancel(err)
		draining.Wait()
		err = context.Cause(c.ctx) // what came first
	}()
	context.AfterFunc(c.ctx, func() { _ = out.Reset() }) // a peer may not read what is written
	if err := reserve(out); err != nil {
		return err
	}
	defer out.Scope().ReleaseMemory(memory)
	draining.Go(func() { c.cancel(c.drain(out)) })
	w := writer{channel: c, out: out, buf: bufio.NewWriterSize(out, 64<<10)}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		if err := c.tick(&w); err != nil {
			return err
		}
		select {
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		case <-c.wake:
		case <-ticker.C:
		}
	}
}

func reserve(s network.Stream) error {
	if err := s.Scope().SetService(service); err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	if err := s.Scope().ReserveMemory(memory, network.ReservationPriorityAlways); err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return nil
}

// drain waits for the end of this side's stream, on which the peer has nothing to say.
func (c *channel) drain(out network.Stream) error {
	_, err := io.Copy(io.Discard, io.LimitReader(out, MaxMessage))
	if host.NotSupported(err) {
		return ErrUnsupported
	}
	if err == nil {
		return errRefused
	}
	return fmt.Errorf("%w: %w", errRefused, err)
}

// tick has the link do what is due, writes what it wants written, and tells what ended.
func (c *channel) tick(w *writer) error {
	version, err := c.service.replica.refresh()
	if err != nil {
		return err
	}
	mayAsk := c.service.mayAsk(c)
	eager := c.service.syncing(c.conn.RemotePeer())
	c.mu.Lock()
	c.link.eager = eager
	err = c.link.tick(time.Now(), version, mayAsk)
	outs := c.link.take()
	c.mu.Unlock()
	for _, o := range outs {
		if err == nil {
			err = w.write(o)
		}
	}
	c.report()
	return err
}

// report tells of the sessions that have ended.
func (c *channel) report() {
	c.mu.Lock()
	ended := c.link.ended
	c.link.ended = nil
	c.mu.Unlock()
	for _, s := range ended {
		c.service.tell(c, Event{Session: &s})
	}
}

// enter makes a stream the one that is read, in place of another.
func (c *channel) enter(in network.Stream) bool {
	c.service.mu.Lock()
	defer c.service.mu.Unlock()
	if c.service.closed {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return false
	}
	if c.in != nil {
		_ = c.in.Reset()
	}
	c.in = in
	c.service.running.Add(1)
	return true
}

// reset ends the reading.
func (c *channel) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.in != nil {
		_ = c.in.Reset()
	}
}

// read takes in messages until the stream ends, and returns with what to reset it.
func (c *channel) read(in network.Stream) network.StreamErrorCode {
	if err := reserve(in); err != nil {
		return network.StreamResourceLimitExceeded
	}
	defer in.Scope().ReleaseMemory(memory)
	r := NewReader(in)
	for {
		// Between messages a peer may be silent for as long as it likes, in one it may not.
		_ = in.SetReadDeadline(time.Time{})
		err := r.Wait()
		_ = in.SetReadDeadline(time.Now().Add(c.service.cfg.Timeout))
		var m Message
		if err == nil {
			m, err = r.Next()
		}
		if err != nil {
			if c.ctx.Err() == nil && !errors.Is(err, io.EOF) {
				c.fault(in, err)
			}
			return network.StreamProtocolViolation
		}
		if _, ok := m.(Entry); !ok && !c.talk.Allow() {
			c.cancel(fmt.Errorf("%w: too many messages", ErrAbused))
			return network.StreamRateLimited
		}
		if err := c.take(m, r.Buffered()); err != nil {
			c.cancel(err)
			return network.StreamShutdown
		}
	}
}

// fault counts streams that end in the middle of something. A stream that made room for another is none of them.
func (c *channel) fault(in network.Stream, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.in != in {
		return
	}
	if c.malformed++; c.malformed >= maxMalformed {
		c.cancel(fmt.Errorf("%w: %w", ErrAbused, err))
	}
}

// take gives a message to the link; more says that others are there already.
func (c *channel) take(m Message, more bool) error {
	c.spoken.Store(true)
	c.mu.Lock()
	before := c.link.theirs
	err := c.link.receive(time.Now(), m)
	if err == nil && !more {
		err = c.link.flush(time.Now())
	}
	announced := c.link.theirs
	c.mu.Unlock()
	if announced != before {
		c.service.tell(c, Event{Announced: announced.Schemas})
	}
	c.nudge()
	return err
}

// nudge has the writer look.
func (c *channel) nudge() {
	select {
	case c.wake <- struct{}{}:
	default: // it is about to
	}
}

// writer writes messages on this side's stream.
type writer struct {
	channel *channel
	out     network.Stream
	buf     *bufio.Writer
}

func (w *writer) write(o output) error {
	if o.message != nil {
		return errors.Join(w.message(o.message), w.buf.Flush())
	}
	return w.lacking(o.lacking)
}

func (w *writer) message(m Message) error {
	data, err := Encode(m)
	if err != nil {
		return err
	}
	if err := w.out.SetWriteDeadline(time.Now().Add(w.channel.service.cfg.Timeout)); err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	if _, err := w.buf.Write(data); err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return nil
}

// errOver ends the writing for a session that is over.
var errOver = errors.New("session is over")

// lacking writes the entries that the peer of a session lacks.
func (w *writer) lacking(s *session) error {
	c := w.channel
	c.mu.Lock()
	held := c.link.held(s)
	c.mu.Unlock()
	err := c.service.replica.lacking(s.set, held, func(r Record) error {
		err := w.message(Entry{Session: s.id, Entry: r.Raw, Operation: r.Operation})
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.link.open(s) {
			return errors.Join(errOver, err)
		}
		c.link.wrote(time.Now(), s, r.place())
		return err
	})
	if errors.Is(err, errOver) {
		return w.buf.Flush()
	}
	if err == nil {
		err = errors.Join(w.message(SyncDone{Session: s.id}), w.buf.Flush())
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link.wroteAll(time.Now(), s)
	return nil
}
