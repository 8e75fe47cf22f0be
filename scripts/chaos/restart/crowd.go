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
	placesEach = 16                    // of a client, each in another namespace
	workEvery  = 50 * time.Millisecond // as often as the server lets a peer
	workWait   = 60 * time.Second      // longer than the server goes on with a request
)

// crowd is the clients. Each connects over TCP, where a killed server is noticed at once.
type crowd struct {
	server  peer.AddrInfo
	reader  host.Host
	clients []*client
	// turn is held by each client for a request, and by who wants all to pause.
	turn sync.RWMutex
	// dying is set from before the kill until the server is up again.
	dying   atomic.Bool
	version atomic.Uint64
	end     context.CancelFunc
	running sync.WaitGroup

	registers, unregisters, refused, unanswered atomic.Int64
}

// client makes one request after the other: of several records under way at once the server may refuse the older.
type client struct {
	c      *crowd
	h      host.Host
	chance *rand.Rand
	places []*place
}

func newCrowd(ctx context.Context, o options, server peer.AddrInfo) (*crowd, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &crowd{server: server, end: cancel}
	var err error
	if c.reader, err = newHost(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	for i := range o.clients {
		h, err := newHost()
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		w := &client{c: c, h: h, chance: rand.New(rand.NewPCG(o.seed, uint64(1+i)))}
		for j := range placesEach {
			w.places = append(w.places, &place{ns: namespace(j)})
		}
		c.clients = append(c.clients, w)
	}
	for _, w := range c.clients {
		c.running.Go(func() { w.run(ctx) })
	}
	return c, nil
}

func namespace(i int) string { return fmt.Sprintf("chaos-%02d", i) }

func newHost() (host.Host, error) {
	return libp2p.New(
		libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.Transport(tcp.NewTCPTransport),
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.UserAgent("chaos"),
	)
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

// work registers or refreshes a place, or, one time in four, unregisters it.
func (w *client) work(ctx context.Context) {
	if !connected(ctx, w.h, w.c.server) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, workWait)
	defer cancel()
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

// connected connects if need be, however often that has failed.
func connected(ctx context.Context, h host.Host, server peer.AddrInfo) bool {
	if s, ok := h.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(server.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, workWait)
	defer cancel()
	return h.Connect(ctx, server) == nil
}

// check compares what the server has with what it acknowledged, while all pause.
func (c *crowd) check(ctx context.Context, r *result) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	if !connected(ctx, c.reader, c.server) {
		return errors.New("check: no connection to the server")
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
