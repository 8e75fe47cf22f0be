package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
	if err := writeReady(out, ready, file); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	out.event("ready", ready)
	if ready.Open && ready.Limits.Relay != nil {
		out.warn("the relay is open to everyone; restrict it with --allow-peer or --allow-cidr")
	}
	return nil
}

// forgetReady removes what an earlier run has left at the place of the ready file: it would tell a lie.
func forgetReady(file string) error {
	if file == "" {
		return nil
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("ready file: %w", err)
	}
	return nil
}

// writeReady writes the ready event, if a file for it was named, so that a reader sees all of it or nothing.
func writeReady(out *output, ready any, file string) error {
	if file == "" {
		return nil
	}
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

// reloadOnHangup reads lists, table and limits again at each SIGHUP, from the files
// that the flags name and from the configuration file, until the returned function
// is called. What cannot be read leaves all in force.
func reloadOnHangup(out *output, n *host.Node, l *liveLimits, manager supervisor) (stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	var done sync.WaitGroup
	done.Go(func() {
		for range hangup {
			manager.reloading()
			if err := reload(out, n, l); err != nil {
				out.event("config.failed", reloadFailed{err.Error()})
			}
			manager.ready()
		}
	})
	return func() {
		signal.Stop(hangup)
		close(hangup)
		done.Wait()
	}
}

// reload puts what is to be had now into force, or nothing.
func reload(out *output, n *host.Node, l *liveLimits) error {
	options, err := out.e.reread()
	if err != nil {
		return err
	}
	o, ok := options.(*serveOptions)
	if !ok {
		return fmt.Errorf("options of another command: %T", options)
	}
	access, err := o.Host.access()
	if err != nil {
		return err
	}
	table, err := o.Host.table()
	if err != nil {
		return err
	}
	before := limitsOf(l.s.Limits())
	if err := l.take(*o); err != nil {
		return err
	}
	n.SetAccess(access)
	n.SetKnown(knownPeers(table))
	now := limitsOf(l.s.Limits())
	out.event("config.reloaded", reloadedLine{
		len(access.AllowPeers), len(access.DenyPeers), len(access.AllowCIDRs), len(access.DenyCIDRs),
		len(table.Peers()), now, changedLimits(before, now),
	})
	return nil
}

// drain ends the roles in order, and then for good, but waits for them no longer
// than most, nor than --drain from the end of told, which is a signal. It reports
// whether they ended in time.
func drain(told context.Context, op *operator, most time.Duration) (bool, error) {
	op.out.status("draining")
	op.out.log.Info("draining", "within_ms", millis(most))
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	defer context.AfterFunc(told, func() { time.AfterFunc(op.limits.options().Drain, cancel) })()
	ended := make(chan error, 1)
	go func() {
		err := op.s.Drain(ctx)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = nil // circuits that lasted longer are cut: that is what the time is for
		}
		ended <- errors.Join(err, op.socket.Close(), op.web.close(), op.s.Close())
	}()
	select {
	case err := <-ended:
		return true, err
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return true, err
	case <-time.After(closeGrace):
		op.out.warn("not everything ended in the time to drain")
		return false, nil
	}
}

// closeGrace is what closing may take once draining is over.
const closeGrace = time.Second
