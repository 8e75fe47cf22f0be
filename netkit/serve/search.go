package serve

import (
	"context"
	"errors"
	"maps"
	"time"

	"dibber/netkit/route"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

const (
	// searchChoice is how many relays are looked for in the network of the hash table for each that is needed, so that
	// there is a choice.
	searchChoice = 4
	// searchTimeout bounds one search.
	searchTimeout = time.Minute
)

// search is what is known of the relays that the network of the hash table has. It is guarded by the mutex of full.
type search struct {
	running bool
	ended   time.Time // the last one; zero: none yet
	found   map[peer.ID]struct{}
	short   bool // the last one found too few to choose from
}

// seekInNetwork looks for relays among the peers closest to the node's own key: those are others for each node, so that
// each relay gets a small part. It returns at once.
func (f *full) seekInNetwork(ctx context.Context, want int) {
	if f.route == nil || !f.cfg.FindRelays || want <= 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.search.running || !f.search.ended.IsZero() && time.Since(f.search.ended) < lookAround {
		return
	}
	f.search.running = true
	resting := maps.Clone(f.seeker.resting)
	for p := range f.seeker.held {
		resting[p] = time.Now().Add(unwanted)
	}
	f.done.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, searchTimeout)
		defer cancel()
		if err := f.route.Join(ctx); err != nil {
			f.searched(nil, true) // those that are connected have to do
			return
		}
		found, err := f.route.Offering(ctx, route.Wanted{
			Protocols: []protocol.ID{proto.ProtoIDv2Hop}, Count: searchChoice * want,
			Except: func(p peer.ID) bool { return time.Now().Before(resting[p]) },
		})
		f.searched(found, len(found) < want && (err == nil || errors.Is(err, route.ErrNotFound)))
	})
}

// searched takes what a search found; short is that the network has too few relays.
func (f *full) searched(found []peer.AddrInfo, short bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.search.running, f.search.ended, f.search.short = false, time.Now(), short
	f.search.found = make(map[peer.ID]struct{}, len(found))
	for _, p := range found {
		f.search.found[p.ID] = struct{}{}
	}
	poke(f.wake)
}

// eligible reports whether a connected relay may be asked: where relays are looked for in the network, those found there,
// and others only if there were too few.
func (f *full) eligible(p peer.ID) bool {
	if f.route == nil || !f.cfg.FindRelays {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, found := f.search.found[p]
	return found || f.search.short
}
