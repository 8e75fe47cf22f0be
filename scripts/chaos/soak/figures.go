package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"dibber/scripts/node"
)

// figure is what is noted over time.
type figure struct {
	name, metric string
	unit         float64 // of the metric in one of the name
	// part and room are how much more the last quarter may be than the second: a part of it, and some.
	part, room float64
}

// figures are all of them. What comes and goes with the load needs room; what leaks by circuit, connection or request exceeds it within minutes.
func figures() []figure {
	const mib = 1 << 20
	return []figure{
		{"live heap MiB", "go_memstats_heap_alloc_bytes", mib, 0.10, 4},
		{"resident MiB", "process_resident_memory_bytes", mib, 0.15, 16},
		{"goroutines", "go_goroutines", 1, 0.10, 40},
		{"file descriptors", "process_open_fds", 1, 0.10, 20},
	}
}

// sample is the figures at one time, by name.
type sample map[string]float64

// watch notes figures until ctx ends.
func watch(ctx context.Context, s *node.Node, every time.Duration) (list []sample, err error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	began := time.Now()
	fmt.Printf("%8s", "after")
	for _, f := range figures() {
		fmt.Printf("%18s", f.name)
	}
	fmt.Println()
	for {
		select {
		case <-ctx.Done():
			return list, nil
		case <-tick.C:
		}
		now, err := take(ctx, s)
		if ctx.Err() != nil {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		fmt.Printf("%8s", time.Since(began).Round(time.Second))
		for _, f := range figures() {
			fmt.Printf("%18.1f", now[f.name])
		}
		fmt.Println()
		list = append(list, now)
	}
}

// take reads the figures after a collection of garbage.
func take(ctx context.Context, s *node.Node) (sample, error) {
	if _, err := get(ctx, s, "/debug/pprof/heap?gc=1"); err != nil {
		return nil, err
	}
	text, err := get(ctx, s, "/metrics")
	if err != nil {
		return nil, err
	}
	out := make(sample)
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		for _, f := range figures() {
			if len(words) != 2 || words[0] != f.metric {
				continue
			}
			v, err := strconv.ParseFloat(words[1], 64)
			if err != nil {
				return nil, fmt.Errorf("metric %s: %w", f.metric, err)
			}
			out[f.name] = v / f.unit
		}
	}
	if len(out) != len(figures()) {
		return nil, fmt.Errorf("the metrics have only %v", out)
	}
	return out, nil
}

// judge compares the last quarter with the second.
func (r *result) judge(list []sample) {
	quarter := len(list) / 4
	r.Grew, r.Second, r.Last = []string{}, make(map[string]float64), make(map[string]float64)
	if quarter == 0 {
		r.Grew = append(r.Grew, "too few figures for a verdict")
		return
	}
	for _, f := range figures() {
		second, last := median(list[quarter:2*quarter], f.name), median(list[len(list)-quarter:], f.name)
		r.Second[f.name], r.Last[f.name] = second, last
		if last > second*(1+f.part)+f.room {
			r.Grew = append(r.Grew, fmt.Sprintf("%s grew from %.1f to %.1f", f.name, second, last))
		}
	}
}

func median(list []sample, name string) float64 {
	values := make([]float64, 0, len(list))
	for _, s := range list {
		values = append(values, s[name])
	}
	slices.Sort(values)
	return values[len(values)/2]
}
