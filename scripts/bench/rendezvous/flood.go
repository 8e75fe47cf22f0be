package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"dibber/netkit/rendezvous"
)

const (
	honestPeers = 10
	honestEvery = 50 * time.Millisecond // between the requests of each
	honestWait  = 5 * time.Second       // after which a request counts as unanswered
	slowDials   = 200                   // handshakes that are begun and left, every slowEvery
	slowEvery   = 10 * time.Second
)

// floodPart compares honest requests in calm and under attack.
type floodPart struct {
	HostilePeers  int     `json:"hostile_peers"`
	HostileEveryS float64 `json:"hostile_every_s"` // between the attacks of each
	CalmRequests  int     `json:"calm_requests"`
	CalmP99MS     float64 `json:"calm_p99_ms"`
	Requests      int     `json:"requests"`
	AnsweredShare float64 `json:"answered_share"`
	P99MS         float64 `json:"p99_ms"`
	P99Ratio      float64 `json:"p99_ratio"`
	GrowthMiB     float64 `json:"resident_growth_mib"`
	// Attacks is what the hostile peers got done, by kind.
	Attacks map[string]int64 `json:"attacks"`
	// Refused is what the server refused, by reason.
	Refused map[string]uint64 `json:"refused"`
}

func measureFlood(ctx context.Context, o options, r *result) (err error) {
	dir, err := os.MkdirTemp("", "dibber-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := startServer(ctx, dir, true)
	if err != nil {
		return err
	}
	defer p.kill()
	honest := make([]*client, honestPeers)
	for i := range honest {
		if honest[i], err = newClient(ctx, p.info); err != nil {
			return err
		}
		defer honest[i].Close()
	}
	f := &floodPart{HostilePeers: o.floodPeers, HostileEveryS: o.floodEvery.Seconds()}
	calm, _ := honestLoad(ctx, honest, floodCalm)
	f.CalmRequests, f.CalmP99MS = len(calm), quantile(calm, 0.99)
	before, err := p.memory("VmHWM")
	if err != nil {
		return err
	}
	hostile, err := startFlood(ctx, p.tcpAddr(), o)
	if err != nil {
		return err
	}
	took, failed := honestLoad(ctx, honest, floodMeasured)
	if f.Attacks, err = hostile.stop(); err != nil {
		return fmt.Errorf("hostile peers: %w", err)
	}
	after, err := p.memory("VmHWM")
	if err != nil {
		return err
	}
	stats, err := p.tell("0")
	if err != nil {
		return err
	}
	f.Requests, f.P99MS = len(took)+failed, quantile(took, 0.99)
	f.AnsweredShare, f.P99Ratio = float64(len(took))/float64(f.Requests), f.P99MS/f.CalmP99MS
	f.GrowthMiB, f.Refused = after-before, stats.Refusals
	r.Flood = f
	f.report(r)
	return nil
}

func (f *floodPart) report(r *result) {
	meant := float64(f.HostilePeers) * floodMeasured.Seconds() / f.HostileEveryS
	r.hold(float64(f.Attacks[begun]) >= minFloodShare*meant, "flood: attacks begun",
		fmt.Sprintf("%d, %d peers, each every %g s", f.Attacks[begun], f.HostilePeers, f.HostileEveryS), fmt.Sprintf("at least %.0f", minFloodShare*meant))
	for _, kind := range slices.Sorted(maps.Keys(f.Attacks)) {
		if kind == begun {
			continue
		}
		r.row("flood: "+kind, "%d", f.Attacks[kind])
		if f.Attacks[kind] == 0 {
			r.Fails = append(r.Fails, "flood: no "+kind)
		}
	}
	r.hold(f.GrowthMiB <= maxFloodMiB, "flood: resident memory grows by", fmt.Sprintf("%.0f MiB", f.GrowthMiB), fmt.Sprintf("at most %d MiB", maxFloodMiB))
	r.hold(f.AnsweredShare >= minHonestShare, "flood: honest requests answered",
		fmt.Sprintf("%.2f %% of %d", 100*f.AnsweredShare, f.Requests), fmt.Sprintf("at least %.0f %%", 100*minHonestShare))
	r.hold(f.P99Ratio <= maxHonestP99, "flood: honest p99 to that of calm",
		fmt.Sprintf("%.1f/%.1f ms, × %.1f", f.P99MS, f.CalmP99MS, f.P99Ratio), fmt.Sprintf("at most × %d", maxHonestP99))
}

// honestLoad has each client register and discover in turn, at a fixed pace, and returns what the answered requests took.
func honestLoad(ctx context.Context, clients []*client, d time.Duration) (took []float64, failed int) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var mu sync.Mutex
	var workers sync.WaitGroup
	for _, c := range clients {
		workers.Go(func() {
			tick := time.NewTicker(honestEvery)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				request := encodeDiscover("honest", 100, nil)
				if i%10 == 0 {
					request, _ = registerRequest(c.key, "honest", "192.0.2.1", uint64(time.Now().UnixNano()))
				}
				begun := time.Now()
				err := honestOne(c, request)
				mu.Lock()
				if err != nil {
					failed++
				} else {
					took = append(took, ms(time.Since(begun)))
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return took, failed
}

func honestOne(c *client, request []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), honestWait)
	defer cancel()
	reply, err := c.ask(ctx, rendezvous.ProtocolID, request)
	if err != nil {
		return err
	}
	return checkStatus(reply)
}
