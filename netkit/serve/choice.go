package serve

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"dibber/netkit/ping"
	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// maxMeasured is to how many relays the round trip time is measured before one is
	// chosen, measureTimeout for how long, and measuredFor is how long that is believed.
	maxMeasured    = 16
	measureTimeout = time.Second
	measuredFor    = 5 * time.Minute
	// A relay is near enough if its round trip takes no longer than twice the shortest
	// and this.
	nearEnough = 20 * time.Millisecond
	// leastDuration and leastBytes are the limits of a circuit with which a peer can be
	// met and punched, and carry something where that fails.
	leastDuration = time.Minute
	leastBytes    = 64 << 10
)

// candidate is a relay that may be asked.
type candidate struct {
	id   peer.ID
	open bool           // strangers can reach it
	rtt  *time.Duration // nil: not measured
	poor bool           // its limits are known, and too low
}

// measured is a round trip time.
type measured struct {
	rtt *time.Duration // nil: no answer
	at  time.Time
}

// prefer orders relays: those first that strangers can reach, and of these the ones that
// are near and whose limits, as far as known, are good; at random among those alike, so
// that each carries a small part.
func prefer(list []candidate, shuffle func(n int, swap func(i, j int))) []peer.ID {
	list = slices.Clone(list)
	shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	var near time.Duration
	for _, c := range list {
		if c.rtt != nil && (near == 0 || *c.rtt < near) {
			near = *c.rtt
		}
	}
	near = 2*near + nearEnough
	grade := func(c candidate) (g int) {
		if !c.open {
			g += 4
		}
		if c.poor {
			g += 2
		}
		if c.rtt == nil || *c.rtt > near {
			g++
		}
		return g
	}
	slices.SortStableFunc(list, func(a, b candidate) int { return grade(a) - grade(b) })
	var out []peer.ID
	for _, c := range list {
		out = append(out, c.id)
	}
	return out
}

// pool are the relays that may be asked besides those held, the best first. Where there is
// a choice, they are measured.
func (f *full) pool(ctx context.Context, lacking int) []peer.ID {
	now := time.Now()
	var list []candidate
	for _, p := range f.n.Network().Peers() {
		kept := slices.ContainsFunc(f.others, func(o peer.AddrInfo) bool { return o.ID == p })
		if f.at(p) == nil || f.seeker.held[p] != nil || kept || now.Before(f.seeker.resting[p]) || !f.relays(p) || !f.eligible(p) {
			continue
		}
		list = append(list, candidate{id: p, open: f.open(p), poor: f.seeker.poor[p]})
	}
	if lacking > 0 && len(list) > lacking {
		f.measure(ctx, list)
	}
	for i := range list {
		list[i].rtt = f.seeker.rtts[list[i].id].rtt
	}
	return prefer(list, rand.Shuffle)
}

// measure finds out how far away some of the candidates are of which that is not known.
func (f *full) measure(ctx context.Context, list []candidate) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	now := time.Now()
	for p, m := range f.seeker.rtts {
		if now.Sub(m.at) > measuredFor {
			delete(f.seeker.rtts, p)
		}
	}
	found := make([]*time.Duration, len(list))
	var all sync.WaitGroup
	asked := 0
	for _, i := range rand.Perm(len(list)) {
		if _, known := f.seeker.rtts[list[i].id]; known || asked == maxMeasured {
			continue
		}
		asked++
		all.Go(func() {
			// One that does not answer is far away.
			r, _ := ping.Do(ctx, f.n, list[i].id, ping.Config{})
			if r.Min != nil {
				found[i] = new(time.Duration(*r.Min * float64(time.Millisecond)))
			}
		})
		f.seeker.rtts[list[i].id] = measured{at: now}
	}
	all.Wait()
	for i, rtt := range found {
		if rtt != nil {
			f.seeker.rtts[list[i].id] = measured{rtt, now}
		}
	}
}

// scanty reports whether the circuits of a reservation are too short, or carry too little.
func scanty(r relay.Reservation) bool {
	return r.Duration > 0 && r.Duration < leastDuration || r.Bytes > 0 && r.Bytes < leastBytes
}
