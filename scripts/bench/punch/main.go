//go:build linux

// Command punch measures how peers behind every pair of NAT kinds come from a
// relayed connection to a direct one: two hosts as go-libp2p makes them, and two
// of dibber. Each pair runs in network namespaces on netkit/netns, so it needs root
// and what that package needs.
//
//	go run ./scripts/bench/punch
//
// Rows of a table are the kinds of the target, which has a reservation on the
// relay, columns those of the dialler. A number is the median of milliseconds from
// having a connection with the relay alone to a direct one, of the runs in which it
// came to that; "-" means none did. Then follow the limits, and whether they are met.
// The last line is the result as JSON.
//
// go test ./netkit/punch -run TestFigures -v does the same in virtual time, and
// PUNCH_RUNS=N many times over.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"dibber/netkit/natlab"
	"dibber/netkit/netns"
)

// options are the flags.
type options struct {
	role      string // of a child process; empty in the parent
	relay     string // of a child
	target    string // of a child that dials
	transport string
	who       string
	kinds     string
	beds      string
	runs      int
	parallel  int
	loss      float64
	patience  time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.role, "role", "", "what a child process is; for the program's own use")
	flag.StringVar(&o.relay, "relay", "", "the relay's address; for the program's own use")
	flag.StringVar(&o.target, "target", "", "the address to dial; for the program's own use")
	flag.StringVar(&o.transport, "transport", "quic,tcp", "measure over these `TRANSPORTS`")
	flag.StringVar(&o.who, "who", "stock,dibber", "measure these `PEERS`")
	flag.StringVar(&o.kinds, "kinds", "", "only kinds whose names contain one of these `WORDS`, separated by commas")
	flag.StringVar(&o.beds, "beds", "tun,nft", "measure on these `BEDS`: natlab's NATs on TUN devices, the kernel's NATs by nftables")
	flag.IntVar(&o.runs, "runs", 1, "how often each pair is measured")
	flag.IntVar(&o.parallel, "parallel", 4, "how many pairs are measured at the same time")
	flag.Float64Var(&o.loss, "loss", 0, "share of packets lost in each direction of each peer's link, 0 to 1")
	flag.DurationVar(&o.patience, "patience", 30*time.Second, "how long a pair has to come to a direct connection")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "punch benchmark:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.role != "" {
		return stock(ctx, o)
	}
	if err := netns.Supported(); err != nil {
		return fmt.Errorf("network namespaces lack %w", err)
	}
	dir, err := os.MkdirTemp("", "punch")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	dibber := filepath.Join(dir, "dibber")
	build := exec.CommandContext(ctx, "go", "build", "-o", dibber, ".")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build dibber, from the root of the repository: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var all []table
	for bed := range strings.SplitSeq(o.beds, ",") {
		if bed != "tun" && bed != "nft" {
			return fmt.Errorf("no bed is named %q: there are tun and nft", bed)
		}
		for transport := range strings.SplitSeq(o.transport, ",") {
			for who := range strings.SplitSeq(o.who, ",") {
				t, err := measure(ctx, o, pair{who: who, transport: transport, nft: bed == "nft", self: self, dibber: dibber})
				if err != nil {
					return err
				}
				fmt.Print(t)
				all = append(all, t)
			}
		}
	}
	missed := 0
	for _, t := range all {
		for _, base := range all {
			if t.Who != base.Who && base.Who == "stock" && t.Transport == base.Transport && t.Bed == base.Bed {
				fmt.Println(t.against(base))
				text, n := t.verdicts(base, o.loss)
				fmt.Print(text)
				missed += n
			}
		}
	}
	err = json.NewEncoder(os.Stdout).Encode(struct {
		CPUs   int     `json:"cpus"`
		Runs   int     `json:"runs"`
		Loss   float64 `json:"loss"`
		Tables []table `json:"tables"`
	}{runtime.NumCPU(), o.runs, o.loss, all})
	if err == nil && missed > 0 {
		err = fmt.Errorf("%d limits were missed", missed)
	}
	return err
}

// grid is the part of natlab.Grid that was asked for.
func (o options) grid() []natlab.NAT {
	words := strings.Split(o.kinds, ",")
	return slices.DeleteFunc(natlab.Grid(), func(n natlab.NAT) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(n.String(), w) })
	})
}

// byKernel reports whether nftables makes a kind of NAT.
func byKernel(n natlab.NAT) bool {
	return n.Filtering == natlab.AddressAndPortDependent && n.Ports != natlab.Sequential
}

// measure fills the table of one sort of peers over one transport.
func measure(ctx context.Context, o options, p pair) (table, error) {
	t := table{Who: p.who, Transport: p.transport, Bed: "tun"}
	kinds := o.grid()
	if p.nft {
		t.Bed = "nft"
		kinds = slices.DeleteFunc(kinds, func(n natlab.NAT) bool { return !byKernel(n) })
	}
	for _, target := range kinds {
		for _, dialer := range kinds {
			t.Cells = append(t.Cells, cell{Target: target.String(), Dialer: dialer.String(), target: target, dialer: dialer})
		}
	}
	var (
		wait   sync.WaitGroup
		mu     sync.Mutex // guards failed and the cells' results
		failed error
		slots  = make(chan struct{}, max(o.parallel, 1))
	)
	for i := range t.Cells {
		for run := range o.runs {
			wait.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				c := &t.Cells[i]
				took, err := p.punch(ctx, o, *c, uint64(run))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil && failed == nil:
					failed = fmt.Errorf("%s dials %s: %w", c.Dialer, c.Target, err)
				case took.total > 0:
					c.MS = append(c.MS, took.total)
				}
				if took.rtt > 0 {
					c.RTT = append(c.RTT, took.rtt)
				}
				c.Runs++
			})
		}
	}
	wait.Wait()
	return t, failed
}
