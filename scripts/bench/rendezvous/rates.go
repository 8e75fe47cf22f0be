package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"dibber/netkit/rendezvous"
)

const (
	rateClients = 32
	ratePerRun  = 200
)

// ratesPart compares requests a second with those of the echo.
type ratesPart struct {
	EchoSmall     float64 `json:"echo_small_per_s"`
	Refresh       float64 `json:"refresh_per_s"`
	RefreshShare  float64 `json:"refresh_share"`
	EchoLarge     float64 `json:"echo_large_per_s"`
	Discover      float64 `json:"discover100_per_s"`
	DiscoverShare float64 `json:"discover100_share"`
	VerifyUS      float64 `json:"verify_us"`
	// The same shares by processor time, of client and server, which other work on the machine disturbs less.
	RefreshCPU  float64 `json:"refresh_cpu_share"`
	DiscoverCPU float64 `json:"discover100_cpu_share"`
	FirstCPU    float64 `json:"first_register_cpu_share"`
	First       float64 `json:"first_register_per_s"`
	FirstLimit  float64 `json:"first_register_bound_per_s"`
	FirstShare  float64 `json:"first_register_share"`
}

func measureRates(ctx context.Context, o options, r *result) (err error) {
	dir, err := os.MkdirTemp("", "dibber-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := startServer(ctx, dir, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if _, err := p.tell(fmt.Sprint(fillNamespaces * 110)); err != nil {
		return err
	}
	clients := make([]*client, rateClients)
	for i := range clients {
		if clients[i], err = newClient(ctx, p.info); err != nil {
			return err
		}
		defer clients[i].Close()
	}
	loads, err := rateLoads(ctx, clients[0])
	if err != nil {
		return err
	}
	rates, work := make([][]float64, len(loads)), make([][]float64, len(loads))
	var verify []float64
	for round := range o.rounds + 1 {
		for i, l := range loads {
			rate, err := l.run(ctx, p, clients, ratePerRun)
			if err != nil {
				return err
			}
			if round > 0 { // the first is to warm up
				rates[i], work[i] = append(rates[i], rate.perS), append(work[i], rate.perCPU)
			}
		}
		took, err := verifyTime(clients[0])
		if err != nil {
			return err
		}
		verify = append(verify, took.Seconds())
	}
	r.Rates = newRates(rates, work, median(verify))
	r.Rates.report(r)
	return nil
}

// rateLoads are the loads in the order of ratesPart.
func rateLoads(ctx context.Context, c *client) ([]load, error) {
	sealed := make(map[*client][]byte)
	refresh := load{"refresh", rendezvous.ProtocolID, func(c *client, _, i int) (_ []byte, err error) {
		if i == 0 { // once a run: the loads between have registered newer records
			sealed[c], err = registerRequest(c.key, namespace(0), "192.0.2.1", uint64(time.Now().UnixNano()))
		}
		return sealed[c], err
	}}
	discover := load{"discover(100)", rendezvous.ProtocolID, func(_ *client, worker, i int) ([]byte, error) {
		return encodeDiscover(namespace(worker*ratePerRun+i), 100, nil), nil
	}}
	// One seq for all of a run: of several under way the order of arrival is open. It names the run's namespaces too, in which
	// nobody is registered yet.
	var seq uint64
	first := load{"first register", rendezvous.ProtocolID, func(c *client, worker, i int) ([]byte, error) {
		if worker == 0 && i == 0 {
			seq = uint64(time.Now().UnixNano())
		}
		return registerRequest(c.key, fmt.Sprintf("first-%d-%d", seq, i), fmt.Sprintf("192.0.2.%d", 1+i), seq)
	}}
	// Each client registers once, so that it is given what it registers with, without a look at its agent.
	register, err := refresh.prepare(c, 0, 0)
	if err != nil {
		return nil, err
	}
	small, err := c.ask(ctx, refresh.id, register)
	if err != nil {
		return nil, err
	}
	page, err := c.ask(ctx, discover.id, encodeDiscover(namespace(0), 100, nil))
	if err != nil {
		return nil, err
	}
	return []load{
		echoLoad(len(register), len(small)), refresh,
		echoLoad(len(encodeDiscover(namespace(0), 100, nil)), len(page)), discover, first,
	}, nil
}

// verifyTime is how long it takes to verify a record.
func verifyTime(c *client) (time.Duration, error) {
	const times = 500
	envelope, err := sealOne(c)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	for range times {
		if _, err := rendezvous.OpenRecord(envelope); err != nil {
			return 0, err
		}
	}
	return time.Since(begun) / times, nil
}

func newRates(rates, work [][]float64, verify float64) *ratesPart {
	p := &ratesPart{
		EchoSmall: median(rates[0]), Refresh: median(rates[1]), EchoLarge: median(rates[2]), Discover: median(rates[3]),
		First: median(rates[4]), VerifyUS: verify * 1e6,
	}
	share := func(a, b []float64) float64 {
		var shares []float64
		for i := range a {
			shares = append(shares, a[i]/b[i])
		}
		return median(shares)
	}
	p.RefreshShare, p.DiscoverShare = share(rates[1], rates[0]), share(rates[3], rates[2])
	p.RefreshCPU, p.DiscoverCPU = share(work[1], work[0]), share(work[3], work[2])
	p.FirstLimit = 1 / (1/p.EchoSmall + verify)
	var bounds []float64
	for _, echo := range rates[0] {
		bounds = append(bounds, 1/(1/echo+verify))
	}
	p.FirstShare = share(rates[4], bounds)
	bounds = nil
	for _, echo := range work[0] {
		bounds = append(bounds, 1/(1/echo+verify))
	}
	p.FirstCPU = share(work[4], bounds)
	return p
}

func (p *ratesPart) report(r *result) {
	r.row("echo of REGISTER's sizes", "%.0f/s", p.EchoSmall)
	r.hold(p.RefreshShare >= minEchoShare, "REGISTER, refresh",
		fmt.Sprintf("%.0f/s, %.0f %% of echo (by CPU %.0f %%)", p.Refresh, 100*p.RefreshShare, 100*p.RefreshCPU), fmt.Sprintf("at least %.0f %%", 100*minEchoShare))
	r.row("echo of DISCOVER(100)'s sizes", "%.0f/s", p.EchoLarge)
	r.hold(p.DiscoverShare >= minEchoShare, "DISCOVER(100)",
		fmt.Sprintf("%.0f/s, %.0f %% of echo (by CPU %.0f %%)", p.Discover, 100*p.DiscoverShare, 100*p.DiscoverCPU), fmt.Sprintf("at least %.0f %%", 100*minEchoShare))
	r.row("verify one record", "%.0f µs", p.VerifyUS)
	r.hold(p.FirstShare >= minFirstShare, "REGISTER, first time",
		fmt.Sprintf("%.0f/s, %.0f %% of %.0f/s (by CPU %.0f %%)", p.First, 100*p.FirstShare, p.FirstLimit, 100*p.FirstCPU), fmt.Sprintf("at least %.0f %%", 100*minFirstShare))
}

func sealOne(c *client) ([]byte, error) {
	return rendezvous.SealRecord(c.key, uint64(time.Now().UnixNano()), benchAddrs(), rendezvous.Standard)
}
