// Command faults takes the disk from a running `dibber serve --relay --rendezvous --replicate --blocks`, and gives it back.
//
//	go run ./scripts/chaos/faults [-rounds N]
//
// The state folder is on a tmpfs of 256 MiB, which only root can mount. In each round peers register, an entry is appended and a block
// is put; then the disk is filled under that load: writes must be refused with an error that says why, while look-ups, reads,
// reservations and ctl go on; when there is space again writes must succeed, in the same process. At the end the folder is mounted read-only,
// which Linux allows only when nobody writes there: serve must say so and change nothing, and, mounted for writing again, have all that was
// acknowledged. It prints a table and, last, one line of JSON, and exits 1 if anything was otherwise. A file system that becomes
// read-only while the program runs is simulated by TestDiskTakesNoWrites in netkit/store.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"dibber/scripts/node"
)

// diskSize is that of the tmpfs: room for what the stores want to be free, and for a little more.
const diskSize = "256m"

func main() {
	rounds := flag.Int("rounds", 3, "fill and free the disk `N` times")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	r, err := run(ctx, *rounds)
	stop()
	if err == nil {
		err = r.print()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos faults:", err)
		os.Exit(1)
	}
}

// result is the line of JSON.
type result struct {
	Chaos  string   `json:"chaos"`
	Rounds int      `json:"rounds"`
	Checks int      `json:"checks"`
	Wrong  []string `json:"wrong"`
	// Registered and Refused are the registrations that were acknowledged and refused under load, Lost those of the former that are gone.
	Registered int     `json:"registered"`
	Refused    int     `json:"refused"`
	Lost       int     `json:"lost"`
	SlowestS   float64 `json:"slowest_recovery_s"` // from space to the first write
	TookS      float64 `json:"took_s"`
}

// check notes whether something is as it must be.
func (r *result) check(ok bool, format string, args ...any) {
	r.Checks++
	what, word := fmt.Sprintf(format, args...), "ok   "
	if !ok {
		word = "WRONG"
		r.Wrong = append(r.Wrong, what)
	}
	fmt.Printf("%s  %s\n", word, what)
}

func (r *result) print() error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	if len(r.Wrong) > 0 {
		return fmt.Errorf("%d of %d checks failed", len(r.Wrong), r.Checks)
	}
	return nil
}

// errMount means that this machine or user cannot do what is needed.
var errMount = errors.New("it mounts a tmpfs, which only root can do, on Linux")

func run(ctx context.Context, rounds int) (r *result, err error) {
	if os.Geteuid() != 0 {
		return nil, errMount
	}
	began := time.Now()
	dir, err := os.MkdirTemp("", "dibber-faults-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program, err := node.Build(ctx, dir)
	if err != nil {
		return nil, err
	}
	b := newBed(program, dir)
	if err := os.Mkdir(b.disk, 0o700); err != nil {
		return nil, err
	}
	if err := b.command(ctx, "mount", "-t", "tmpfs", "-o", "size="+diskSize, "tmpfs", b.disk); err != nil {
		return nil, fmt.Errorf("%w: %w", errMount, err)
	}
	defer func() { err = errors.Join(err, b.command(context.Background(), "umount", b.disk)) }()
	defer b.node.Kill()
	r = &result{Chaos: "faults", Rounds: rounds, Wrong: []string{}}
	if err := b.rounds(ctx, r); err != nil {
		return nil, err
	}
	if err := b.readOnly(ctx, r); err != nil {
		return nil, err
	}
	r.TookS = time.Since(began).Seconds()
	return r, nil
}

// bed is where it happens.
type bed struct {
	dir, disk, program string
	node               *node.Node
}

func newBed(program, dir string) *bed {
	b := &bed{dir: dir, disk: filepath.Join(dir, "disk"), program: program}
	b.node = node.New(program, filepath.Join(dir, "ready"), "--relay", "--rendezvous", "--replicate", "--accept-any", "--blocks",
		"--rendezvous-per-peer", "100000", "--listen", "/ip4/127.0.0.1/tcp/0", "--state-dir", b.state())
	return b
}

// command runs a program that must succeed.
func (b *bed) command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}

func (b *bed) state() string { return filepath.Join(b.disk, "state") }

// answer is what dibber printed and how it ended.
type answer struct {
	code           int
	stdout, stderr string
}

// dibber runs a one-shot on the state folder.
func (b *bed) dibber(ctx context.Context, args ...string) answer {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.program, append(args, "--state-dir", b.state())...)
	cmd.Dir = b.dir
	var a answer
	out, err := cmd.Output()
	a.stdout = string(out)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		a.code, a.stderr = exit.ExitCode(), string(exit.Stderr)
	} else if err != nil {
		a.code, a.stderr = -1, err.Error()
	}
	return a
}

// patience is how long an answer is waited for.
const patience = 20 * time.Second
