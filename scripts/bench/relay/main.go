// Command relay measures netkit/relay against the relay of go-libp2p, on
// loopback, every part in a process of its own: the bytes carried per second of
// the relay's CPU, what reservations cost, and how evenly circuits share.
//
//	go run ./scripts/bench/relay
//
// The machine is shared by all parts, so ratios of runs that alternate say more
// than rates. The last line is the result as JSON. It exits 1 if a limit is missed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"time"
)

// options are the flags.
type options struct {
	role         string // of a child process; empty in the parent
	kind         string // of a relay: ours or stock
	transport    string // of a child: quic or tcp
	only         string
	runs         int
	time         time.Duration
	pairs        int
	reservations int
	hold         time.Duration
	circuits     int
	profile      string
}

func main() {
	var o options
	flag.StringVar(&o.role, "role", "", "what a child process is; for the program's own use")
	flag.StringVar(&o.kind, "kind", "ours", "whose relay a child runs: ours or stock")
	flag.StringVar(&o.transport, "transport", "", "measure only over `NAME`: quic or tcp")
	flag.StringVar(&o.only, "only", "", "measure only `PARTS`, separated by commas: throughput, reservations, fairness")
	flag.IntVar(&o.runs, "runs", 3, "how often each throughput is measured; the median counts")
	flag.DurationVar(&o.time, "time", 5*time.Second, "how long traffic is measured each time")
	flag.IntVar(&o.pairs, "pairs", 4, "how many circuits carry the throughput")
	flag.IntVar(&o.reservations, "reservations", 10000, "how many reservations are made")
	flag.DurationVar(&o.hold, "hold", 30*time.Second, "how long they are held")
	flag.IntVar(&o.circuits, "circuits", 500, "how many circuits share a relay")
	flag.StringVar(&o.profile, "profile", "", "write the CPU profile of each measured relay to `PREFIX`-NAME.pprof")
	flag.Parse()
	if err := o.check(); err != nil {
		fmt.Fprintln(os.Stderr, "relay benchmark:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "relay benchmark:", err)
		os.Exit(1)
	}
}

// check refuses names of what there is not.
func (o options) check() error {
	if o.transport != "" && o.transport != "quic" && o.transport != "tcp" {
		return fmt.Errorf("-transport is quic or tcp, not %q", o.transport)
	}
	for part := range strings.SplitSeq(o.only, ",") {
		if part != "" && part != "throughput" && part != "reservations" && part != "fairness" {
			return fmt.Errorf("-only names throughput, reservations and fairness, not %q", part)
		}
	}
	return nil
}

func run(ctx context.Context, o options) error {
	if o.role != "" {
		return serveChild(ctx, o)
	}
	res, err := measure(ctx, o)
	if err != nil {
		return err
	}
	met := res.print()
	if err := json.NewEncoder(os.Stdout).Encode(res); err != nil {
		return err
	}
	if !met {
		return errors.New("a limit was missed")
	}
	return nil
}

// result is the last line of the output.
type result struct {
	CPUs         int            `json:"cpus"`
	Throughput   []throughput   `json:"throughput,omitempty"`
	Reservations []reservations `json:"reservations,omitempty"`
	Fairness     []fairness     `json:"fairness,omitempty"`
}

// measure runs the parts that were asked for and tells each as it is done.
func measure(ctx context.Context, o options) (result, error) {
	res := result{CPUs: runtime.NumCPU()}
	wanted := func(part string) bool {
		return o.only == "" || strings.Contains(","+o.only+",", ","+part+",")
	}
	for _, transport := range []string{"quic", "tcp"} {
		if o.transport != "" && o.transport != transport {
			continue
		}
		if wanted("throughput") {
			t, err := measureThroughput(ctx, o, transport)
			if err != nil {
				return res, fmt.Errorf("throughput over %s: %w", transport, err)
			}
			fmt.Println(t)
			res.Throughput = append(res.Throughput, t)
		}
		if wanted("fairness") {
			f, err := measureFairness(ctx, o, transport)
			if err != nil {
				return res, fmt.Errorf("fairness over %s: %w", transport, err)
			}
			fmt.Println(f)
			res.Fairness = append(res.Fairness, f)
		}
	}
	if wanted("reservations") && o.transport != "tcp" {
		r, err := measureReservations(ctx, o)
		if err != nil {
			return res, fmt.Errorf("reservations: %w", err)
		}
		fmt.Println(r)
		res.Reservations = append(res.Reservations, r)
	}
	return res, nil
}
