package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"dibber/netkit/host"
)

// closers are what a run has opened, in order.
type closers []func() error

func (c *closers) add(stop func() error) { *c = append(*c, stop) }

// close closes everything, the last first.
func (c closers) close() error {
	var errs []error
	for _, stop := range slices.Backward(c) {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

// announceReady tells that everything listens: on stdout, and to those who wait
// for the file.
func announceReady(out *output, ready readyDoc, file string) error {
	if file != "" {
		if err := writeReady(out, ready, file); err != nil {
			return fmt.Errorf("ready file: %w", err)
		}
	}
	out.event("ready", ready)
	if ready.Open && ready.Limits.Relay != nil {
		out.warn("the relay is open to everyone; restrict it with --allow-peer or --allow-cidr")
	}
	return nil
}

// writeReady writes the ready event so that a reader sees all of it or nothing.
func writeReady(out *output, ready readyDoc, file string) error {
	line, err := encode(out.envelope("ready"), ready)
	if err != nil {
		return err
	}
	if !json.Valid(line) {
		return fmt.Errorf("ready event is not JSON")
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".ready-*")
	if err != nil {
		return err
	}
	_, err = f.Write(line)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// reloadOnHangup reads the lists and the table again at each SIGHUP until the
// returned function is called. What cannot be read leaves all in force.
func reloadOnHangup(out *output, o *hostOptions, n *host.Node) (stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	var done sync.WaitGroup
	done.Go(func() {
		for range hangup {
			a, err := o.access()
			table, tableErr := o.table()
			if err := errors.Join(err, tableErr); err != nil {
				out.warn("lists not reloaded: %v", err)
				continue
			}
			n.SetAccess(a)
			n.SetKnown(knownPeers(table))
			out.event("config.reloaded", reloadedLine{
				len(a.AllowPeers), len(a.DenyPeers), len(a.AllowCIDRs), len(a.DenyCIDRs), len(table.Peers()),
			})
		}
	})
	return func() {
		signal.Stop(hangup)
		close(hangup)
		done.Wait()
	}
}

// drain ends the roles, but waits for them no longer than most. It reports
// whether they ended in time.
func drain(out *output, most time.Duration, stop func() error) (bool, error) {
	out.status("draining")
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	select {
	case err := <-ended:
		return true, err
	case <-time.After(most):
		out.warn("not everything ended within --drain %s", most)
		return false, nil
	}
}
