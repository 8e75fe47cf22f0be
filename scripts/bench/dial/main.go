// Command dial measures how soon after its start `dibber dial` is connected to a QUIC peer on loopback, against a minimal program
// that does host and connect with the same options, and how much processor time `dibber --help` takes.
//
//	go run ./scripts/bench/dial [-runs N]
//
// Both programs are built with the same flags and run in turn, so that whatever else the machine does meets both alike. It prints
// a table and, last, one line of JSON, and exits 1 if a limit is exceeded.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

const (
	maxRatio  = 1.25 // dibber's median time to connected, by the minimal program's
	maxHelpMS = 50   // median user time of dibber --help
	warmUps   = 3    // runs of each program that do not count: page cache, CPU frequency
)

func main() {
	runs := flag.Int("runs", 40, "measure `N` runs of each program")
	flag.Parse()
	if *runs < 1 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	r, err := measure(context.Background(), *runs)
	if err == nil {
		err = r.print()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench dial:", err)
		os.Exit(1)
	}
}

// result is the line of JSON. Times are medians.
type result struct {
	Bench       string  `json:"bench"`
	Runs        int     `json:"runs"`
	Dibber      program `json:"dibber"`
	Minimal     program `json:"minimal"`
	Ratio       float64 `json:"ratio"`
	MaxRatio    float64 `json:"max_ratio"`
	ExitedRatio float64 `json:"exited_ratio"`
	HelpUserMS  float64 `json:"help_user_ms"`
	MaxHelpMS   float64 `json:"max_help_user_ms"`
}

// program is what was measured of one of the two.
type program struct {
	ConnectedMS    float64 `json:"connected_ms"`     // process start until the target has the connection
	ConnectedP10MS float64 `json:"connected_p10_ms"` // a tenth of the runs was as fast as this
	ConnectedP90MS float64 `json:"connected_p90_ms"`
	ExitedMS       float64 `json:"exited_ms"` // process start until its end
	UserMS         float64 `json:"user_ms"`   // processor time outside the kernel
}

func measure(ctx context.Context, runs int) (result, error) {
	dir, err := os.MkdirTemp("", "dibber-bench-")
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(dir)
	dibber, minimal := filepath.Join(dir, "dibber"), filepath.Join(dir, "minimal")
	for out, pkg := range map[string]string{dibber: "dibber", minimal: "dibber/scripts/bench/dial/minimal"} {
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return result{}, fmt.Errorf("build %s: %w", pkg, err)
		}
	}
	target, err := newTarget()
	if err != nil {
		return result{}, err
	}
	defer target.Close()

	var ofDibber, ofMinimal samples
	for i := range warmUps + runs {
		// The first of a pair changes with every pair.
		pair := []func() error{
			func() error {
				return ofDibber.add(ctx, target, dibber, "dial", target.addr, "--ping", "0", "-q")
			},
			func() error { return ofMinimal.add(ctx, target, minimal, target.addr) },
		}
		if i%2 == 1 {
			slices.Reverse(pair)
		}
		if err := errors.Join(pair[0](), pair[1]()); err != nil {
			return result{}, err
		}
		if i+1 == warmUps {
			ofDibber, ofMinimal = samples{}, samples{}
		}
	}
	help, err := helpTime(ctx, dibber)
	r := result{
		Bench: "dial", Runs: runs, Dibber: ofDibber.program(), Minimal: ofMinimal.program(),
		MaxRatio: maxRatio, HelpUserMS: help, MaxHelpMS: maxHelpMS,
	}
	r.Ratio = milli(r.Dibber.ConnectedMS / r.Minimal.ConnectedMS)
	r.ExitedRatio = milli(r.Dibber.ExitedMS / r.Minimal.ExitedMS)
	return r, err
}

// helpTime is the median user time of dibber --help in milliseconds.
func helpTime(ctx context.Context, dibber string) (float64, error) {
	var user []float64
	for range 20 {
		cmd := exec.CommandContext(ctx, dibber, "--help")
		if err := cmd.Run(); err != nil {
			return 0, fmt.Errorf("dibber --help: %w", err)
		}
		user = append(user, ms(cmd.ProcessState.UserTime()))
	}
	return quantile(user, 0.5), nil
}

// print writes the table and the line of JSON; the error names the limits that were exceeded.
func (r result) print() error {
	fmt.Printf("process start to connected, loopback QUIC, %d runs of each in turn\n\n", r.Runs)
	fmt.Printf("%-12s%14s%10s%10s%14s%12s\n", "median ms", "connected", "p10", "p90", "exited", "user time")
	for _, row := range []struct {
		name string
		program
	}{{"dibber dial", r.Dibber}, {"minimal", r.Minimal}} {
		fmt.Printf("%-12s%14.1f%10.1f%10.1f%14.1f%12.1f\n", row.name, row.ConnectedMS, row.ConnectedP10MS, row.ConnectedP90MS, row.ExitedMS, row.UserMS)
	}
	fmt.Printf("%-12s%14.3f%34.3f\n", "ratio", r.Ratio, r.ExitedRatio)
	fmt.Printf("\ndibber --help: %.1f ms user time\n\n", r.HelpUserMS)
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	if r.Ratio > r.MaxRatio {
		err = fmt.Errorf("ratio %.3f is above %.2f", r.Ratio, r.MaxRatio)
	}
	if r.HelpUserMS >= r.MaxHelpMS {
		err = errors.Join(err, fmt.Errorf("dibber --help takes %.1f ms, not under %.0f", r.HelpUserMS, r.MaxHelpMS))
	}
	return err
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// milli rounds to three decimals; more would be noise.
func milli(v float64) float64 { return math.Round(v*1000) / 1000 }
