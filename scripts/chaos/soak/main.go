// Command soak keeps a `dibber serve --relay --rendezvous --http` busy and looks at whether it grows.
//
//	go run ./scripts/chaos/soak [-minutes N] [-every D]
//
// Peers register, refresh, unregister and look each other up; others come, reserve, have a circuit made, exchange data over it and go; ctl
// asks for everything; metrics are read, and a dashboard is told what happens. All of them come from a fixed set, so that what the server
// knows stays the same. Live heap (after a collection), resident memory, goroutines and file descriptors are noted over time. The verdict
// compares the median of the last quarter with that of the second: the first is for warming up. It prints a table and, last,
// one line of JSON, and exits 1 if something grew or the load failed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"dibber/scripts/node"
)

type options struct {
	minutes float64
	every   time.Duration
}

func main() {
	var o options
	flag.Float64Var(&o.minutes, "minutes", 60, "keep it busy for `N` minutes")
	flag.DurationVar(&o.every, "every", 0, "note figures each `DURATION`; 0 means 40 times")
	flag.Parse()
	if o.minutes <= 0 || o.every < 0 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	r, err := run(ctx, o)
	stop()
	if err == nil {
		err = r.print()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos soak:", err)
		os.Exit(1)
	}
}

// result is the line of JSON.
type result struct {
	Chaos    string             `json:"chaos"`
	Minutes  float64            `json:"minutes"`
	Samples  int                `json:"samples"`
	Second   map[string]float64 `json:"second_quarter"` // medians, by figure
	Last     map[string]float64 `json:"last_quarter"`
	Grew     []string           `json:"grew"`
	Done     map[string]int64   `json:"done"`   // by kind of load
	Failed   map[string]int64   `json:"failed"` // by kind of load
	ExitCode int                `json:"exit_code"`
}

func run(ctx context.Context, o options) (r *result, err error) {
	dir, err := os.MkdirTemp("", "dibber-soak-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program, err := node.Build(ctx, dir)
	if err != nil {
		return nil, err
	}
	s := node.New(program, filepath.Join(dir, "ready"), "--relay", "--rendezvous", "--http", "127.0.0.1:0", "--http-pprof",
		"--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--listen", "/ip4/127.0.0.1/tcp/0", "--state-dir", filepath.Join(dir, "state"))
	defer s.Kill()
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	length := time.Duration(o.minutes * float64(time.Minute))
	if o.every == 0 {
		o.every = length / 40
	}
	during, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	l := newLoad(s)
	if err := l.start(during); err != nil {
		return nil, errors.Join(err, l.wait())
	}
	samples, err := watch(during, s, o.every)
	cancel()
	if err := errors.Join(err, l.wait()); err != nil {
		return nil, err
	}
	r = &result{Chaos: "soak", Minutes: o.minutes, Samples: len(samples), Done: l.done, Failed: l.failed, ExitCode: s.Stop()}
	r.judge(samples)
	return r, nil
}

func (r *result) print() error {
	fmt.Printf("\n%-22s%16s%16s\n", "median", "second quarter", "last quarter")
	for _, f := range figures() {
		fmt.Printf("%-22s%16.1f%16.1f\n", f.name, r.Second[f.name], r.Last[f.name])
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	for kind, n := range r.Failed {
		if n*100 > r.Done[kind] {
			err = errors.Join(err, fmt.Errorf("%s: %d failed, %d done", kind, n, r.Done[kind]))
		}
	}
	for _, what := range r.Grew {
		err = errors.Join(err, errors.New(what))
	}
	if r.ExitCode != 0 {
		err = errors.Join(err, fmt.Errorf("the server ended with exit code %d", r.ExitCode))
	}
	return err
}
