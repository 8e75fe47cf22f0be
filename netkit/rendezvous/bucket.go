package rendezvous

import (
	"sync"
	"time"
)

// bucketKeys is how many peers, and how many prefixes, are limited at a time.
const bucketKeys = 16384

// buckets is a token bucket for each key. Of a bucket it keeps the moment at
// which it will be full again (the generic cell rate algorithm), so that a full
// bucket need not be kept, and a change of the rate holds at once.
type buckets[K comparable] struct {
	mu sync.Mutex
	// full are moments in seconds since the registry's start; in floating
	// point because a rate may be far below one a century.
	full   map[K]float64
	size   int
	purged float64
}

func newBuckets[K comparable](size int) *buckets[K] {
	return &buckets[K]{full: make(map[K]float64), size: size}
}

// take takes a token of key's bucket at now, or reports that there is none.
func (b *buckets[K]) take(now time.Duration, key K, rate Rate) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := now.Seconds()
	cost := 1 / rate.PerSecond
	full, kept := b.full[key]
	// At most empty: the rate may have been lower when it was emptied.
	full = min(max(full, at), at+cost*float64(rate.Burst))
	// The small part of a token is for rounding.
	if full+cost-at > cost*(float64(rate.Burst)+1e-6) {
		if kept {
			b.full[key] = full
		}
		return false
	}
	full += cost
	if !kept && len(b.full) >= b.size {
		b.makeRoom(at)
	}
	b.full[key] = full
	return true
}

// makeRoom forgets full buckets, at most once a second, or else any one. That
// one starts anew, full: what a crowd of more keys than there is room for can
// win by it is bounded by the limits on prefixes and registrations.
func (b *buckets[K]) makeRoom(at float64) {
	if at-b.purged >= 1 {
		b.purged = at
		for key, full := range b.full {
			if full <= at {
				delete(b.full, key)
			}
		}
	}
	for key := range b.full {
		if len(b.full) < b.size {
			return
		}
		delete(b.full, key)
	}
}
