package wire

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Request is one frame a peer sent.
type Request struct {
	// Peer is the authenticated sender.
	Peer peer.ID
	// Conn is the connection the request came over.
	Conn network.Conn
	// Body is the frame's payload. The handler owns it.
	Body []byte
}

// Handler answers one request. A nil reply sends nothing, an error resets the
// stream. The context ends when the service closes.
type Handler func(ctx context.Context, req Request) (reply []byte, err error)

// ServiceConfig sets the guards of a [Service].
type ServiceConfig struct {
	// Name is the resource manager's service name. Required.
	Name string
	// MaxRequest is the largest request in bytes; zero means 4096. That much
	// memory is reserved for each open stream.
	MaxRequest int
	// MaxReply is the largest reply in bytes; zero means 1 MiB.
	MaxReply int
	// Timeout bounds each request from waiting for it to its reply written;
	// zero means 10 s.
	Timeout time.Duration
	// MaxStreams is how many streams are open at once; zero means 512, which
	// is below what a resource manager grants a service. Above it, the stream
	// that has waited longest for its request is reset for a new one: peers
	// that hold streams open keep nobody out.
	MaxStreams int
	// Rate is how many requests a second each peer may make; zero means 20.
	Rate float64
	// Burst is how many requests a peer may make at once; zero means 100.
	Burst int
	// RatePeers is how many peers the rate limit remembers; zero means 4096.
	RatePeers int
	// Screen takes the place of Rate, Burst and Limited where it is set: it
	// looks at each request before the handler does, and refuses it with a
	// reply, after which the stream is closed, or with nil, which resets it.
	// It must cost less than the handler.
	Screen func(req Request) (reply []byte, refused bool)
	// Limited answers a request over the rate limit, after which the stream
	// is closed. It must cost less than the handler. Nil, or a nil reply,
	// resets the stream.
	Limited func(req Request) (reply []byte)
	// Abused is told of a peer that broke the rules again and again: with
	// frames that are too long or cut off, with streams on which no request
	// came or that had to make room, and what [Service.Fault] was told of. It
	// is free to do so ten times, and once more every ten seconds. Nil tells
	// nobody. It is called by the handler of a stream, which goes on when it
	// returns.
	Abused func(peer.ID)
}

// How many faults a peer is free to make at once, and how many a second.
const (
	freeFaults      = 10
	faultsPerSecond = 0.1
)

func (c ServiceConfig) withDefaults() ServiceConfig {
	c.MaxRequest = cmp.Or(c.MaxRequest, 4096)
	c.MaxReply = cmp.Or(c.MaxReply, 1<<20)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.MaxStreams = cmp.Or(c.MaxStreams, 512)
	c.Rate = cmp.Or(c.Rate, 20)
	c.Burst = cmp.Or(c.Burst, 100)
	c.RatePeers = cmp.Or(c.RatePeers, 4096)
	return c
}

var (
	errServiceClosed = errors.New("service closed")
	errRateLimited   = errors.New("rate limit reached")
	errNoMemory      = errors.New("resource limit reached")
	errLastReply     = errors.New("no more requests on this stream")
)

// Service serves a request-reply protocol. A stream may carry several requests
// one after the other; the client's half-close ends it in good order.
type Service struct {
	cfg     ServiceConfig
	handler Handler
	limiter *Limiter[peer.ID]
	faults  *Limiter[peer.ID]
	ctx     context.Context
	cancel  context.CancelFunc
	readers sync.Pool // of *Reader: streams are short and many

	mu      sync.Mutex
	closed  bool
	streams map[network.Stream]*list.Element
	// waiting lists the streams that wait for a request, the longest first;
	// of the others the element in streams is nil.
	waiting *list.List
	running sync.WaitGroup
}

// NewService returns a Service that answers with handler. The caller sets its
// [Service.Handle] as the host's stream handler, and removes it before Close.
func NewService(cfg ServiceConfig, handler Handler) *Service {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	return &Service{
		readers: sync.Pool{New: func() any { return NewReader(nil, cfg.MaxRequest) }},
		cfg:     cfg,
		handler: handler,
		limiter: NewLimiter[peer.ID](cfg.Rate, cfg.Burst, cfg.RatePeers),
		faults:  NewLimiter[peer.ID](faultsPerSecond, freeFaults, cfg.RatePeers),
		ctx:     ctx,
		cancel:  cancel,
		streams: make(map[network.Stream]*list.Element),
		waiting: list.New(),
	}
}

