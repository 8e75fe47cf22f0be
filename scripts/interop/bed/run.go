package bed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// stage is the first argument of a process that runs the features of one peer; it is followed by the peer's name, the folder of
// programs, and why there is no namespace.
const stage = "stage"

// matrix builds dibber and the peers in work and runs all features; progress goes to standard error.
func matrix(ctx context.Context, peers []Peer, work string) (rows []Row, err error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(work, "logs"), 0o755); err != nil {
		return nil, err
	}
	ours := &Builder{Dir: work, Log: filepath.Join(work, "logs", "dibber-build.log")}
	if err := ours.Go(ctx, root, ".", dibberName); err != nil {
		return nil, fmt.Errorf("build dibber: %w", err)
	}
	for _, p := range peers {
		fmt.Fprintf(os.Stderr, "%s (%s): building\n", p.Name, p.Version)
		began := time.Now()
		skip, err := p.build(ctx, root, work)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "%s: built in %s\n", p.Name, time.Since(began).Round(time.Second))
		some := p.rows(Skipped, skip)
		if skip == "" {
			if some, err = p.stage(ctx, work); err != nil {
				return nil, fmt.Errorf("%s: %w", p.Name, err)
			}
		}
		rows = append(rows, some...)
	}
	return rows, nil
}

// stage runs the features in a process of their own, which is in a network namespace if this machine lets it be.
func (p Peer) stage(ctx context.Context, work string) ([]Row, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	why := noNamespace()
	rows, err := p.stageIn(ctx, work, why, self)
	if why == "" && errors.Is(err, syscall.EPERM) {
		return p.stageIn(ctx, work, "no network namespace: "+syscall.EPERM.Error(), self)
	}
	return rows, err
}

func (p Peer) stageIn(ctx context.Context, work, why, self string) (rows []Row, err error) {
	cmd := exec.CommandContext(ctx, self, stage, p.Name, work, why)
	cmd.Stderr = os.Stderr
	// A group of its own: Ctrl-C reaches it by way of ctx, so that it can end what it has started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 4 * grace
	if why == "" {
		inNamespace(cmd)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for dec := json.NewDecoder(out); ; {
		var row Row
		if err := dec.Decode(&row); err != nil {
			break
		}
		rows = append(rows, row)
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return rows, err
}

// runStage is the other end of stage: args are those after the first.
func runStage(ctx context.Context, peers []Peer, args []string) error {
	if len(args) != 3 {
		return errors.New("stage takes three arguments")
	}
	at := place{work: args[1], noNamespace: args[2]}
	i := slices.IndexFunc(peers, func(p Peer) bool { return p.Name == args[0] })
	if i < 0 {
		return fmt.Errorf("no peer %q", args[0])
	}
	if at.noNamespace == "" {
		if err := furnish(ctx); err != nil {
			return err
		}
	}
	for _, f := range peers[i].Features {
		fmt.Fprintf(os.Stderr, "%s: %s\n", peers[i].Name, f.Name)
		row := peers[i].run(ctx, f, at)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := json.NewEncoder(os.Stdout).Encode(row); err != nil {
			return err
		}
	}
	return nil
}
