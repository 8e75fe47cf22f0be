//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/rendezvous"
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
	servers []*server
	reader  host.Host
	clients []*client
	turn    sync.RWMutex // held by each client for a request, and by who wants all to pause
	end     context.CancelFunc
	running sync.WaitGroup

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

func newHost() (host.Host, error) {
	return libp2p.New(
		libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.Transport(tcp.NewTCPTransport),
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.UserAgent("chaos"),
	)
}

func newCrowd(ctx context.Context, n int, servers []*server) (*crowd, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &crowd{servers: servers, end: cancel}
	var err error
	if c.reader, err = newHost(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	for i := range n {
		h, err := newHost()
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		c.clients = append(c.clients, &client{c: c, h: h, chance: rand.New(rand.NewPCG(1, uint64(i))), at: i % len(servers), held: make(map[string]held), last: time.Now()})
	}
	for _, w := range c.clients {
		c.running.Go(func() { w.run(ctx) })
	}
	return c, nil
}

func (c *crowd) close() (err error) {
	c.end()
	c.running.Wait()
	for _, w := range c.clients {
		err = errors.Join(err, w.h.Close())
	}
	if c.reader != nil {
		err = errors.Join(err, c.reader.Close())
	}
	return err
}

func (w *client) run(ctx context.Context) {
	tick := time.NewTicker(workEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.c.turn.RLock()
			w.work(ctx)
			w.c.turn.RUnlock()
		}
	}
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
	at := w.c.servers[w.at].info
	if err := connect(ctx, w.h, at); err != nil {
		return 0, err
	}
	got, err := rendezvous.Register(ctx, w.h, at, rendezvous.RegisterRequest{
		Namespace: ns, TTL: ttl, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/10.1.2.3/tcp/4001")}, Format: rendezvous.FormatStandard,
	})
	return got.TTL, err
}

// connect connects if need be, however often that has failed.
func connect(ctx context.Context, h host.Host, at peer.AddrInfo) error {
	if s, ok := h.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(at.ID)
	}
	return h.Connect(ctx, at)
}

// check compares what each server shows with what was acknowledged, while all pause.
func (c *crowd) check(ctx context.Context, r *result) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	for _, s := range c.servers {
		seen, before, after, err := c.look(ctx, s)
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
func (c *crowd) look(ctx context.Context, s *server) (seen map[string]bool, before, after time.Time, err error) {
	for end := time.Now().Add(settle); ; {
		before = time.Now()
		seen, err = c.read(ctx, s)
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			return seen, before, time.Now(), err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return nil, before, before, err
		}
	}
}

func (c *crowd) read(ctx context.Context, s *server) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	if err := connect(ctx, c.reader, s.info); err != nil {
		return nil, err
	}
	page, err := rendezvous.DiscoverAll(ctx, c.reader, s.info, rendezvous.DiscoverRequest{Format: rendezvous.FormatStandard})
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
	c.turn.Lock()
	defer c.turn.Unlock()
	r.Acknowledged, r.Refused, r.Unanswered = int(c.acknowledged.Load()), int(c.refused.Load()), int(c.unanswered.Load())
	for _, w := range c.clients {
		r.StuckS = max(r.StuckS, w.stuck.Seconds())
	}
}
