// Package stock is a peer as go-libp2p makes it, of the version that dibber is built with.
package stock

import (
	"context"
	"slices"

	"dibber/scripts/interop/bed"
)

// Peer returns the peer.
func Peer() bed.Peer {
	g := bed.Small{
		Command: []string{"./peer"}, Transports: []string{"quic-v1", "tcp"},
		ServedLimits: [2]int64{120, 131072},
	}
	return bed.Peer{
		Name: "stock", Version: "go-libp2p 0.51.0", Needs: []string{"go"},
		Build: func(ctx context.Context, b *bed.Builder) error {
			return b.Go(ctx, b.Source, ".", "peer")
		},
		Features: slices.Concat(g.Basics(), g.AtOurRelay(), g.Punches(), g.TheirRelay()),
	}
}
