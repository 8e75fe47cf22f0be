package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/rendezvous"
	"dibber/scripts/node"
)

const (
	placesEach = 16                    // of a client, each in another namespace
	workEvery  = 50 * time.Millisecond // as often as the server lets a peer
	workWait   = 60 * time.Second      // longer than the server goes on with a request
)

// crowd is the clients.
type crowd struct {
	node.Crowd
	server  peer.AddrInfo
	reader  host.Host
	clients []*client
	// dying is set from before the kill until the server is up again.
	dying   atomic.Bool
	version atomic.Uint64

	registers, unregisters, refused, unanswered atomic.Int64
}

// client makes one request after the other: of several records under way at once the server may refuse the older.
type client struct {
	c      *crowd
	h      host.Host
	chance *rand.Rand
	places []*place
}

// gather lets the clients begin.
func (c *crowd) gather(ctx context.Context, o options) (err error) {
	if c.reader, err = c.Join(); err != nil {
		return err
	}
	for i := range o.clients {
		h, err := c.Join()
		if err != nil {
			return err
		}
		w := &client{c: c, h: h, chance: rand.New(rand.NewPCG(o.seed, uint64(1+i)))}
		for j := range placesEach {
			w.places = append(w.places, &place{ns: namespace(j)})
		}
		c.clients = append(c.clients, w)
	}
	for _, w := range c.clients {
		c.Go(ctx, workEvery, w.work)
	}
	return nil
}

func namespace(i int) string { return fmt.Sprintf("chaos-%02d", i) }

// work registers or refreshes a place, or, one time in four, unregisters it.
func (w *client) work(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, workWait)
	defer cancel()
	if node.Connect(ctx, w.h, w.c.server) != nil {
		return
	}
	p := w.places[w.chance.IntN(len(w.places))]
	if w.chance.IntN(4) == 0 {
		err := rendezvous.Unregister(ctx, w.h, w.c.server, p.ns)
		// It has no answer but the end of the stream, which a dying server brings about too.
		w.note(p, 0, err == nil && !w.c.dying.Load(), &w.c.unregisters)
		return
	}
	version := w.c.version.Add(1)
	_, err := rendezvous.Register(ctx, w.h, w.c.server, rendezvous.RegisterRequest{
		Namespace: p.ns, TTL: 2 * time.Hour, Addrs: []ma.Multiaddr{versionAddr(version)}, Format: rendezvous.FormatStandard,
	})
	if _, refused := errors.AsType[*rendezvous.StatusError](err); refused {
		w.c.refused.Add(1)
		return
	}
	w.note(p, version, err == nil, &w.c.registers)
}

func (w *client) note(p *place, version uint64, acked bool, count *atomic.Int64) {
	p.answered(version, acked)
	if !acked {
		count = &w.c.unanswered
	}
	count.Add(1)
}

// check compares what the server has with what it acknowledged, while all pause.
func (c *crowd) check(ctx context.Context, r *result) error {
	defer c.Pause()()
	if err := node.Connect(ctx, c.reader, c.server); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	type key struct {
		ns   string
		peer peer.ID
	}
	found := make(map[key]uint64)
	for i := range placesEach {
		page, err := rendezvous.DiscoverAll(ctx, c.reader, c.server, rendezvous.DiscoverRequest{Namespace: namespace(i), Format: rendezvous.FormatStandard})
		if err != nil {
			return fmt.Errorf("check: %w", err)
		}
		for _, e := range page.Entries {
			version, err := addrVersion(e.Addrs[0])
			if err != nil {
				return fmt.Errorf("check: %w", err)
			}
			found[key{e.Namespace, e.Peer}] = version
		}
	}
	for _, w := range c.clients {
		for _, p := range w.places {
			r.Checked++
			switch p.check(found[key{p.ns, w.h.ID()}]) {
			case lost:
				r.Lost++
			case stale:
				r.Stale++
			case undead:
				r.Undead++
			case good:
			}
		}
	}
	return nil
}

func (c *crowd) count(r *result) {
	r.Registers, r.Unregisters = int(c.registers.Load()), int(c.unregisters.Load())
	r.Refused, r.Unanswered = int(c.refused.Load()), int(c.unanswered.Load())
}
