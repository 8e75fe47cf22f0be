package wire

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limiter is a token bucket for each of a bounded number of keys: peers, or the
// networks they are in. When the table is full the key unheard for longest is
// forgotten, so memory stays bounded however many ask.
type Limiter[K comparable] struct {
	limit rate.Limit
	burst int
	size  int

	mu      sync.Mutex
	buckets map[K]*list.Element
	recent  *list.List // of *bucket[K], last heard first
}

type bucket[K comparable] struct {
	key    K
	tokens *rate.Limiter
}

// NewLimiter returns a Limiter that lets each key make perSecond requests a
// second after a burst of burst, and remembers size keys.
func NewLimiter[K comparable](perSecond float64, burst, size int) *Limiter[K] {
	return &Limiter[K]{
		limit:   rate.Limit(perSecond),
		burst:   burst,
		size:    max(size, 1),
		buckets: make(map[K]*list.Element),
		recent:  list.New(),
	}
}

// Allow reports whether key may make a request at now, and counts it if so.
func (l *Limiter[K]) Allow(key K, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(key).AllowN(now, 1)
}

// Reserve counts n requests of key at now, of a burst at most, and returns how long key has to wait before it makes another.
func (l *Limiter[K]) Reserve(key K, now time.Time, n int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(key).ReserveN(now, min(n, l.burst)).DelayFrom(now)
}

// of returns the bucket of key. The caller holds the lock.
func (l *Limiter[K]) of(key K) *rate.Limiter {
	el, ok := l.buckets[key]
	if !ok {
		if len(l.buckets) >= l.size {
			oldest := l.recent.Back()
			delete(l.buckets, oldest.Value.(*bucket[K]).key)
			l.recent.Remove(oldest)
		}
		el = l.recent.PushFront(&bucket[K]{key: key, tokens: rate.NewLimiter(l.limit, l.burst)})
		l.buckets[key] = el
	}
	l.recent.MoveToFront(el)
	return el.Value.(*bucket[K]).tokens
}

// Forget takes back what key has used of its rate.
func (l *Limiter[K]) Forget(key K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if el, ok := l.buckets[key]; ok {
		l.recent.Remove(el)
		delete(l.buckets, key)
	}
}
