// Package waku is a rendezvous client and point made of waku-org/go-libp2p-rendezvous.
package waku

import (
	"context"
	"slices"

	"dibber/scripts/interop/bed"
)

// Peer returns the peer.
func Peer() bed.Peer {
	g := bed.Small{Command: []string{"./peer"}}
	return bed.Peer{
		Name: "waku", Version: "go-libp2p-rendezvous a67d1cc", Needs: []string{"go", "gcc"}, // it keeps registrations in SQLite, in C
		Build: func(ctx context.Context, b *bed.Builder) error {
			return b.Go(ctx, b.Source, ".", "peer")
		},
		Features: slices.Concat(g.AtOurPoint(), g.TheirPoint()),
	}
}
