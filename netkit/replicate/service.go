package replicate

import (
	"context"
	"errors"
	"sync"
	"time"

	"dibber/netkit/gossip"
	"dibber/netkit/host"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Protocol carries one session on each stream.
const Protocol protocol.ID = "/dibber/replicate/1.0.0"

// Config sets the limits of a [Service]. Its zero value works.
type Config struct {
	// Every is how often, about, the service begins a session with one of the connected peers that take part; it also begins one with
	// each that appears, and with all of them when entries came. Zero means 45 s, negative that it only answers.
	Every time.Duration
	// Sessions is how many sessions others may have with this node at once; zero means 8. PerPeer is how many one of them may; zero
	// means 2.
	Sessions, PerPeer int
	// Rate is how many sessions a second each peer may begin after a burst of Burst; zero means 2 and 20.
	Rate  float64
	Burst int
	// Idle is how long one frame may take to come, or to be taken; zero means a minute.
	Idle time.Duration
	// Gossip carries entries to those who take part, on [LiveTopic], as they are signed; nil leaves it to sessions. It must outlive the
	// service.
	Gossip *gossip.Service
	// On is told of every session that has ended, by several goroutines; nil means nobody. It must not block.
	On func(Event)
	// OnLive is told of every run of entries that came by Gossip, one at a time; nil means nobody. It must not block.
	OnLive func(Live)
}

// Event is a session that has ended.
type Event struct {
	Peer   peer.ID
	Began  bool // by this side
	Path   string
	Result Result
	Err    error
}

const (
	defaultEvery    = 45 * time.Second
	defaultSessions = 8
	defaultPerPeer  = 2
	defaultRate     = 2
	defaultBurst    = 20
	ratePeers       = 4096
	// sessionMemory is what a session may hold: a window of runs, one of files, a piece of a file each way, and a frame each way.
	sessionMemory = window + fileWindow + 2*fileChunk + 2*maxFrame
)

func (c Config) withDefaults() Config {
	if c.Every == 0 {
		c.Every = defaultEvery
	}
	if c.Sessions == 0 {
		c.Sessions = defaultSessions
	}
	if c.PerPeer == 0 {
		c.PerPeer = defaultPerPeer
	}
	if c.Rate == 0 {
		c.Rate = defaultRate
	}
	if c.Burst == 0 {
		c.Burst = defaultBurst
	}
	return c
}

// Service answers the sessions that peers begin, and begins some itself.
type Service struct {
	n       *host.Node
	replica *Replica
	cfg     Config
	limiter *wire.Limiter[peer.ID]
	sets    *wire.Service
	live    *live // nil without gossip
	// sessions are those under way.
	sessions sessions
	ctx      context.Context //nolint:containedctx // it ends with the service
	cancel   context.CancelFunc

	mu      sync.Mutex // guards following
	closed  bool
	all     int
	of      map[peer.ID]int
	running sync.WaitGroup
}

// New keeps a replica in step with those of connected peers, until Close.
func New(n *host.Node, r *Replica, cfg Config) (*Service, error) {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	s := &Service{
		n: n, replica: r, cfg: cfg, ctx: ctx, cancel: cancel, of: make(map[peer.ID]int),
		limiter: wire.NewLimiter[peer.ID](cfg.Rate, cfg.Burst, ratePeers),
	}
	err := s.startLive()
	if err == nil && cfg.Every > 0 {
		err = s.follow(cfg.Every)
	}
	if err != nil {
		cancel()
		return nil, errors.Join(err, s.end())
	}
	n.SetStreamHandler(Protocol, s.handle)
	s.serveSets()
	return s, nil
}

// Limits are those in force.
func (s *Service) Limits() Config { return s.cfg }

// Close ends every session and returns when none is left.
func (s *Service) Close() error {
	s.n.RemoveStreamHandler(Protocol)
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.n.RemoveStreamHandler(SetProtocol)
	return errors.Join(s.end(), s.sets.Close())
}

// end waits for everything that runs, and leaves the topic.
func (s *Service) end() error {
	s.running.Wait()
	if s.live == nil {
		return nil
	}
	s.replica.push(nil)
	return s.live.close()
}

// handle takes one stream, if there is room for it.
func (s *Service) handle(st network.Stream) {
	p := st.Conn().RemotePeer()
	if !s.limiter.Allow(p, time.Now()) {
		_ = st.ResetWithError(network.StreamRateLimited)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = st.ResetWithError(network.StreamShutdown)
		return
	}
	if s.all >= s.cfg.Sessions || s.of[p] >= s.cfg.PerPeer {
		s.running.Go(func() { refuse(st, "busy: there are too many sessions") })
		return
	}
	s.all++
	s.of[p]++
	s.running.Go(func() {
		s.answer(st, p)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.of[p]--; s.of[p] == 0 {
			delete(s.of, p)
		}
	})
}

// refuseTime bounds how long telling a refusal may take.
const refuseTime = 5 * time.Second

func refuse(st network.Stream, reason string) {
	err := st.SetDeadline(time.Now().Add(refuseTime))
	if err == nil {
		err = wire.WriteFrame(st, append([]byte{byte(kindRefusal)}, reason...), maxFrame)
	}
	if err == nil {
		err = st.Close()
	}
	if err != nil {
		_ = st.Reset() // it is refused either way
	}
}

// answer is one session.
func (s *Service) answer(st network.Stream, p peer.ID) {
	scope := st.Scope()
	if scope.SetService(string(Protocol)) != nil || scope.ReserveMemory(sessionMemory, network.ReservationPriorityAlways) != nil {
		_ = st.ResetWithError(network.StreamResourceLimitExceeded)
		return
	}
	defer scope.ReleaseMemory(sessionMemory)
	path := pathOf(st.Conn())
	use, _ := s.n.CircuitUse(st.Conn())
	listed := s.sessions.begin(p, false, path)
	res, err := s.replica.Run(s.ctx, st, SessionConfig{Peer: string(p), Idle: s.cfg.Idle, Limit: use.Bytes, On: listed.came})
	listed.done()
	if err != nil {
		code := network.StreamErrorCode(0)
		if errors.Is(err, ErrProtocol) {
			code = network.StreamProtocolViolation
		}
		_ = st.ResetWithError(code)
	} else {
		_ = st.Close() // all that was to be said was said
	}
	if s.cfg.On != nil {
		s.cfg.On(Event{Peer: p, Path: path, Result: res, Err: err})
	}
}
