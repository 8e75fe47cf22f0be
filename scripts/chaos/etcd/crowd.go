//go:build linux

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
	longs     = 8                      // registrations of a client that last longer than the run
	workEvery = 100 * time.Millisecond // from request to request of a client
	workWait  = 5 * time.Second        // for the answer of one server; then another is asked
	shortTTL  = time.Minute
	longTTL   = time.Hour
	skew      = time.Second // what the servers' clocks may be apart
)

// crowd is the clients. Each takes another server whenever one does not answer.
type crowd struct {
	node.Crowd
	servers []*node.Node
	clients []*client

	acknowledged, refused, unanswered atomic.Int64
}

// client registers now and again: for long in some namespaces, for a minute, once, in ever new ones.
type client struct {
	c      *crowd
	h      host.Host
	chance *rand.Rand
	at     int // the server that it asks
	held   map[string]held
	shorts int
	last   time.Time // of the last answer of OK
	stuck  time.Duration
}

// held is what a server acknowledged.
type held struct{ from, until time.Time } // it may be over after from, and is after until

// gather makes n clients.
func (c *crowd) gather(n int) error {
	for i := range n {
		h, err := c.Join()
		if err != nil {
			return err
		}
		c.clients = append(c.clients, &client{
			c: c, h: h, chance: rand.New(rand.NewPCG(1, uint64(i))), at: i % len(c.servers), held: make(map[string]held), last: time.Now(),
		})
	}
	return nil
}

// work registers in one namespace.
func (w *client) work(ctx context.Context) {
	ns, ttl := fmt.Sprintf("long-%d", w.chance.IntN(longs)), longTTL
	if w.chance.IntN(16) == 0 {
		w.shorts++
		ns, ttl = fmt.Sprintf("short-%d", w.shorts), shortTTL
	}
	asked := time.Now()
	granted, err := w.register(ctx, ns, ttl)
	switch _, refused := errors.AsType[*rendezvous.StatusError](err); {
	case ctx.Err() != nil:
		return
	case err == nil:
		w.c.acknowledged.Add(1)
		now := time.Now()
		w.stuck = max(w.stuck, now.Sub(w.last))
		w.last = now
		w.held[ns] = held{asked.Add(granted - skew), now.Add(granted + skew)}
		return
	case refused:
		w.c.refused.Add(1)
	default:
		w.c.unanswered.Add(1)
	}
	// Nobody knows whether it took place, nor for how long.
	if old, known := w.held[ns]; known {
		old.until = time.Now().Add(ttl + skew)
		w.held[ns] = old
	} else if ttl == longTTL {
		w.held[ns] = held{time.Time{}, time.Now().Add(ttl + skew)}
	}
	w.at = (w.at + 1) % len(w.c.servers)
}

func (w *client) register(ctx context.Context, ns string, ttl time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, workWait)
	defer cancel()
	at := w.c.servers[w.at].Info
	if err := node.Connect(ctx, w.h, at); err != nil {
		return 0, err
	}
	got, err := rendezvous.Register(ctx, w.h, at, rendezvous.RegisterRequest{
		Namespace: ns, TTL: ttl, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/10.1.2.3/tcp/4001")}, Format: rendezvous.FormatStandard,
	})
	return got.TTL, err
}

// check compares what each server shows a reader with what was acknowledged, while all pause.
func (c *crowd) check(ctx context.Context, reader host.Host, r *result) error {
	defer c.Pause()()
	for _, s := range c.servers {
		seen, before, after, err := look(ctx, reader, s)
		if err != nil {
			return err
		}
		for _, w := range c.clients {
			for ns, h := range w.held {
				r.Checked++
				if h.until.Before(before) {
					r.Over++
				}
				there := seen[ns+" "+string(w.h.ID())]
				switch {
				case !there && h.from.After(after):
					r.Lost++
				case there && h.until.Before(before):
					r.Expired++
				}
			}
		}
	}
	for _, w := range c.clients { // the pause is nobody's fault
		w.last = time.Now()
	}
	return nil
}

// look gets all that a server shows, as soon as it shows anything after a fault.
func look(ctx context.Context, reader host.Host, s *node.Node) (seen map[string]bool, before, after time.Time, err error) {
	for end := time.Now().Add(settle); ; {
		before = time.Now()
		seen, err = read(ctx, reader, s.Info)
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			return seen, before, time.Now(), err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return nil, before, before, err
		}
	}
}

func read(ctx context.Context, reader host.Host, at peer.AddrInfo) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	if err := node.Connect(ctx, reader, at); err != nil {
		return nil, err
	}
	page, err := rendezvous.DiscoverAll(ctx, reader, at, rendezvous.DiscoverRequest{Format: rendezvous.FormatStandard})
	if err != nil {
		return nil, fmt.Errorf("look at a server: %w", err)
	}
	seen := make(map[string]bool)
	for _, e := range page.Entries {
		seen[e.Namespace+" "+string(e.Peer)] = true
	}
	return seen, nil
}

func (c *crowd) count(r *result) {
	defer c.Pause()()
	r.Acknowledged, r.Refused, r.Unanswered = int(c.acknowledged.Load()), int(c.refused.Load()), int(c.unanswered.Load())
	for _, w := range c.clients {
		r.StuckS = max(r.StuckS, w.stuck.Seconds())
	}
}
