package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/rendezvous"
	"dibber/scripts/node"
)

// newPeer is a peer that is connected with the server.
func newPeer(ctx context.Context, server peer.AddrInfo) (host.Host, error) {
	h, err := node.NewPeer(nil, libp2p.DisableRelay())
	if err != nil {
		return nil, err
	}
	if err := h.Connect(ctx, server); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// register asks for a place in a namespace.
func register(ctx context.Context, h host.Host, server peer.AddrInfo, ns string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := rendezvous.Register(ctx, h, server, rendezvous.RegisterRequest{
		Namespace: ns, TTL: 2 * time.Hour, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/4001")}, Format: rendezvous.FormatStandard,
	})
	return err
}

// found reports whether a peer is in a namespace, by the answer to another one: nobody is told of itself.
func found(ctx context.Context, h host.Host, server peer.AddrInfo, ns string) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	reader, err := newPeer(ctx, server)
	if err != nil {
		return false
	}
	defer reader.Close() // it was only asked with
	page, err := rendezvous.DiscoverAll(ctx, reader, server, rendezvous.DiscoverRequest{Namespace: ns, Format: rendezvous.FormatStandard})
	return err == nil && len(page.Entries) == 1 && page.Entries[0].Peer == h.ID()
}

// rounds fills and frees the disk.
func (b *bed) rounds(ctx context.Context, r *result) error {
	for _, args := range [][]string{{"replicate", "init"}, {"replicate", "log", "create", "notes"}} {
		if a := b.dibber(ctx, args...); a.code != 0 {
			return fmt.Errorf("%v: exit %d: %s", args, a.code, a.stderr)
		}
	}
	if err := b.node.Start(ctx); err != nil {
		return err
	}
	h, err := newPeer(ctx, b.node.Info)
	if err != nil {
		return err
	}
	defer h.Close() // the process ends
	var kept []string
	for round := range r.Rounds {
		names, err := b.round(ctx, r, h, round)
		if err != nil {
			return err
		}
		kept = append(kept, names...)
	}
	r.check(b.node.Stop() == 0, "the server ends in order")
	return b.again(ctx, r, h, kept)
}

// again starts the server once more and looks for all that was acknowledged.
func (b *bed) again(ctx context.Context, r *result, h host.Host, kept []string) error {
	if err := b.node.Start(ctx); err != nil {
		return fmt.Errorf("once more: %w", err)
	}
	reader, err := newPeer(ctx, b.node.Info)
	if err != nil {
		return err
	}
	defer reader.Close() // the process ends
	page, err := rendezvous.DiscoverAll(ctx, reader, b.node.Info, rendezvous.DiscoverRequest{Format: rendezvous.FormatStandard})
	if err != nil {
		return err
	}
	there := make(map[string]bool)
	for _, e := range page.Entries {
		there[e.Namespace] = e.Peer == h.ID()
	}
	for _, ns := range kept {
		if !there[ns] {
			r.Lost++
		}
	}
	r.check(r.Lost == 0, "started again, it has all %d registrations that it acknowledged", len(kept))
	r.check(b.node.Stop() == 0, "the server ends in order")
	return nil
}

// round fills the disk under load, and frees it. It returns the namespaces in which h was registered.
func (b *bed) round(ctx context.Context, r *result, h host.Host, n int) (kept []string, err error) {
	name := fmt.Sprintf("round %d", n+1)
	first := fmt.Sprintf("%d-before", n)
	r.check(register(ctx, h, b.node.Info, first) == nil, "%s: a registration before", name)
	r.check(b.dibber(ctx, "replicate", "log", "append", "notes", first).code == 0, "%s: an entry before", name)
	kept = append(kept, first)
	load := make(chan load, 1)
	stop, cancel := context.WithCancel(ctx)
	go func() { load <- hammer(stop, h, b.node.Info, n) }() // ends at cancel
	err = b.fill()
	why := register(ctx, h, b.node.Info, fmt.Sprintf("%d-full", n))
	cancel()
	done := <-load
	if err != nil {
		return nil, err
	}
	kept = append(kept, done.kept...)
	r.Registered += len(done.kept)
	r.Refused += done.refused
	status, refused := errors.AsType[*rendezvous.StatusError](why)
	r.check(refused && strings.Contains(status.Text, "too little space on disk"), "%s: disk full: a registration is answered: %v", name, why)
	b.whileFull(ctx, r, h, name, first)
	if err := os.Remove(b.filler()); err != nil {
		return nil, err
	}
	b.afterwards(ctx, r, h, name, fmt.Sprintf("%d-after", n))
	return append(kept, fmt.Sprintf("%d-after", n)), nil
}

