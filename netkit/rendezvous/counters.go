package rendezvous

import "sync/atomic"

// Stats counts what a server holds, and what it has done since its start.
type Stats struct {
	// Namespaces is how many have registrations.
	Namespaces int `json:"namespaces"`
	// Registrations is how many there are, of all peers.
	Registrations int `json:"registrations"`
	// Peers is how many have registrations.
	Peers int `json:"peers"`
	// Watchers is how many streams watch.
	Watchers int `json:"watchers"`
	// Requests counts the requests answered, by type (register, unregister,
	// discover, watch) and by the status of the answer. An unregister that is
	// refused has no answer, but a status here.
	Requests map[string]map[string]uint64 `json:"requests"`
	// Refusals counts those refused by the reason, finer than the status.
	Refusals map[string]uint64 `json:"refusals"`
	// CacheHits and CacheMisses count REGISTERs whose records were known to
	// be good, and those whose signatures were verified.
	CacheHits   uint64 `json:"cache_hits"`
	CacheMisses uint64 `json:"cache_misses"`
	// Expired counts registrations whose TTL ran out, Evicted those that had
	// to make room.
	Expired uint64 `json:"expired"`
	Evicted uint64 `json:"evicted"`
	// WatchMessages counts changes sent to watchers, WatchResyncs watchers
	// too slow for theirs.
	WatchMessages uint64 `json:"watch_messages"`
	WatchResyncs  uint64 `json:"watch_resyncs"`
}

// typeWatch counts watches among the requests; it is no type of a message.
const typeWatch messageType = 5

const (
	countedTypes    = 6
	countedStatuses = 8
)

// statuses are the statuses that are counted.
func statuses() [countedStatuses]Status {
	return [...]Status{
		StatusOK, StatusInvalidNamespace, StatusInvalidSignedPeerRecord, StatusInvalidTTL, StatusInvalidCookie,
		StatusNotAuthorized, StatusInternalError, StatusUnavailable,
	}
}

// counters are what Stats reads.
type counters struct {
	requests               [countedTypes][countedStatuses]atomic.Uint64
	refusals               [reasonCount]atomic.Uint64
	cacheHits, cacheMisses atomic.Uint64
	expired, evicted       atomic.Uint64
	messages, resyncs      atomic.Uint64
}

// count counts a request answered. One of an unknown type counts as a REGISTER,
// as which it is answered.
func (c *counters) count(kind messageType, status Status) {
	switch kind {
	case typeUnregister, typeDiscover, typeWatch:
	default:
		kind = typeRegister
	}
	for i, s := range statuses() {
		if s == status {
			c.requests[kind][i].Add(1)
		}
	}
}

func (c *counters) refuse(kind messageType, why *StatusError) {
	c.count(kind, why.Status)
	c.refusals[why.reason].Add(1)
}

// change counts what ended by itself.
func (c *counters) change(kind changeKind) {
	switch kind {
	case changeExpire:
		c.expired.Add(1)
	case changeEvict:
		c.evicted.Add(1)
	default: // a request, which count has
	}
}

func (c *counters) stats() Stats {
	out := Stats{
		Requests:      make(map[string]map[string]uint64),
		Refusals:      make(map[string]uint64),
		CacheHits:     c.cacheHits.Load(),
		CacheMisses:   c.cacheMisses.Load(),
		Expired:       c.expired.Load(),
		Evicted:       c.evicted.Load(),
		WatchMessages: c.messages.Load(),
		WatchResyncs:  c.resyncs.Load(),
	}
	for kind, word := range map[messageType]string{
		typeRegister: "register", typeUnregister: "unregister", typeDiscover: "discover", typeWatch: "watch",
	} {
		out.Requests[word] = make(map[string]uint64)
		for i, s := range statuses() {
			if n := c.requests[kind][i].Load(); n > 0 {
				out.Requests[word][s.String()] = n
			}
		}
	}
	for r := reasonNone + 1; r < reasonCount; r++ {
		if n := c.refusals[r].Load(); n > 0 {
			out.Refusals[r.word()] = n
		}
	}
	return out
}
