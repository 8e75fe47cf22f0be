package p2panda

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// ErrTaken is returned by [New] where somebody else handles the protocol on the node, or holds its streams.
var ErrTaken = errors.New("protocol is spoken already")

// Config says what is exchanged and how often.
type Config struct {
	// Store is where entries come from and go to. It is read through when the service begins. Required.
	Store Store
	// Schemas are the ids of those that are exchanged, in any order; empty means all that peers announce. p2panda's own are not
	// added: a peer takes documents of an application's schema only once it has its definition.
	Schemas []string
	// Admit decides whether a peer may bring size bytes of operations to a log; nil lets everybody bring everything. done is told whether
	// they were stored. A peer brings again, in every session, what was not admitted.
	Admit func(p peer.ID, log LogID, size uint64) (done func(stored bool), err error)
	// Interval is the time between sessions with a peer when nothing changes; zero means 30 s. Whatever is stored begins one within a
	// second.
	Interval time.Duration
	// Timeout is how long a session may make no progress, and how long it may take to read or write one message; zero means 60 s.
	Timeout time.Duration
	// On is told what happens, one call at a time for each connection. Nil tells nobody.
	On func(Event)
}

// Event is something that happened on a connection; one of its parts is set.
type Event struct {
	Peer peer.ID `json:"peer"`
	// Relayed says that the connection goes through a relay.
	Relayed bool `json:"relayed"`
	// Announced are the schemas that the peer announced.
	Announced []string `json:"announced,omitempty"`
	// Session is one that ended.
	Session *Session `json:"session,omitempty"`
	// Closed is why the connection was closed.
	Closed error `json:"-"`
}

// Service speaks the protocol on all connections of a node, whoever opened them.
type Service struct {
	node    *host.Node
	cfg     Config
	replica *replica
	ctx     context.Context
	cancel  context.CancelFunc
	notify  *network.NotifyBundle

	mu       sync.Mutex
	closed   bool
	channels map[network.Conn]*channel
	syncs    map[peer.ID]*progress
	running  sync.WaitGroup
}

// New reads the store and begins. It must come before anything that holds the protocol's streams ([host.Node.HoldStreams]), which then
// leaves them to the service.
func New(n *host.Node, cfg Config) (*Service, error) {
	if cfg.Interval == 0 {
		cfg.Interval = 30 * time.Second
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute
	}
	if slices.Contains(n.Mux().Protocols(), ProtocolID) {
		return nil, fmt.Errorf("speak %s: %w", ProtocolID, ErrTaken)
	}
	r, err := newReplica(cfg.Store, cfg.Schemas)
	if err != nil {
		return nil, fmt.Errorf("speak %s: %w", ProtocolID, err)
	}
	r.admit = cfg.Admit
	s := &Service{node: n, cfg: cfg, replica: r, channels: make(map[network.Conn]*channel), syncs: make(map[peer.ID]*progress)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.notify = &network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { s.channel(c) },
		DisconnectedF: func(_ network.Network, c network.Conn) { s.lost(c) },
	}
	n.SetStreamHandler(ProtocolID, s.handle)
	n.Network().Notify(s.notify)
	for _, c := range n.Network().Conns() {
		s.channel(c)
	}
	return s, nil
}

// Close ends all sessions where they are and returns when nothing of the service runs any more. Connections stay.
func (s *Service) Close() error {
	s.node.RemoveStreamHandler(ProtocolID)
	s.node.Network().StopNotify(s.notify)
	s.mu.Lock()
	s.closed = true
	s.cancel()
	for _, c := range s.channels {
		c.reset()
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// channel returns what is spoken on a connection, and begins to speak on one where that is not so yet; nil after Close.
func (s *Service) channel(conn network.Conn) *channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.channels[conn]; c != nil || s.closed {
		return c
	}
	if conn.IsClosed() {
		return nil
	}
	c := newChannel(s, conn)
	s.channels[conn] = c
	s.running.Go(func() {
		c.run()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.channels[conn] == c {
			delete(s.channels, conn)
		}
	})
	return c
}

func (s *Service) lost(conn network.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.channels[conn]; c != nil {
		c.cancel(ErrLost)
	}
}

// handle reads what a peer writes on the stream that it opened.
func (s *Service) handle(in network.Stream) {
	c := s.channel(in.Conn())
	if c == nil || !c.enter(in) {
		_ = in.ResetWithError(network.StreamShutdown)
		return
	}
	defer s.running.Done()
	code := c.read(in)
	_ = in.ResetWithError(code)
}

// mayAsk says whether sessions are begun on a connection: not where another to the same peer is direct, or as good and older.
func (s *Service) mayAsk(c *channel) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.channels {
		if o != c && o.conn.RemotePeer() == c.conn.RemotePeer() && o.spoken.Load() &&
			(c.relayed && !o.relayed || c.relayed == o.relayed && o.opened.Before(c.opened)) {
			return false
		}
	}
	return true
}

// syncing says whether a peer is being synchronised with.
func (s *Service) syncing(p peer.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.syncs[p] != nil
}

func (s *Service) tell(c *channel, e Event) {
	e.Peer, e.Relayed = c.conn.RemotePeer(), c.relayed
	s.mu.Lock()
	if e.Session != nil && len(c.told) < maxTold {
		c.told = append(c.told, *e.Session)
	}
	if p := s.syncs[e.Peer]; p != nil {
		p.note(&e, s.replica.target(p.theirs))
	}
	s.mu.Unlock()
	if s.cfg.On != nil {
		s.cfg.On(e)
	}
}
