// Package negentropy reconciles sets between dibber's netkit/negentropy and other implementations of the protocol. Both sides are
// processes that are driven by lines (testdata/interop/negentropy says which), so that each message is seen.
package negentropy

import (
	"context"
	"path/filepath"

	"dibber/scripts/interop/bed"
)

// ours is the name of dibber's side beside the other's in a peer's folder.
const ours = "ours"

// Go returns go-nostr, which asks and answers.
func Go() bed.Peer {
	theirs := side{command: []string{"./theirs"}}
	return bed.Peer{
		Name: "nostr-go", Version: "go-nostr 0.52.3", Needs: []string{"go"},
		Build: func(ctx context.Context, b *bed.Builder) error {
			if err := buildOurs(ctx, b); err != nil {
				return err
			}
			return b.Go(ctx, filepath.Join(b.Root, "testdata", "interop", "nostr-go"), ".", "theirs")
		},
		Features: []bed.Feature{
			{Name: "negentropy: we ask, they answer", Run: everySet(side{command: []string{"./" + ours}}, theirs, 0)},
			{Name: "negentropy: we ask from the tail, they answer", Run: everySet(side{command: []string{"./" + ours, "tail"}}, theirs, 0)},
			{Name: "negentropy: they ask, we answer", Run: everySet(theirs, side{command: []string{"./" + ours}}, 0)},
			{Name: "negentropy: messages alike to the byte", Run: sameMessages(theirs)},
			{Name: "negentropy: frames of 4096 bytes, we ask", Run: everySet(side{command: []string{"./" + ours}}, theirs, 4096)},
			{Name: "negentropy: frames of 4096 bytes, they ask", Run: everySet(theirs, side{command: []string{"./" + ours}}, 4096)},
		},
	}
}

// JavaScript returns nostr-tools, which only asks.
func JavaScript() bed.Peer {
	theirs := side{command: []string{"node", "peer.mjs"}}
	return bed.Peer{
		Name: "nostr-js", Version: "nostr-tools 2.25.2", Needs: []string{"go", "node", "npm"},
		Build: buildJavaScript,
		Features: []bed.Feature{
			{Name: "negentropy: they ask, we answer", Run: everySet(theirs, side{command: []string{"./" + ours}}, 0)},
			{Name: "negentropy: frames of 4096 bytes, they ask", Run: everySet(theirs, side{command: []string{"./" + ours}}, 4096)},
		},
	}
}

func buildOurs(ctx context.Context, b *bed.Builder) error {
	return b.Go(ctx, b.Root, "./testdata/interop/negentropy", ours)
}

func buildJavaScript(ctx context.Context, b *bed.Builder) error {
	if err := buildOurs(ctx, b); err != nil {
		return err
	}
	b.Source = filepath.Join(b.Root, "testdata", "interop", "nostr-tools")
	return b.NPM(ctx, "peer.mjs")
}