// Close stops waiting for requests, lets those being answered finish within
// the Timeout, and returns when no handler runs any more.
func (s *Service) Close() error {
	s.mu.Lock()
	s.closed = true
	s.cancel()
	for st := range s.streams {
		// A deadline in the past wakes the reader and leaves the write side.
		_ = st.SetReadDeadline(time.Unix(1, 0))
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// Handle serves one stream; it is a [network.StreamHandler].
func (s *Service) Handle(st network.Stream) {
	displaced, ok := s.enter(st)
	if !ok {
		_ = st.ResetWithError(network.StreamShutdown)
		return
	}
	defer s.leave(st)
	if displaced != nil {
		s.Fault(displaced.Conn().RemotePeer())
	}
	if err := s.serve(st); err != nil {
		_ = st.ResetWithError(resetCode(err))
		return
	}
	_ = st.Close()
}

// enter admits a stream, and returns the one that had to make room for it, if
// any.
func (s *Service) enter(st network.Stream) (displaced network.Stream, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false
	}
	if longest := s.waiting.Front(); len(s.streams) >= s.cfg.MaxStreams && longest != nil {
		displaced = s.waiting.Remove(longest).(network.Stream)
		// It is off the count at once, though its handler has yet to notice.
		delete(s.streams, displaced)
		_ = displaced.ResetWithError(network.StreamResourceLimitExceeded)
	}
	s.streams[st] = nil
	s.running.Add(1)
	return displaced, true
}

// Fault counts a fault of a peer, and reports the peer when it has made too
// many. Handlers call it for what only they can see.
func (s *Service) Fault(p peer.ID) {
	if s.cfg.Abused != nil && !s.faults.Allow(p, time.Now()) {
		s.cfg.Abused(p)
	}
}

func (s *Service) leave(st network.Stream) {
	s.mu.Lock()
	s.stopWaiting(st)
	delete(s.streams, st)
	s.mu.Unlock()
	s.running.Done()
}

// stopWaiting takes a stream off the waiting ones. The caller holds the lock.
func (s *Service) stopWaiting(st network.Stream) {
	if place := s.streams[st]; place != nil {
		s.waiting.Remove(place)
		s.streams[st] = nil
	}
}

// received notes that a stream's request is there.
func (s *Service) received(st network.Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopWaiting(st)
}

// arm starts the deadline of the next request, or returns errServiceClosed. It
// holds the lock so that it cannot undo the deadline with which Close wakes
// readers.
func (s *Service) arm(st network.Stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errServiceClosed
	}
	if _, open := s.streams[st]; open {
		s.streams[st] = s.waiting.PushBack(st)
	}
	return st.SetDeadline(time.Now().Add(s.cfg.Timeout))
}

func (s *Service) serve(st network.Stream) error {
	scope := st.Scope()
	if err := scope.SetService(s.cfg.Name); err != nil {
		return fmt.Errorf("%w: %w", errNoMemory, err)
	}
	if err := scope.ReserveMemory(s.cfg.MaxRequest, network.ReservationPriorityAlways); err != nil {
		return fmt.Errorf("%w: %w", errNoMemory, err)
	}
	defer scope.ReleaseMemory(s.cfg.MaxRequest)
	frames := s.readers.Get().(*Reader)
	frames.reset(st)
	defer s.release(frames)
	for answered := false; ; answered = true {
		if answered && frames.Ended() {
			// The end of the stream goes with the reply.
			return nil
		}
		err := s.arm(st)
		if answered && errors.Is(err, errServiceClosed) {
			// Not a reset, which would take back the last reply.
			return nil
		}
		if err != nil {
			return err
		}
		body, err := frames.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			err = s.readError(err)
			if breaks(err) || !answered && timedOut(err) {
				s.Fault(st.Conn().RemotePeer())
			}
			return err
		}
		s.received(st)
		err = s.answer(st, Request{Peer: st.Conn().RemotePeer(), Conn: st.Conn(), Body: body})
		if errors.Is(err, errLastReply) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// release keeps a stream's reader for another stream.
func (s *Service) release(frames *Reader) {
	frames.reset(nil)
	s.readers.Put(frames)
}

// readError tells a reader that Close woke from one that failed by itself.
func (s *Service) readError(err error) error {
	if s.ctx.Err() != nil {
		return errServiceClosed
	}
	return err
}

func (s *Service) answer(st network.Stream, req Request) error {
	if reply, refused := s.screen(req); refused {
		return s.refuse(st, reply)
	}
	reply, err := s.handler(s.ctx, req)
	if err != nil || reply == nil {
		return err
	}
	// A reply is held for as long as the peer takes to read it. It has the
	// room of the request, which is done with.
	if more := len(reply) - s.cfg.MaxRequest; more > 0 {
		scope := st.Scope()
		if err := scope.ReserveMemory(more, network.ReservationPriorityAlways); err != nil {
			return fmt.Errorf("%w: %w", errNoMemory, err)
		}
		defer scope.ReleaseMemory(more)
	}
	return WriteFrame(st, reply, s.cfg.MaxReply)
}

// screen refuses a request over the limit.
func (s *Service) screen(req Request) (reply []byte, refused bool) {
	switch {
	case s.cfg.Screen != nil:
		return s.cfg.Screen(req)
	case s.limiter.Allow(req.Peer, time.Now()):
		return nil, false
	case s.cfg.Limited == nil:
		return nil, true
	default:
		return s.cfg.Limited(req), true
	}
}

// refuse ends the stream of a request over the limit, after its reply: a client
// that goes on has to open another, which the resource manager counts.
func (s *Service) refuse(st network.Stream, reply []byte) error {
	if reply == nil {
		return errRateLimited
	}
	if err := WriteFrame(st, reply, s.cfg.MaxReply); err != nil {
		return err
	}
	return errLastReply
}

// breaks reports whether a frame could not be read for what the peer sent.
func breaks(err error) bool {
	return errors.Is(err, ErrTooLarge) || errors.Is(err, ErrBadLength) || errors.Is(err, io.ErrUnexpectedEOF)
}

func timedOut(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

func resetCode(err error) network.StreamErrorCode {
	switch {
	case errors.Is(err, errServiceClosed):
		return network.StreamShutdown
	case errors.Is(err, errRateLimited):
		return network.StreamRateLimited
	case errors.Is(err, errNoMemory):
		return network.StreamResourceLimitExceeded
	default:
		return network.StreamProtocolViolation
	}
}
