// Command rendezvous measures the rendezvous server over real streams on loopback, in a process of its own, against an empty
// stream echo of the same sizes on the same host in the same run, and what a million registrations and a flood do to it.
//
//	go run ./scripts/bench/rendezvous [-registrations N] [-rounds N] [-skip rates,scale,flood] [-flood-peers N]
//
// Loads alternate, so that whatever else the machine does meets all alike; figures are medians of the rounds. It prints a table
// and, last, one line of JSON, and exits 1 if a limit is exceeded.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Limits on the figures.
const (
	minEchoShare    = 0.60
	minFirstShare   = 0.80
	maxP50Ratio     = 1.5
	maxResidentMB   = 1200
	maxRestartS     = 10
	maxFloodMiB     = 256
	minHonestShare  = 0.99
	maxHonestP99    = 3
	minFloodShare   = 0.5 // of the attacks meant; with fewer the machine was too busy to flood anything
	smallRegistry   = 1000
	floodCalm       = 15 * time.Second
	floodMeasured   = 30 * time.Second
	childSubcommand = "child"
)

type options struct {
	registrations, rounds, floodPeers int
	floodEvery                        time.Duration
	skip                              []string
}

func (o options) skips(part string) bool { return slices.Contains(o.skip, part) }

func main() {
	if len(os.Args) > 2 && os.Args[1] == childSubcommand {
		if err := child(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench rendezvous:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	var skip string
	flag.IntVar(&o.registrations, "registrations", 1_000_000, "fill the large registry with `N`")
	flag.IntVar(&o.rounds, "rounds", 7, "measure `N` rounds of each load")
	flag.IntVar(&o.floodPeers, "flood-peers", 1000, "flood with `N` hostile peers")
	flag.DurationVar(&o.floodEvery, "flood-every", time.Second, "have each of them attack once in `D`")
	flag.StringVar(&skip, "skip", "", "leave out the `parts`: rates, scale, flood")
	flag.Parse()
	if o.registrations < 1 || o.rounds < 1 || o.floodPeers < 1 || o.floodEvery <= 0 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	o.skip = strings.Split(skip, ",")
	for _, part := range o.skip {
		if !slices.Contains([]string{"", "rates", "scale", "flood"}, part) {
			fmt.Fprintf(os.Stderr, "bench rendezvous: -skip names rates, scale and flood, not %q\n", part)
			os.Exit(2)
		}
	}
	r, err := measure(context.Background(), o)
	if err == nil {
		err = r.print()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench rendezvous:", err)
		os.Exit(1)
	}
}

// result is the line of JSON. A part that was left out is null.
type result struct {
	Bench string      `json:"bench"`
	Rates *ratesPart  `json:"rates"`
	Scale *scalePart  `json:"scale"`
	Flood *floodPart  `json:"flood"`
	Fails []string    `json:"fails"`
	rows  [][4]string // name, figure, limit, met or missed
}

func measure(ctx context.Context, o options) (*result, error) {
	r := &result{Bench: "rendezvous", Fails: []string{}}
	for _, part := range []struct {
		name string
		run  func(context.Context, options, *result) error
	}{{"rates", measureRates}, {"scale", measureScale}, {"flood", measureFlood}} {
		if o.skips(part.name) {
			continue
		}
		if err := part.run(ctx, o, r); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return r, nil
}

// row adds a line to the table.
func (r *result) row(name, format string, figures ...any) {
	r.rows = append(r.rows, [4]string{name, fmt.Sprintf(format, figures...)})
}

// hold adds a line with a limit, and a failure if it does not hold.
func (r *result) hold(ok bool, name, figure, limit string) {
	verdict := "met"
	if !ok {
		verdict = "missed"
		r.Fails = append(r.Fails, name)
	}
	r.rows = append(r.rows, [4]string{name, figure, limit, verdict})
}

func (r *result) print() error {
	for _, row := range r.rows {
		fmt.Println(strings.TrimRight(fmt.Sprintf("%-40s %-44s %-18s %s", row[0], row[1], row[2], row[3]), " "))
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	if len(r.Fails) > 0 {
		return errors.New("a limit is exceeded: " + strings.Join(r.Fails, ", "))
	}
	return nil
}

// quantile is the q-quantile of values, of which there is at least one.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	below := int(at)
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (at-float64(below))*(sorted[above]-sorted[below])
}

func median(values []float64) float64 { return quantile(values, 0.5) }
