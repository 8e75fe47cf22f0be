package rendezvous

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// news is a change on its way to watchers. They share its frames, which are
// made when the first of them needs one.
type news struct {
	*change
	mu sync.Mutex
	// frames are by the flavours asked for, and by whether all namespaces
	// were, for which cookies differ.
	frames [3][2][]byte
}

// frame returns the message for watchers of a kind.
func (n *news) frame(f watchFlavours, ns string, key cookieKey, now time.Duration) []byte {
	all := 0
	if ns == "" {
		all = 1
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frames[f][all] == nil {
		n.frames[f][all] = n.message(f, ns, key, now).encode()
	}
	return n.frames[f][all]
}

func (n *news) message(f watchFlavours, ns string, key cookieKey, now time.Duration) *watchMessage {
	c := f.choice()
	m := &watchMessage{seq: &n.seq}
	switch {
	case n.put() && c.wanted().takes(n.e.packed):
		m.kind = new(watchAdd)
		if n.kind == changeRefresh {
			m.kind = new(watchRefresh)
		}
		m.encoded = c.appendEntry(nil, fieldWatchRegistrations, n.e, now)
		m.cookie = key.mint(ns, n.seq)
		return m
	case n.kind == changeExpire:
		m.kind = new(watchExpire)
	default:
		// Removed, or evicted, or refreshed with a record that the watcher
		// did not ask for. No cookie: what came before in the sequence may
		// still be on its way.
		m.kind = new(watchRemove)
	}
	m.ns, m.peer = &n.e.space.ns, new(string(n.e.owner.id))
	return m
}

// gap is what a watcher has lost.
type gap struct {
	// from is the lowest number lost.
	from uint64
	// removal is set when a removal is among it, of which no snapshot tells.
	removal bool
}

// watcher is a queue of news.
type watcher struct {
	peer peer.ID
	ns   string
	size int
	wake chan struct{}

	mu    sync.Mutex
	queue []*news
	lost  *gap
}

// push queues news. It never blocks: when the queue is full, everything is lost
// until the watcher has caught up.
func (w *watcher) push(n *news) {
	w.mu.Lock()
	switch {
	case w.lost != nil:
		w.lost.from = min(w.lost.from, n.seq)
		w.lost.removal = w.lost.removal || !n.put()
	case len(w.queue) >= w.size:
		w.lost = &gap{from: n.seq, removal: !n.put()}
	default:
		w.queue = append(w.queue, n)
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take empties the queue. Only when it is empty it tells of a gap.
func (w *watcher) take() (queue []*news, lost *gap) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) > 0 {
		queue, w.queue = w.queue, nil
		return queue, nil
	}
	lost, w.lost = w.lost, nil
	return nil, lost
}

// hub spreads news among watchers.
type hub struct {
	// total is how many watchers there are; without any, news cost nothing.
	total atomic.Int64

	mu    sync.RWMutex
	by    map[string]map[*watcher]struct{} // by namespace; "" is all
	peers map[peer.ID]int
}

func newHub() *hub {
	return &hub{by: make(map[string]map[*watcher]struct{}), peers: make(map[peer.ID]int)}
}

// join adds a watcher, unless there are too many.
func (h *hub) join(w *watcher, limits *Limits) *StatusError {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.peers[w.peer] >= limits.PeerWatchers {
		return refusal(reasonWatchers, "at most %d watchers a peer", limits.PeerWatchers)
	}
	if h.total.Load() >= int64(limits.Watchers) {
		return refusal(reasonWatchers, "at most %d watchers", limits.Watchers)
	}
	h.total.Add(1)
	h.peers[w.peer]++
	if h.by[w.ns] == nil {
		h.by[w.ns] = make(map[*watcher]struct{})
	}
	h.by[w.ns][w] = struct{}{}
	return nil
}

func (h *hub) leave(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.total.Add(-1)
	if h.peers[w.peer]--; h.peers[w.peer] == 0 {
		delete(h.peers, w.peer)
	}
	delete(h.by[w.ns], w)
	if len(h.by[w.ns]) == 0 {
		delete(h.by, w.ns)
	}
}

func (h *hub) publish(c *change) {
	if h.total.Load() == 0 {
		return
	}
	n := &news{change: c}
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, ns := range []string{c.e.space.ns, ""} {
		for w := range h.by[ns] {
			w.push(n)
		}
	}
}
