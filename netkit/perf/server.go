package perf

import (
	"context"
	"sync"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// ServerConfig bounds what measuring takes from a server. The zero value works.
type ServerConfig struct {
	// Streams is how many exchanges go on at once; 0 means 8.
	Streams int
	// PerPeer is how many of them are of one peer; 0 means 2.
	PerPeer int
	// Duration is how long one exchange may take; 0 means one minute.
	Duration time.Duration
}

const (
	// Round trips are an exchange each.
	exchangesPerSecond = 50
	exchangeBurst      = 100
	exchangePeers      = 1024
)

func (c ServerConfig) withDefaults() ServerConfig {
	if c.Streams == 0 {
		c.Streams = 8
	}
	if c.PerPeer == 0 {
		c.PerPeer = 2
	}
	if c.Duration == 0 {
		c.Duration = time.Minute
	}
	return c
}

// Server answers those who measure.
type Server struct {
	n       *host.Node
	cfg     ServerConfig
	limiter *wire.Limiter[peer.ID]
	sent    []byte
	ctx     context.Context
	cancel  context.CancelFunc

	mu      sync.Mutex
	closed  bool
	streams int
	perPeer map[peer.ID]int
	running sync.WaitGroup
}

// New answers [Protocol] and [RawProtocol] on n.
func New(n *host.Node, cfg ServerConfig) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		n: n, cfg: cfg.withDefaults(), sent: noise(), ctx: ctx, cancel: cancel, perPeer: make(map[peer.ID]int),
		limiter: wire.NewLimiter[peer.ID](exchangesPerSecond, exchangeBurst, exchangePeers),
	}
	n.SetStreamHandler(Protocol, func(st network.Stream) {
		s.serve(st, func() error { return answer(st, s.sent, make([]byte, chunkSize)) })
	})
	n.SetStreamHandler(RawProtocol, func(st network.Stream) {
		s.serve(st, func() error { return s.raw(st) })
	})
	return s
}

// Limits are those in force.
func (s *Server) Limits() ServerConfig { return s.cfg }

// Close ends every exchange and returns when none is left.
func (s *Server) Close() error {
	s.n.RemoveStreamHandler(Protocol)
	s.n.RemoveStreamHandler(RawProtocol)
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.running.Wait()
	return nil
}

// serve admits a stream, answers it and ends it.
func (s *Server) serve(st network.Stream, answer func() error) {
	p := st.Conn().RemotePeer()
	if code, ok := s.enter(p); !ok {
		_ = st.ResetWithError(code)
		return
	}
	defer s.leave(p)
	stop := context.AfterFunc(s.ctx, func() { _ = st.ResetWithError(network.StreamShutdown) })
	defer stop()
	scope := st.Scope()
	if scope.SetService(string(Protocol)) != nil || scope.ReserveMemory(chunkSize, network.ReservationPriorityAlways) != nil {
		_ = st.ResetWithError(network.StreamResourceLimitExceeded)
		return
	}
	defer scope.ReleaseMemory(chunkSize)
	if st.SetDeadline(time.Now().Add(s.cfg.Duration)) != nil || answer() != nil {
		_ = st.Reset()
		return
	}
	_ = st.Close()
}

// enter admits an exchange with p, or says why not.
func (s *Server) enter(p peer.ID) (network.StreamErrorCode, bool) {
	if !s.limiter.Allow(p, time.Now()) {
		return network.StreamRateLimited, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return network.StreamShutdown, false
	case s.streams == s.cfg.Streams, s.perPeer[p] == s.cfg.PerPeer:
		return network.StreamResourceLimitExceeded, false
	}
	s.streams++
	s.perPeer[p]++
	s.running.Add(1)
	return 0, true
}

func (s *Server) leave(p peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams--
	if s.perPeer[p]--; s.perPeer[p] == 0 {
		delete(s.perPeer, p)
	}
	s.running.Done()
}
