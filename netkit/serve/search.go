package serve

import (
	"context"
	"errors"
	"maps"
	"slices"
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
	// searchAgain is how often a node that lacks none looks whether it still has relays near its key: those that were
	// there first would carry all that came before the others.
	searchAgain = 5 * time.Minute
)

// search is what is known of the relays that the network of the hash table has. It is guarded by the mutex of full.
type search struct {
	running bool
	ended   time.Time // the last one; zero: none yet
	found   map[peer.ID]struct{}
	short   bool // the last one found too few to choose from
}

// findsRelays reports whether relays are looked for in the network of the hash table.
func (f *full) findsRelays() bool { return f.route != nil && f.cfg.FindRelays }

// misplaced is of the relays that are held and not among those found near the node's key the one that is farthest from it; nil
// for none. The caller is the goroutine of the full node.
func (f *full) misplaced() *peer.ID {
	if !f.findsRelays() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.search.short || len(f.search.found) == 0 {
		return nil
	}
	var far *peer.ID
	for p := range f.seeker.held {
		if _, near := f.search.found[p]; !near && (far == nil || f.byDistance(p, *far) > 0) {
			far = &p
		}
	}
	return far
}

// byDistance orders peers by how far they are from the node's key.
func (f *full) byDistance(a, b peer.ID) int { return route.CompareDistance(f.n.ID(), a, b) }

// moveNear replaces one relay that is not near the node's key by one that is nearer, which holds a reservation before the other
// is given up. Each search finds some by chance: were it enough not to be among them, nodes would move for ever, and leave at each
// relay a reservation that it keeps until the time is over.
func (f *full) moveNear(want int, pool []peer.ID) {
	p := f.misplaced()
	if p == nil {
		return
	}
	switch nearer := slices.IndexFunc(pool, func(q peer.ID) bool { return f.byDistance(q, *p) < 0 }); {
	case len(f.seeker.held) <= want && nearer >= 0:
		f.hold(pool[nearer])
	case len(f.seeker.held) > want:
		for q, h := range f.seeker.held {
			if q != *p && !h.got.Load() {
				return
			}
		}
		f.drop(*p, f.seeker.held[*p])
	}
}

// seekInNetwork looks for relays among the peers closest to the node's own key: those are others for each node, so that
// each relay gets a small part. want is how many are lacking. It returns at once.
func (f *full) seekInNetwork(ctx context.Context, want int) {
	if !f.findsRelays() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	every := lookAround
	if want == 0 {
		every = searchAgain
	}
	if f.search.running || !f.search.ended.IsZero() && time.Since(f.search.ended) < every {
		return
	}
	f.search.running = true
	resting := maps.Clone(f.seeker.resting)
	f.done.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, searchTimeout)
		defer cancel()
		if err := f.route.Join(ctx); err != nil {
			f.searched(nil, true) // those that are connected have to do
			return
		}
		found, err := f.route.Offering(ctx, route.Wanted{
			Protocols: []protocol.ID{proto.ProtoIDv2Hop}, Count: searchChoice * f.cfg.Reservations,
			Except: func(p peer.ID) bool { return time.Now().Before(resting[p]) },
		})
		f.searched(found, len(found) < f.cfg.Reservations && (err == nil || errors.Is(err, route.ErrNotFound)))
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
	if !f.findsRelays() {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, found := f.search.found[p]
	return found || f.search.short
}
