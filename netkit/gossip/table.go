package gossip

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// table mirrors what the library knows of peers and topics: it tells that in passing only.
type table struct {
	s *Service

	mu       sync.Mutex // guards following
	peers    map[peer.ID]*neighbour
	joined   map[string]bool // the node takes part in the mesh of these topics
	mesh     map[string]map[peer.ID]time.Time
	fanout   map[string]map[peer.ID]time.Time // whom messages went to on topics that are not joined, when last
	names    map[string]struct{}              // of topics, all that the library ever heard of
	pending  map[string]*outcome              // messages of this node being published, by their ids
	lost     map[string]*atomic.Uint64        // by topic
	trace    *arrivals                        // nil without Config.Trace
	changed  chan struct{}                    // has room for one: subscriptions changed
	next     chan struct{}                    // closed, and replaced, at the next change of who is subscribed or listens
	relaying map[string]bool                  // topics that the node forwards for others
}

// neighbour is a peer that speaks gossip.
type neighbour struct {
	proto      protocol.ID // empty: it does not listen to this node yet
	topics     []string    // subscribed to, in order
	in         bool        // it has a stream to this node
	since      time.Time
	violations int // of the rules of the stream
}

// maxNames is of how many topics the library may hear. It never forgets a name, so this bounds the memory they take.
const maxNames = 1 << 17

func newTable(s *Service) *table {
	t := &table{
		s: s, peers: make(map[peer.ID]*neighbour), joined: make(map[string]bool), mesh: make(map[string]map[peer.ID]time.Time),
		fanout: make(map[string]map[peer.ID]time.Time), names: make(map[string]struct{}), pending: make(map[string]*outcome),
		lost: make(map[string]*atomic.Uint64), changed: make(chan struct{}, 1), next: make(chan struct{}),
	}
	if s.cfg.Trace {
		t.trace = newArrivals(s)
	}
	return t
}

// at is the entry of a peer, made if need be. The caller holds the lock.
func (t *table) at(p peer.ID) *neighbour {
	n := t.peers[p]
	if n == nil {
		n = &neighbour{since: time.Now()}
		t.peers[p] = n
	}
	return n
}

// forget drops the entry of a peer that has gone. The caller holds the lock.
func (t *table) forget(p peer.ID) {
	if n := t.peers[p]; n != nil && n.proto == "" && !n.in {
		delete(t.peers, p)
	}
}

// touched wakes who follows subscriptions.
func (t *table) touched() {
	t.mu.Lock()
	close(t.next)
	t.next = make(chan struct{})
	t.mu.Unlock()
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// subscribers are those who are subscribed to a topic and listen to this node, and what is closed when that may have changed. A
// subscription is often known before there is a stream to send on.
func (t *table) subscribers(topic string) (peers []peer.ID, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p, n := range t.peers {
		if n.proto != "" && slices.Contains(n.topics, topic) {
			peers = append(peers, p)
		}
	}
	return peers, t.next
}

// opened notes a stream that a peer opened, closed its end, after which the peer is subscribed to nothing.
func (t *table) opened(p peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at(p).in = true
}

func (t *table) closed(p peer.ID) {
	t.mu.Lock()
	n := t.peers[p]
	if n == nil {
		t.mu.Unlock()
		return
	}
	gone := n.topics
	n.topics, n.in = nil, false
	t.forget(p)
	t.mu.Unlock()
	for _, topic := range gone {
		t.s.cfg.On(Event{Kind: PeerLeft, Topic: topic, Peer: p})
	}
	t.touched()
}

// violated notes that a peer broke the rules of the stream.
func (t *table) violated(p peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at(p).violations++
}

func (t *table) violations(p peer.ID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.peers[p]; n != nil {
		return n.violations
	}
	return 0
}

// subscribe notes a subscription, and reports whether there is room for it.
func (t *table) subscribe(p peer.ID, topic string, most int) bool {
	t.mu.Lock()
	n := t.at(p)
	if slices.Contains(n.topics, topic) {
		t.mu.Unlock()
		return true
	}
	if _, known := t.names[topic]; len(n.topics) >= most || !known && len(t.names) >= maxNames {
		t.mu.Unlock()
		return false
	}
	t.names[topic] = struct{}{}
	n.topics = append(n.topics, topic)
	t.mu.Unlock()
	t.s.joined(p, topic)
	t.s.cfg.On(Event{Kind: PeerJoined, Topic: topic, Peer: p})
	t.touched()
	return true
}

// unsubscribe notes the end of a subscription, and reports whether there was one.
func (t *table) unsubscribe(p peer.ID, topic string) bool {
	t.mu.Lock()
	n := t.peers[p]
	i := -1
	if n != nil {
		i = slices.Index(n.topics, topic)
	}
	if i < 0 {
		t.mu.Unlock()
		return false
	}
	n.topics = slices.Delete(n.topics, i, i+1)
	t.mu.Unlock()
	t.s.cfg.On(Event{Kind: PeerLeft, Topic: topic, Peer: p})
	t.touched()
	return true
}

// outcome is where a message that is being published went.
type outcome struct {
	peers, missed []peer.ID
	begun         chan struct{}
}

// expect notes that a message is about to be published.
func (t *table) expect(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending[id] = &outcome{begun: make(chan struct{})}
}

// unexpect forgets a message that is not published after all.
func (t *table) unexpect(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pending, id)
}

// publishing is told when the library begins to send a message of this node.
func (t *table) publishing(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.pending[id]; o != nil {
		close(o.begun)
	}
}

// outcome waits until a message is with the queues of the neighbours, and returns which.
func (t *table) outcome(ctx context.Context, s *Service, id string) (peers, missed []peer.ID, err error) {
	t.mu.Lock()
	o := t.pending[id]
	t.mu.Unlock()
	select {
	case <-o.begun:
		// The library's loop is at it; an answer to another question means that it is done.
		s.ps.GetTopics()
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.ctx.Done():
		err = ErrClosed
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pending, id)
	return o.peers, o.missed, err
}

// losses counts the messages of a topic that its subscriptions were too slow for.
func (t *table) losses(topic string) *atomic.Uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lost[topic] == nil {
		t.lost[topic] = new(atomic.Uint64)
	}
	return t.lost[topic]
}