// whileFull looks at what is refused and what goes on.
func (b *bed) whileFull(ctx context.Context, r *result, h host.Host, name, first string) {
	a := b.dibber(ctx, "replicate", "log", "append", "notes", "too much")
	r.check(a.code == 6, "%s: disk full: log append exits %d: %s", name, a.code, strings.TrimSpace(a.stderr))
	block := filepath.Join(b.dir, "block")
	if err := os.WriteFile(block, []byte(rand.Text()), 0o600); err != nil {
		r.check(false, "%s: write a file elsewhere: %v", name, err)
	}
	a = b.dibber(ctx, "block", "put", block)
	r.check(a.code == 6, "%s: disk full: block put exits %d: %s", name, a.code, strings.TrimSpace(a.stderr))
	r.check(found(ctx, h, b.node.Info, first), "%s: disk full: who is registered is found", name)
	a = b.dibber(ctx, "replicate", "log", "cat", "notes")
	r.check(a.code == 0 && strings.Contains(a.stdout, first), "%s: disk full: the log is read", name)
	r.check(b.dibber(ctx, "ctl", "status").code == 0, "%s: disk full: ctl status", name)
	reserving, cancel := context.WithTimeout(ctx, patience)
	_, err := client.Reserve(reserving, h, b.node.Info)
	cancel()
	r.check(err == nil, "%s: disk full: a reservation at the relay", name)
	r.check(b.node.Lives(), "%s: disk full: the server runs", name)
}

// afterwards looks at whether all goes on by itself.
func (b *bed) afterwards(ctx context.Context, r *result, h host.Host, name, ns string) {
	began := time.Now()
	err := register(ctx, h, b.node.Info, ns)
	for err != nil && time.Since(began) < patience && ctx.Err() == nil {
		time.Sleep(loadEvery)
		err = register(ctx, h, b.node.Info, ns)
	}
	took := time.Since(began).Seconds()
	r.SlowestS = max(r.SlowestS, took)
	r.check(err == nil && found(ctx, h, b.node.Info, ns), "%s: space again: registered after %.2f s", name, took)
	a := b.dibber(ctx, "replicate", "log", "append", "notes", ns)
	r.check(a.code == 0, "%s: space again: log append exits %d %s", name, a.code, strings.TrimSpace(a.stderr))
	a = b.dibber(ctx, "block", "put", filepath.Join(b.dir, "block"))
	r.check(a.code == 0, "%s: space again: block put exits %d %s", name, a.code, strings.TrimSpace(a.stderr))
}

// load is what became of registrations while the disk was filled.
type load struct {
	kept    []string
	refused int
}

// loadEvery is how often the load registers: a peer that asks more often than 20 times a second is refused for that.
const loadEvery = 100 * time.Millisecond

// hammer registers in one namespace after the other until ctx ends.
func hammer(ctx context.Context, h host.Host, server peer.AddrInfo, round int) (l load) {
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return l
		case <-tick.C:
		}
		ns := fmt.Sprintf("%d-load-%d", round, i)
		err := register(ctx, h, server, ns)
		if _, refused := errors.AsType[*rendezvous.StatusError](err); refused {
			l.refused++
		} else if err == nil {
			l.kept = append(l.kept, ns)
		}
	}
}

func (b *bed) filler() string { return filepath.Join(b.disk, "filler") }

// fill writes until the disk is full.
func (b *bed) fill() error {
	f, err := os.Create(b.filler())
	if err != nil {
		return err
	}
	piece := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(piece)
	}
	if cerr := f.Close(); cerr != nil {
		return cerr
	}
	return full(err)
}
