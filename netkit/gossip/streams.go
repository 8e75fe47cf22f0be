package gossip

import (
	"context"
	"sync"
	"time"

	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// streams lends the library the node, with guards around its streams.
type streams struct {
	*host.Node
	s *Service

	mu       sync.Mutex // guards following
	closed   bool
	draining bool
	protos   []protocol.ID
	in       map[peer.ID]*guarded // the newest of each peer
	all      map[*guarded]struct{}
	out      map[peer.ID]*sender // the newest to each peer
	waiting  map[peer.ID]int     // messages queued for a peer, less those written
	left     int                 // streams that messages were written to and that are over
	running  sync.WaitGroup      // handlers of streams that peers opened
}

func newStreams(s *Service) *streams {
	return &streams{
		Node: s.n, s: s, in: make(map[peer.ID]*guarded), all: make(map[*guarded]struct{}),
		out: make(map[peer.ID]*sender), waiting: make(map[peer.ID]int),
	}
}

// SetStreamHandler puts a guard before the library's handler.
func (t *streams) SetStreamHandler(proto protocol.ID, serve network.StreamHandler) {
	t.mu.Lock()
	t.protos = append(t.protos, proto)
	t.mu.Unlock()
	t.Node.SetStreamHandler(proto, func(st network.Stream) {
		g := newGuarded(st, t.s)
		if !t.enter(g) {
			_ = st.ResetWithError(network.StreamShutdown)
			return
		}
		defer t.leave(g)
		serve(g)
	})
}

func (t *streams) enter(g *guarded) bool {
	p := g.Conn().RemotePeer()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.in[p] = g
	t.all[g] = struct{}{}
	t.running.Add(1)
	t.s.table.opened(p)
	return true
}

func (t *streams) leave(g *guarded) {
	p := g.Conn().RemotePeer()
	t.mu.Lock()
	last := t.in[p] == g
	if last {
		delete(t.in, p)
	}
	delete(t.all, g)
	t.mu.Unlock()
	if last {
		t.s.table.closed(p)
	}
	t.running.Done()
}

// NewStream opens the stream by which the library speaks to a peer.
func (t *streams) NewStream(ctx context.Context, p peer.ID, protos ...protocol.ID) (network.Stream, error) {
	st, err := t.Node.NewStream(ctx, p, protos...)
	if err != nil {
		t.gone(p)
		return nil, err
	}
	out := &sender{Stream: st, t: t, p: p, ended: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = st.Reset()
		return nil, ErrClosed
	}
	t.out[p] = out
	return out, nil
}

// queued notes messages in the queue of a peer.
func (t *streams) queued(p peer.ID, messages int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting[p] += messages // a queue may have some before its stream is open
}

// gone forgets the queue of a peer to which there is no stream: what came into it after the end of the stream is never written.
func (t *streams) gone(p peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out[p] == nil {
		delete(t.waiting, p)
	}
}

// sender is the stream by which the library speaks to a peer.
type sender struct {
	network.Stream
	t     *streams
	p     peer.ID
	sent  bool // messages; guarded by t.mu
	once  sync.Once
	ended chan struct{} // closed when the peer ended the stream, or it broke
	clean bool          // the peer ended it in order; read after ended
}

// Write sends one frame.
func (s *sender) Write(frame []byte) (int, error) {
	n, err := s.Stream.Write(frame)
	if err == nil {
		if messages := messagesIn(frame); messages > 0 {
			s.t.mu.Lock()
			s.sent = true
			if s.t.out[s.p] == s {
				s.t.waiting[s.p] -= messages
			}
			s.t.mu.Unlock()
		}
	}
	return n, err
}

// Read waits for the end of the stream: peers say nothing on it.
func (s *sender) Read(b []byte) (int, error) {
	n, err := s.Stream.Read(b)
	s.once.Do(func() {
		s.clean = isEOF(err)
		close(s.ended)
	})
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if s.t.out[s.p] == s {
		delete(s.t.out, s.p)
		delete(s.t.waiting, s.p)
		if s.sent && !s.t.draining {
			s.t.left++
		}
	}
	return n, err
}

// drainEvery is how often drain looks whether the queues are empty.
const drainEvery = 10 * time.Millisecond

// drain waits for the queues to be written, half-closes the streams, and waits until the peers end them as well, which an
// implementation does when it has read all there was.
func (t *streams) drain(ctx context.Context) (d Drained) {
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for t.backlog() > 0 && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	t.mu.Lock()
	t.draining = true
	d.Left = t.left
	var open []*sender
	for _, s := range t.out {
		if s.sent {
			open = append(open, s)
		}
	}
	t.mu.Unlock()
	for _, s := range open {
		_ = s.CloseWrite() // a stream that broke has ended
	}
	for _, s := range open {
		select {
		case <-s.ended:
			if s.clean {
				d.Confirmed++
			} else {
				d.Left++
			}
		case <-ctx.Done():
			d.Silent++
		}
	}
	return d
}

func (t *streams) backlog() (messages int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.waiting {
		messages += max(n, 0)
	}
	return messages
}

// close ends all streams, and waits for the handlers of those that peers opened.
func (t *streams) close() {
	t.mu.Lock()
	t.closed = true
	for _, proto := range t.protos {
		t.RemoveStreamHandler(proto)
	}
	for g := range t.all {
		_ = g.Reset()
	}
	for _, s := range t.out {
		_ = s.Reset()
	}
	t.mu.Unlock()
	t.running.Wait()
}
