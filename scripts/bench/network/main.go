// Command network lets 200 hosts that know three boot nodes and nobody else form a network in virtual time: half of them public,
// each with room for 25 connections; then 30 % of them and a boot node leave at once, and others come. It is the test of
// netkit/serve that go test does with 40.
//
//	go run ./scripts/bench/network [-hosts N]
//
// It prints each checkpoint as a line of JSON, tells on standard error how far it is, and exits 1 if a limit was missed: the network
// in parts, a lookup with more hops than the logarithm of the servers, a public host that carries more than four times its part.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"time"
)

func main() {
	hosts := flag.Int("hosts", 200, "how many hosts there are")
	flag.Parse()
	if *hosts < 10 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *hosts)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench network:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, hosts int) error {
	cmd := exec.CommandContext(ctx, "go", "test", "./netkit/serve", "-run", "^TestNetworkForms$", "-count=1", "-v", "-timeout", "60m")
	// So many hosts keep much alive that is looked through each time that garbage is looked for.
	cmd.Env = append([]string{"GOGC=400"}, append(os.Environ(), "DIBBER_NETWORK_HOSTS="+strconv.Itoa(hosts))...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := show(out); err != nil {
		return err
	}
	return cmd.Wait()
}

// show prints what the test says itself, without the packets that it shows when it fails; how far it is goes to standard error.
func show(out io.Reader) error {
	began := time.Now()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if _, said, own := strings.Cut(lines.Text(), "network_test.go:"); own {
			_, said, _ = strings.Cut(said, ": ")
			if far, is := strings.CutPrefix(said, "progress "); is {
				fmt.Fprintf(os.Stderr, "%7.1f s  %s\n", time.Since(began).Seconds(), far)
				continue
			}
			fmt.Println(said)
		}
	}
	return lines.Err()
}
