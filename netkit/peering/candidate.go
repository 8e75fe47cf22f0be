package peering

import (
	"maps"
	"slices"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// maxCandidates bounds how many peers of one source are remembered: a hostile one
	// invents them for nothing. A newcomer takes the place of the worst of sampled. Sources
	// know twice as many, so that this is what decides who is left out.
	maxCandidates = 5_000
	sampled       = 32
	// parallelDials is how many dials run at once.
	parallelDials = 8
	// strangersPerSecond is how many peers that were never connected are dialled a
	// second, after a burst of as many as may be kept: a node whose rendezvous point
	// lists thousands must not dial them all (calimero#2631).
	strangersPerSecond = 1

	// firstRetry is the first wait after a failed dial; it doubles with each failure.
	firstRetry = time.Second
	// missedRetry is the longest wait for a peer that was connected not long ago. With
	// the time that a dial takes to fail it is below 10 s.
	missedRetry = 3500 * time.Millisecond
	// missedFor is how long after the loss a peer counts as missed.
	missedFor = 30 * time.Minute
	// strangerRetry is the longest wait for any other.
	strangerRetry = 10 * time.Minute
	// unfitRetry is the wait before a peer is dialled again that spoke nothing wanted.
	unfitRetry = 30 * time.Minute
	// leftRetry is the first wait for a peer that took its leave, of which a source
	// still speaks.
	leftRetry = 30 * time.Second
	leftFails = 6 // firstRetry doubled as often is leftRetry, about

	// firstUpgrade is how old a relayed connection is when a direct one is tried for
	// the first time beside it; the wait doubles up to lastUpgrade. Both ends count
	// from the opening, so that they try at the same moments and their packets open
	// the NATs for each other.
	firstUpgrade = 10 * time.Second
	lastUpgrade  = 10 * time.Minute
)

// verdict says whether a peer speaks what is wanted.
type verdict int

const (
	undecided verdict = iota // it has not said yet
	fit
	unfit
)

// view is how the connections with a peer stand.
type view struct {
	path  string    // "" without one, else the best: direct or relayed
	addr  string    // of the peer, on the best connection
	since time.Time // when the best connection opened
	fits  verdict
}

// phase is what the node has to do with a candidate.
type phase int

const (
	waiting  phase = iota // it may be dialled, when its time comes
	dialling              // a dial is under way
	meeting               // connected, but what it speaks is not known yet
	kept                  // connected for good
)

// sighting is what one source says of a peer.
type sighting struct {
	sources []string // words
	addrs   []ma.Multiaddr
}

// candidate is a peer that sources named.
type candidate struct {
	id   peer.ID
	rank uint64 // its place among equals, another on every node
	seen map[int]sighting

	phase phase
	view  view
	mine  bool      // connected by a dial of ours: only such connections are closed
	told  bool      // that it speaks nothing wanted
	left  bool      // it said that it leaves
	unfit bool      // turned away at the last meeting
	fails int       // dials failed in a row
	next  time.Time // not dialled before
	last  time.Time // when it was dialled last
	lost  time.Time // when it was kept last; zero: never, or it left

	upgrades int       // direct dials beside the relayed connection
	upgrade  time.Time // when the next is due; zero: none is
	raising  bool      // one is under way
}

func (c *candidate) namedBy(source int) bool {
	_, yes := c.seen[source]
	return yes
}

func (c *candidate) sources() []string {
	var out []string
	for _, i := range slices.Sorted(maps.Keys(c.seen)) {
		for _, word := range c.seen[i].sources {
			if !slices.Contains(out, word) {
				out = append(out, word)
			}
		}
	}
	return out
}

// addrs are the addresses by all sources, the best first.
func (c *candidate) addrs() []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, i := range slices.Sorted(maps.Keys(c.seen)) {
		out = append(out, c.seen[i].addrs...)
	}
	out = ma.Unique(out)
	addr.Sort(out)
	return out[:min(len(out), addr.MaxAddrs)]
}

// missed reports whether a lost peer is still to be got back quickly.
func (c *candidate) missed(now time.Time) bool {
	return !c.lost.IsZero() && now.Sub(c.lost) < missedFor
}
