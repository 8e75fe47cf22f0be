package wire

import (
	"container/list"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

// Limiter is a token bucket for each of a bounded number of peers. When the
// table is full the peer unheard for longest is forgotten, so memory stays
// bounded however many identities ask.
type Limiter struct {
	limit rate.Limit
	burst int
	size  int

	mu      sync.Mutex
	buckets map[peer.ID]*list.Element
	recent  *list.List // of *bucket, last heard first
}

type bucket struct {
	peer   peer.ID
	tokens *rate.Limiter
}

// NewLimiter returns a Limiter that lets each peer make perSecond requests a
// second after a burst of burst, and remembers size peers.
func NewLimiter(perSecond float64, burst, size int) *Limiter {
	return &Limiter{
		limit:   rate.Limit(perSecond),
		burst:   burst,
		size:    max(size, 1),
		buckets: make(map[peer.ID]*list.Element),
		recent:  list.New(),
	}
}

// Allow reports whether p may make a request at now, and counts it if so.
func (l *Limiter) Allow(p peer.ID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	el, ok := l.buckets[p]
	if !ok {
		if len(l.buckets) >= l.size {
			oldest := l.recent.Back()
			delete(l.buckets, oldest.Value.(*bucket).peer)
			l.recent.Remove(oldest)
		}
		el = l.recent.PushFront(&bucket{peer: p, tokens: rate.NewLimiter(l.limit, l.burst)})
		l.buckets[p] = el
	}
	l.recent.MoveToFront(el)
	return el.Value.(*bucket).tokens.AllowN(now, 1)
}
