// Command operator measures what a `dibber serve --relay --rendezvous` does for its peers while its operator looks on, beside what it
// does alone: a dashboard is open, metrics are read every second, and ctl circuits and ctl registrations run with --watch,
// the latter with --limit 1000.
//
//	go run ./scripts/bench/operator [-peers N] [-registrations N] [-rounds N] [-time D]
//
// The server holds many registrations and circuits. What it does is counted per second of its own processor time, alone and watched by
// turns, so that whatever else the machine does meets both alike; figures are medians of the rounds. From these follows what watching
// leaves of a processor, also where the server gets less than one. It prints a table and, last, one line of JSON, and exits 1 if that is
// less than nine tenths.
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
	"slices"
	"time"

	"dibber/scripts/node"
)

// least is what must be left of a processor while the operator looks on.
const least = 0.9

type options struct {
	peers, registrations, rounds int
	time                         time.Duration
}

func main() {
	var o options
	flag.IntVar(&o.peers, "peers", 500, "serve `N` peers, and carry as many circuits between them")
	flag.IntVar(&o.registrations, "registrations", 10_000, "keep `N` registrations")
	flag.IntVar(&o.rounds, "rounds", 5, "measure `N` rounds")
	flag.DurationVar(&o.time, "time", 4*time.Second, "measure for `DURATION` each time")
	flag.Parse()
	if o.peers < 2*busy || o.registrations > o.peers*eachAtOnce || o.rounds < 1 || o.time < time.Second || flag.NArg() > 0 {
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
		fmt.Fprintln(os.Stderr, "bench operator:", err)
		os.Exit(1)
	}
}

// result is the line of JSON.
type result struct {
	Bench         string   `json:"bench"`
	Registrations int      `json:"registrations"`
	Circuits      int      `json:"circuits"`
	Figures       []figure `json:"figures"`
}

// figure is what is done in a second of the server's processor time.
type figure struct {
	Name    string  `json:"name"`
	Alone   float64 `json:"alone"`
	Watched float64 `json:"watched"`
	Left    float64 `json:"left"` // of a processor, while the operator looks on
}

// sample is what was done in some time, and what that took. Times are in seconds.
type sample struct{ done, cpu, wall float64 }

// rate is what was done a second; one that took no hundredth of a second, in which the kernel counts, counts as one that did.
func (s sample) rate() float64 { return s.done / max(s.cpu, 0.01) }

// left is what watching leaves of a processor: what was done took more than it would have taken alone.
func left(alone, watched sample) float64 {
	return 1 - (watched.cpu-watched.done/alone.rate())/watched.wall
}

func run(ctx context.Context, o options) (r result, err error) {
	r = result{Bench: "operator", Registrations: o.registrations, Circuits: o.peers}
	dir, err := os.MkdirTemp("", "dibber-bench-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program, err := node.Build(ctx, dir)
	if err != nil {
		return r, err
	}
	n := node.New(program, filepath.Join(dir, "ready"), "--relay", "--relay-unlimited", "--rendezvous", "--http", "127.0.0.1:0", "--http-pprof",
		"--conns", fmt.Sprint(4*o.peers), "--relay-reservations", fmt.Sprint(o.peers), "--relay-circuits-total", fmt.Sprint(2*o.peers),
		"--listen", "/ip4/127.0.0.1/tcp/0", "--state-dir", filepath.Join(dir, "state"))
	defer n.Kill()
	if err := n.Start(ctx); err != nil {
		return r, err
	}
	s := &scene{node: n}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.gather(ctx, o); err != nil {
		return r, err
	}
	r.Figures, err = s.figures(ctx, o, program)
	return r, err
}

// figures measures all loads, alone and watched by turns.
func (s *scene) figures(ctx context.Context, o options, program string) (list []figure, err error) {
	var alone, watched [][]sample // by round and load
	for round := range o.rounds {
		first, second := &alone, &watched
		if round%2 == 1 {
			first, second = second, first
		}
		for _, at := range []*[][]sample{first, second} {
			turn, err := s.turn(ctx, o.time, program, at == &watched)
			if err != nil {
				return nil, err
			}
			*at = append(*at, turn)
		}
	}
	for i, l := range loads() {
		of := func(value func(round int) float64) float64 {
			var values []float64
			for round := range o.rounds {
				values = append(values, value(round))
			}
			slices.Sort(values)
			return values[len(values)/2]
		}
		list = append(list, figure{
			l.name,
			of(func(round int) float64 { return alone[round][i].rate() }),
			of(func(round int) float64 { return watched[round][i].rate() }),
			of(func(round int) float64 { return left(alone[round][i], watched[round][i]) }),
		})
	}
	return list, nil
}

// turn measures each load once.
func (s *scene) turn(ctx context.Context, d time.Duration, program string, watched bool) (list []sample, err error) {
	if watched {
		looking := look(ctx, s.node, program)
		defer func() { err = errors.Join(err, looking.close()) }()
	}
	for _, l := range loads() {
		if err := pause(ctx, settle); err != nil {
			return nil, err
		}
		before, err := s.node.CPU()
		if err != nil {
			return nil, err
		}
		began := time.Now()
		done, err := l.run(s, ctx, d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.name, err)
		}
		wall := time.Since(began).Seconds()
		after, err := s.node.CPU()
		if err != nil {
			return nil, err
		}
		list = append(list, sample{done, after - before, wall})
	}
	return list, nil
}

// settle is how long after one load another begins: what the first has left behind belongs to neither.
const settle = time.Second

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r result) print() error {
	fmt.Printf("%d registrations, %d circuits; per second of the server's processor time\n", r.Registrations, r.Circuits)
	fmt.Printf("%-16s%10s%10s%6s\n", "", "alone", "watched", "left")
	var missed error
	for _, f := range r.Figures {
		fmt.Printf("%-16s%10.0f%10.0f%6.2f\n", f.Name, f.Alone, f.Watched, f.Left)
		if f.Left < least {
			missed = errors.Join(missed, fmt.Errorf("%s: watching leaves %.2f of a processor, less than %.1f", f.Name, f.Left, least))
		}
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	return missed
}
