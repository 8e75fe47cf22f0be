// Command bench runs the benchmarks of the folders beside it, all or those named, one after another, and says at the end which
// met their limits. Each is a command of its own, too, with flags.
//
//	go run ./scripts/bench [NAME]…
//
// It exits 1 if one failed or missed a limit.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	code, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	stop()
	os.Exit(code)
}

// run runs the benchmarks of those names, or all, and returns the exit code.
func run(ctx context.Context, names []string) (int, error) {
	all, err := benchmarks()
	if err != nil {
		return 1, err
	}
	for _, n := range names {
		if !slices.Contains(all, n) {
			return 2, fmt.Errorf("no benchmark is named %q: there are %v", n, all)
		}
	}
	if len(names) == 0 {
		names = all
	}
	code := 0
	var summary []string
	for _, n := range names {
		fmt.Printf("# %s\n", n)
		began := time.Now()
		cmd := exec.CommandContext(ctx, "go", "run", "./scripts/bench/"+n)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		verdict := "met"
		if err := cmd.Run(); err != nil {
			verdict, code = "missed, or failed: "+err.Error(), 1
		}
		summary = append(summary, fmt.Sprintf("%-12s %6.0f s  %s", n, time.Since(began).Seconds(), verdict))
		if ctx.Err() != nil {
			break
		}
	}
	fmt.Println("# all")
	for _, line := range summary {
		fmt.Println(line)
	}
	return code, nil
}

// benchmarks lists the folders with a command.
func benchmarks() ([]string, error) {
	found, err := filepath.Glob(filepath.Join("scripts", "bench", "*", "main.go"))
	if err == nil && found == nil {
		err = fmt.Errorf("no benchmarks in scripts/bench: run it from the root of the repository")
	}
	for i, f := range found {
		found[i] = filepath.Base(filepath.Dir(f))
	}
	return found, err
}
