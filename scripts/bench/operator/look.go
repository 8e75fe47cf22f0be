package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dibber/scripts/node"
)

// operator looks at a node in all the ways that there are.
type operator struct {
	end     context.CancelFunc
	looking sync.WaitGroup
	ways    []*way
}

// way is one of them: what it has shown in bytes, and why it ended before it should.
type way struct {
	name  string
	shown atomic.Int64
	err   error
}

func (w *way) Write(p []byte) (int, error) {
	w.shown.Add(int64(len(p)))
	return len(p), nil
}

// look begins to look.
func look(ctx context.Context, n *node.Node, program string) *operator {
	ctx, end := context.WithCancel(ctx)
	o := &operator{end: end}
	o.add(ctx, "dashboard", func(w *way) error {
		events, err := n.Open(ctx, "/events")
		if err != nil {
			return err
		}
		_, err = io.Copy(w, events)
		return errors.Join(err, events.Close())
	})
	o.add(ctx, "metrics", func(w *way) error {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			text, err := n.Get(ctx, "/metrics")
			if err != nil {
				return err
			}
			w.shown.Add(int64(len(text)))
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	})
	for _, list := range [][]string{{"circuits"}, {"registrations", "--limit", "1000"}} {
		o.add(ctx, "ctl "+list[0], func(w *way) error {
			cmd := exec.CommandContext(ctx, program, slices.Concat([]string{"ctl"}, list, []string{"--watch", "--ndjson", "--admin", n.Admin})...)
			cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
			cmd.Stdout, cmd.Stderr = w, os.Stderr
			return cmd.Run()
		})
	}
	return o
}

// add begins to look in a way, until ctx ends.
func (o *operator) add(ctx context.Context, name string, do func(*way) error) {
	w := &way{name: name}
	o.ways = append(o.ways, w)
	o.looking.Go(func() {
		err := do(w)
		if ctx.Err() == nil {
			w.err = fmt.Errorf("%s ended: %w", name, err)
		}
	})
}

// close ends it, and says in which ways nothing was seen.
func (o *operator) close() (err error) {
	o.end()
	o.looking.Wait()
	for _, w := range o.ways {
		if w.err == nil && w.shown.Load() == 0 {
			w.err = fmt.Errorf("%s showed nothing", w.name)
		}
		err = errors.Join(err, w.err)
	}
	return err
}
