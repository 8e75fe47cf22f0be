package commands

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// supervisor tells whoever started serve, systemd or another that set $NOTIFY_SOCKET, how it is (sd_notify(3)). Where nobody wants
// to know it does nothing.
type supervisor struct{ out *output }

// tell sends assignments as one message.
func (s supervisor) tell(assignments ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(assignments, "\n")); err != nil {
		s.out.warn("tell the service manager %s: %v", assignments[0], err)
	}
}

// ready says that everything listens.
func (s supervisor) ready() { s.tell(daemon.SdNotifyReady) }

// reloading says that the configuration is being read, until ready. When that began keeps two in a row apart.
func (s supervisor) reloading() {
	s.tell(daemon.SdNotifyReloading, strings.TrimSpace(daemon.SdNotifyMonotonicUsec()))
}

// status says in words how it is.
func (s supervisor) status(text string) { s.tell("STATUS=" + text) }

// stopping says that the end has begun.
func (s supervisor) stopping() { s.tell(daemon.SdNotifyStopping) }

// watch says twice in each period of the watchdog that serve lives, until the returned function is called. alive returns only where
// it does: a node that hangs falls silent, and is started again.
func (s supervisor) watch(alive func()) (stop func()) {
	period, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		s.out.warn("watchdog: %v", err)
	}
	if period <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(max(period/2, time.Millisecond))
		defer tick.Stop()
		for {
			alive()
			s.tell(daemon.SdNotifyWatchdog)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return func() { cancel(); done.Wait() }
}
