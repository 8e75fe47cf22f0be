// Command gossip measures how fast messages get to everybody in a simulated network, and what hostile hosts can do to it.
//
//	go run ./scripts/bench/gossip [-hosts 100] [-hostile-hosts 50] [-messages 20] [-seed 1]
//
// The links of the simulated internet (netkit/natlab) take 20 ms from any host to any other, in virtual time, so that the machine does
// not matter. Each host knows about eight others. It exits 1 if the median delivery takes more than twice as long as the shortest
// path, if a message does not get to everybody, or if that is so for honest hosts while a tenth are hostile: spam, wrong signatures,
// replays, and an eclipse, in which hostile hosts are in every mesh first and pass nothing on. Each attack runs with scores and without.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
)

// trial is a line of the report, as netkit/gossip writes it.
type trial struct {
	Name       string  `json:"name"`
	Hosts      int     `json:"hosts"`
	Hostile    int     `json:"hostile"`
	Scores     bool    `json:"scores"`
	Delivery   float64 `json:"delivery"`
	MedianMS   float64 `json:"median_ms"`
	P99MS      float64 `json:"p99_ms"`
	ShortestMS float64 `json:"shortest_ms"`
	Stretch    float64 `json:"stretch"`
	Duplicates float64 `json:"duplicates"`
	Junk       int     `json:"junk"`
	Graylisted float64 `json:"graylisted"`
	Lazy       float64 `json:"lazy"`
}

func main() {
	hosts := flag.Int("hosts", 100, "hosts of the network whose speed is measured")
	hostile := flag.Int("hostile-hosts", 50, "hosts of the networks under attack, a tenth of them hostile")
	messages := flag.Int("messages", 20, "messages to send")
	seed := flag.Uint64("seed", 1, "of topology and publishers")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *hosts, *hostile, *messages, *seed)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gossip:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, hosts, hostile, messages int, seed uint64) (err error) {
	dir, err := os.MkdirTemp("", "dibber-gossip")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Println("network           hosts  hostile  scores  delivered  median ms  p99 ms  shortest ms  stretch  duplicates  junk a host  not read  fetched")
	var failed []error
	for _, part := range []struct {
		test  string
		hosts int
	}{{"^TestSpeedOfANetwork$", hosts}, {"^TestATenthIsHostile$", hostile}} {
		file := filepath.Join(dir, strconv.Itoa(part.hosts)+part.test[1:6])
		cmd := exec.CommandContext(ctx, "go", "test", "./netkit/gossip", "-count=1", "-timeout=2h", "-run", part.test,
			"-gossip.hosts="+strconv.Itoa(part.hosts), "-gossip.messages="+strconv.Itoa(messages),
			"-gossip.seed="+strconv.FormatUint(seed, 10), "-gossip.report="+file)
		out, ran := cmd.CombinedOutput()
		trials, read := readTrials(file)
		for _, t := range trials {
			t.print()
		}
		if ran != nil {
			failed = append(failed, fmt.Errorf("%s: %w\n%s", part.test, ran, out))
		}
		failed = append(failed, read)
	}
	return errors.Join(failed...)
}

func readTrials(file string) (out []trial, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var t trial
		if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
			return out, err
		}
		out = append(out, t)
	}
	return out, nil
}

func (t trial) print() {
	scores := "off"
	if t.Scores {
		scores = "on"
	}
	fmt.Printf("%-16s %6d %8d  %6s %9.2f%% %10.1f %7.1f %12.1f %8.2f %11.2f %12.1f %8.0f%% %7.1f%%\n", t.Name, t.Hosts, t.Hostile, scores, 100*t.Delivery,
		t.MedianMS, t.P99MS, t.ShortestMS, t.Stretch, t.Duplicates, float64(t.Junk)/float64(t.Hosts-t.Hostile), 100*t.Graylisted, 100*t.Lazy)
}
