package pipe

import (
	"context"
	"sync"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// ListenConfig configures a Listener. Its zero value takes 64 sessions at once.
type ListenConfig struct {
	Config
	// Sessions is how many sessions may run at once; 0 means 64.
	Sessions int
}

const (
	defaultSessions = 64
	// Streams of one peer: a session needs one at a time, and another when its path
	// changes.
	streamsPerSecond = 5
	streamBurst      = 20
	streamPeers      = 1024
)

// Listener takes the sessions that others begin.
type Listener struct {
	n       *host.Node
	cfg     ListenConfig
	limiter *wire.Limiter[peer.ID]
	take    func(peer.ID, *Session)
	ctx     context.Context
	cancel  context.CancelFunc

	mu       sync.Mutex // guards following
	closed   bool
	sessions map[sessionKey]*Session
	running  sync.WaitGroup
}

// sessionKey keeps a peer from taking over another's session.
type sessionKey struct {
	peer peer.ID
	id   sessionID
}

// Listen calls take, in a goroutine of its own, for each session that a peer begins
// with n. The session is closed when take returns.
func Listen(n *host.Node, cfg ListenConfig, take func(peer.ID, *Session)) *Listener {
	cfg.Config = cfg.withDefaults()
	if cfg.Sessions == 0 {
		cfg.Sessions = defaultSessions
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Listener{
		n: n, cfg: cfg, take: take, ctx: ctx, cancel: cancel, sessions: make(map[sessionKey]*Session),
		limiter: wire.NewLimiter[peer.ID](streamsPerSecond, streamBurst, streamPeers),
	}
	n.SetStreamHandler(Protocol, l.serve)
	return l
}

// Close ends every session and returns when none is left.
func (l *Listener) Close() error {
	l.n.RemoveStreamHandler(Protocol)
	l.mu.Lock()
	l.closed = true
	for _, s := range l.sessions {
		s.fail(context.Canceled)
	}
	l.mu.Unlock()
	l.cancel()
	l.running.Wait()
	return nil
}

// serve takes one stream.
func (l *Listener) serve(st network.Stream) {
	p := st.Conn().RemotePeer()
	if !l.limiter.Allow(p, time.Now()) {
		_ = st.ResetWithError(network.StreamRateLimited)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = st.ResetWithError(network.StreamShutdown)
		return
	}
	l.running.Go(func() { l.carry(p, st) })
}

// carry lets a stream carry the session that it names.
func (l *Listener) carry(p peer.ID, st network.Stream) {
	stop := context.AfterFunc(l.ctx, func() { _ = st.Reset() })
	defer stop()
	scope := st.Scope()
	if scope.SetService(string(Protocol)) != nil || scope.ReserveMemory(2*maxFrame, network.ReservationPriorityAlways) != nil {
		_ = st.ResetWithError(network.StreamResourceLimitExceeded)
		return
	}
	defer scope.ReleaseMemory(2 * maxFrame)
	if st.SetDeadline(time.Now().Add(helloTimeout)) != nil {
		_ = st.Reset()
		return
	}
	frames := wire.NewReader(st, maxFrame)
	hello, err := frames.Next()
	if err != nil || len(hello) > maxHello {
		_ = st.ResetWithError(network.StreamProtocolViolation)
		return
	}
	id, received, err := decodeHello(hello)
	if err != nil {
		_ = st.ResetWithError(network.StreamProtocolViolation)
		return
	}
	s, ok := l.session(sessionKey{p, id}, received)
	if !ok {
		_ = st.ResetWithError(network.StreamResourceLimitExceeded)
		return
	}
	if wire.WriteFrame(st, encodeCount(s.leave()), maxHello) != nil || st.SetDeadline(time.Time{}) != nil {
		_ = st.Reset()
		return
	}
	l.cfg.tell(p, st.Conn())
	_ = s.attach(st, frames, received, spareOn(l.n, st.Conn())) // the session keeps the error
	if st.Conn().IsClosed() && !s.over() && !s.carried() {
		l.cfg.tell(p, nil)
	}
}

// session is the one that a stream names, begun if it is new and there is room.
func (l *Listener) session(key sessionKey, received uint64) (*Session, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.sessions[key]; s != nil {
		return s, true
	}
	if l.closed || received > 0 || len(l.sessions) == l.cfg.Sessions {
		return nil, false // closed, ended before, or no room
	}
	s := newSession(key.id, l.cfg.Window)
	l.sessions[key] = s
	l.running.Go(func() {
		l.take(key.peer, s)
		_ = s.Close() // returns nil always
		s.running.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.sessions, key)
	})
	s.running.Go(func() { s.expire(l.cfg.Patience) })
	return s, true
}
