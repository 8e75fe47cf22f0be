package gossip

import (
	"hash/maphash"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
)

// replays remembers which messages there were, by author and sequence number: a signature says who wrote a message, not when. Sequence
// numbers cannot be compared instead, because some implementations draw them at random. It keeps the last size messages at least, twice
// as many at most, each by 64 bits under a key of its own, which nobody can aim at.
type replays struct {
	seed maphash.Seed
	size int

	mu       sync.Mutex // guards following
	now, old map[uint64]struct{}
}

// newReplays remembers size messages; nil if that is negative.
func newReplays(size int) *replays {
	if size < 0 {
		return nil
	}
	return &replays{seed: maphash.MakeSeed(), size: size, now: make(map[uint64]struct{})}
}

// fresh reports whether a message is new, and notes it.
func (r *replays) fresh(from peer.ID, seqno []byte) bool {
	if r == nil {
		return true
	}
	var h maphash.Hash
	h.SetSeed(r.seed)
	_, _ = h.WriteString(string(from)) // never fails
	_, _ = h.Write(seqno)              // never fails
	sum := h.Sum64()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, seen := r.now[sum]; seen {
		return false
	}
	_, seen := r.old[sum]
	r.now[sum] = struct{}{}
	if len(r.now) >= r.size {
		r.old, r.now = r.now, make(map[uint64]struct{})
	}
	return !seen
}
