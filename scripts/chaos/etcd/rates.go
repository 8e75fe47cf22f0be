//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/rendezvous"
	"dibber/scripts/node"
)

// rate is what servers answer a second, of requests one after the other from each client.
type rate struct {
	Registry  string  `json:"registry"`
	Registers float64 `json:"registers_per_s"`
	Discovers float64 `json:"discovers_per_s"`
	Refused   int     `json:"refused"` // of both, by the rate that a peer may have
}

// rates measures the registry of the state folder, then the shared one with more and more servers.
func rates(ctx context.Context, o options, m *members, program, dir string) (list []rate, err error) {
	for n := range 4 {
		one := rate{Registry: fmt.Sprintf("etcd, servers: %d", n)}
		registry, count := m.registry(fmt.Sprintf("rate%d", n)), n
		if n == 0 {
			one.Registry, registry, count = "in the state folder", "", 1
		}
		servers, err := startServers(ctx, program, dir, fmt.Sprintf("rate%d", n), count, registry)
		if err != nil {
			return list, err
		}
		err = one.measure(ctx, o, servers)
		killServers(servers)
		if err != nil {
			return list, err
		}
		list = append(list, one)
	}
	return list, nil
}

// measure lets new clients register, each in a few namespaces, and then discover.
func (r *rate) measure(ctx context.Context, o options, servers []*node.Node) (err error) {
	c := &crowd{servers: servers}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.gather(o.clients); err != nil {
		return err
	}
	for _, w := range c.clients {
		if err := node.Connect(ctx, w.h, servers[w.at].Info); err != nil {
			return err
		}
	}
	r.Registers, err = r.each(ctx, o.rate, c.clients, func(ctx context.Context, w *client, i int) error {
		_, err := rendezvous.Register(ctx, w.h, servers[w.at].Info, rendezvous.RegisterRequest{
			Namespace: fmt.Sprintf("rate-%d", i%longs), TTL: longTTL, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/10.1.2.3/tcp/4001")}, Format: rendezvous.FormatStandard,
		})
		return err
	})
	if err != nil {
		return err
	}
	r.Discovers, err = r.each(ctx, o.rate, c.clients, func(ctx context.Context, w *client, i int) error {
		_, err := rendezvous.Discover(ctx, w.h, servers[w.at].Info, rendezvous.DiscoverRequest{Namespace: fmt.Sprintf("rate-%d", i%longs), Limit: 100, Format: rendezvous.FormatStandard})
		return err
	})
	return err
}

// each lets all clients ask at once for some time, and returns how many answers there were a second.
func (r *rate) each(ctx context.Context, d time.Duration, clients []*client, ask func(context.Context, *client, int) error) (float64, error) {
	var answers, refused atomic.Int64
	var failed error
	var once sync.Once
	var running sync.WaitGroup
	began := time.Now()
	for _, w := range clients {
		running.Go(func() {
			for i := 0; time.Since(began) < d && ctx.Err() == nil; i++ {
				err := ask(ctx, w, i)
				if _, no := errors.AsType[*rendezvous.StatusError](err); no {
					refused.Add(1)
					continue
				}
				if err != nil {
					once.Do(func() { failed = err })
					return
				}
				answers.Add(1)
			}
		})
	}
	running.Wait()
	r.Refused += int(refused.Load())
	return float64(answers.Load()) / time.Since(began).Seconds(), failed
}
