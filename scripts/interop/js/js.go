// Package js is a relay and a relay client made of js-libp2p.
package js

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
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
		Build:    build,
		Features: slices.Concat(g.Basics(), g.AtOurRelay(), g.TheirRelay()),
	}
}

func build(ctx context.Context, b *bed.Builder) error {
	if err := b.Copy("peer.mjs", "poly.mjs"); err != nil {
		return err
	}
	lock, err := os.ReadFile(filepath.Join(b.Source, "package-lock.json"))
	if err != nil {
		return err
	}
	mark := filepath.Join(b.Dir, "installed") // the lock file by which everything was installed
	if installed, err := os.ReadFile(mark); err == nil && bytes.Equal(installed, lock) {
		return nil
	}
	if err := b.Copy("package.json", "package-lock.json"); err != nil {
		return err
	}
	// Not npm ci: it demands that the lock file names the native addons of all other platforms, too.
	if err := b.Run(ctx, b.Dir, "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-update-notifier"); err != nil {
		return err
	}
	return os.WriteFile(mark, lock, 0o644)
}
