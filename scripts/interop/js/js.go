// Package js is a peer made of js-libp2p: a relay, a relay client, and one that gossips and takes part in a hash table.
package js

import (
	"context"
	"slices"

	"dibber/scripts/interop/bed"
)

// Peer returns the peer.
func Peer() bed.Peer {
	g := bed.Small{
		Command: []string{"node", "--import", "./poly.mjs", "./peer.mjs"}, Transports: []string{"quic-v1", "tcp"},
		// Its relay says the two minutes in milliseconds, where the specification has seconds.
		ServedLimits:  [2]int64{120_000, 131072},
		IgnoresLimits: true,
	}
	return bed.Peer{
		Name: "js", Version: "js-libp2p 3.3.11", Needs: []string{"node", "npm"},
		Build: func(ctx context.Context, b *bed.Builder) error {
			return b.NPM(ctx, "peer.mjs", "poly.mjs")
		},
		Features: slices.Concat(g.Basics(), g.AtOurRelay(), g.TheirRelay(), g.Gossip(), g.Table()),
	}
}
