// Package rust is a relay, rendezvous point and client of both made of rust-libp2p.
package rust

import (
	"context"
	"slices"

	"dibber/scripts/interop/bed"
)

// Peer returns the peer.
func Peer() bed.Peer {
	g := bed.Small{
		Command: []string{"./debug/rust-peer"}, Transports: []string{"quic-v1", "tcp"},
		ServedLimits: [2]int64{120, 131072},
	}
	return bed.Peer{
		Name: "rust", Version: "rust-libp2p 0.56.0", Needs: []string{"cargo", "cc"},
		Build:    func(ctx context.Context, b *bed.Builder) error { return b.Cargo(ctx) },
		Features: slices.Concat(g.Basics(), g.AtOurRelay(), g.Punches(), g.TheirRelay(), g.AtOurPoint(), g.TheirPoint()),
	}
}
