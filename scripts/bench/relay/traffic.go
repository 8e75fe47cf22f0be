package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// throughput is how much the two relays carry.
type throughput struct {
	Transport string `json:"transport"`
	// Ours and Stock are MB per second of the relay's CPU, the median of all runs;
	// Rates MB per second of time.
	Ours      float64 `json:"ours_mb_per_cpu_s"`
	Stock     float64 `json:"stock_mb_per_cpu_s"`
	OursRate  float64 `json:"ours_mb_per_s"`
	StockRate float64 `json:"stock_mb_per_s"`
	Ratio     float64 `json:"ratio"`
	Runs      int     `json:"runs"`
}

func (t throughput) String() string {
	return fmt.Sprintf("throughput  %-4s  %4.0f MB per CPU second, go-libp2p %4.0f: ratio %.2f  (%.0f and %.0f MB/s, median of %d)",
		t.Transport, t.Ours, t.Stock, t.Ratio, t.OursRate, t.StockRate, t.Runs)
}

// measureThroughput measures both relays in turn, so that what else the machine
// does hits both alike.
func measureThroughput(ctx context.Context, o options, transport string) (throughput, error) {
	perCPU, perSecond := make(map[string][]float64), make(map[string][]float64)
	for range o.runs {
		for _, kind := range []string{"ours", "stock"} {
			s, err := carry(ctx, o, kind, transport, min(o.pairs, 4), max(o.pairs/4, 1), o.pairs)
			if err != nil {
				return throughput{}, fmt.Errorf("%s: %w", kind, err)
			}
			var sum int64
			for _, n := range s.received {
				sum += n
			}
			perCPU[kind] = append(perCPU[kind], float64(sum)/1e6/s.cpu)
			perSecond[kind] = append(perSecond[kind], float64(sum)/1e6/s.seconds)
		}
	}
	t := throughput{
		Transport: transport, Runs: o.runs, Ours: median(perCPU["ours"]), Stock: median(perCPU["stock"]),
		OursRate: median(perSecond["ours"]), StockRate: median(perSecond["stock"]),
	}
	t.Ratio = t.Ours / t.Stock
	return t, nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// fairness is how evenly circuits share a relay.
type fairness struct {
	Transport string  `json:"transport"`
	Circuits  int     `json:"circuits"`
	Seconds   float64 `json:"seconds"`
	// Slowest, Mean and Fastest are bytes per second and circuit.
	Slowest float64 `json:"slowest"`
	Mean    float64 `json:"mean"`
	Fastest float64 `json:"fastest"`
	Ratio   float64 `json:"ratio"` // of the slowest to the mean
	RSS     float64 `json:"rss_mib"`
}

func (f fairness) String() string {
	return fmt.Sprintf("fairness    %-4s  %d circuits: slowest %.0f kB/s, mean %.0f, fastest %.0f: ratio %.2f  (relay %.0f MiB)",
		f.Transport, f.Circuits, f.Slowest/1e3, f.Mean/1e3, f.Fastest/1e3, f.Ratio, f.RSS)
}

// fairSources is how many peers the circuits of a fairness run start at.
const fairSources = 20

func measureFairness(ctx context.Context, o options, transport string) (fairness, error) {
	hosts := min(fairSources, o.circuits)
	// Each of so many moves few chunks a second: longer, so that a chunk more or
	// less does not count.
	o.time *= 2
	s, err := carry(ctx, o, "ours", transport, hosts, (o.circuits+hosts-1)/hosts, o.circuits)
	if err != nil {
		return fairness{}, err
	}
	f := fairness{Transport: transport, Circuits: len(s.received), Seconds: s.seconds, RSS: s.rss}
	rates := make([]float64, len(s.received))
	for i, n := range s.received {
		rates[i] = float64(n) / s.seconds
		f.Mean += rates[i] / float64(len(s.received))
	}
	f.Slowest, f.Fastest = slices.Min(rates), slices.Max(rates)
	f.Ratio = f.Slowest / f.Mean
	return f, nil
}

// sample is what was carried in some time.
type sample struct {
	received []int64 // bytes, by circuit
	seconds  float64
	cpu      float64 // seconds of the relay
	rss      float64 // MiB of the relay
}

// carry lets circuits circuits, from sources to sinks, carry what they can, and
// measures that once it has settled.
func carry(ctx context.Context, o options, kind, transport string, sources, sinks, circuits int) (s sample, err error) {
	role := func(name string) (*child, error) {
		return start(ctx, "-role", name, "-kind", kind, "-transport", transport)
	}
	var parts []*child
	defer func() {
		for _, c := range slices.Backward(parts) {
			err = errors.Join(err, c.close())
		}
	}()
	for _, name := range []string{"relay", "sink", "source"} {
		c, err := role(name)
		if err != nil {
			return s, err
		}
		parts = append(parts, c)
	}
	relay, sink, source := parts[0], parts[1], parts[2]
	var at peer.AddrInfo
	if err := relay.ask("info", nil, &at); err != nil {
		return s, err
	}
	var to []peer.AddrInfo
	if err := sink.ask("listen", sinkArgs{at, sinks}, &to); err != nil {
		return s, err
	}
	if err := source.ask("open", sourceArgs{to, sources, circuits}, nil); err != nil {
		return s, err
	}
	if err := source.ask("send", nil, nil); err != nil {
		return s, err
	}
	if err := pause(ctx, settle); err != nil {
		return s, err
	}
	if o.profile != "" {
		if err := relay.ask("profile", fmt.Sprintf("%s-%s-%s-%d.pprof", o.profile, kind, transport, circuits), nil); err != nil {
			return s, err
		}
	}
	return between(ctx, relay, sink, o.time)
}

// settle is how long windows may grow before anything is measured.
const settle = 2 * time.Second

// between measures what passes in some time.
func between(ctx context.Context, relay, sink *child, d time.Duration) (s sample, err error) {
	var before, after []int64
	var used, use usage
	start := time.Now()
	if err := errors.Join(relay.ask("usage", nil, &used), sink.ask("received", nil, &before), pause(ctx, d)); err != nil {
		return s, err
	}
	if err := errors.Join(sink.ask("received", nil, &after), relay.ask("usage", nil, &use)); err != nil {
		return s, err
	}
	s = sample{received: after, seconds: time.Since(start).Seconds(), cpu: use.CPU - used.CPU, rss: use.RSS}
	for i := range s.received {
		s.received[i] -= before[i]
	}
	return s, nil
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
