package rendezvous

import "time"

// evict ends a registration to make room, or returns nil when it is gone or
// renewed.
func (r *registry) evict(now time.Duration, e *entry) *change {
	sh := e.space.shard
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	if e.gone || e.after() != nil {
		return nil
	}
	if !e.live(now) {
		return r.end(e, changeExpire)
	}
	return r.end(e, changeEvict)
}

// trim evicts what is above the total, of whoever holds the most.
func (r *registry) trim(now time.Time) (evicted []*change) {
	for {
		r.ledger.mu.Lock()
		var victim *entry
		if r.ledger.total > r.limits.Load().Total {
			victim = r.ledger.most.heaviest().owners.heaviest().oldest
		}
		r.ledger.mu.Unlock()
		if victim == nil {
			return evicted
		}
		if gone := r.evict(r.clock(now), victim); gone != nil {
			evicted = append(evicted, gone)
		}
	}
}

// sweepSlice is how many entries expire under one lock.
const sweepSlice = 256

// sweep drops what has expired at now and returns it.
func (r *registry) sweep(now time.Time) (expired []*change) {
	for i := range r.shards {
		for more := true; more; {
			var some []*change
			some, more = r.sweepShard(&r.shards[i], now)
			expired = append(expired, some...)
		}
	}
	return expired
}

func (r *registry) sweepShard(sh *shard, now time.Time) (expired []*change, more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	due := sh.due.due(r.clock(now), sweepSlice)
	if len(due) == 0 {
		return nil, false
	}
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	for _, e := range due {
		expired = append(expired, r.end(e, changeExpire))
	}
	return expired, len(due) == sweepSlice
}
