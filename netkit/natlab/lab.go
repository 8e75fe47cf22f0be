package natlab

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Config tunes a lab. The zero value works.
type Config struct {
	Seed  uint64 // of every random choice: ports, loss
	Trace int    // how many of the last packet events are kept for a failed test; 0 means 400
}

const defaultTrace = 400

// Lab is a simulated internet in virtual time. Its methods are safe for
// concurrent use. Building it wrongly ends the test.
type Lab struct {
	t        testing.TB
	seed     uint64
	start    time.Time
	internet *Network

	mu       sync.Mutex // guards following and the state of every network, router, machine and link
	plan     addressPlan
	queue    eventQueue
	trace    trace
	streams  uint64 // random generators made so far
	machines []*Machine
	parts    []part
	stop     []func() error // closes hosts, in order of making
	done     bool
}

// Run calls f in a synctest bubble with a lab whose internet is empty. When f
// and the test's cleanups are done it closes the hosts and sockets that are left,
// in reverse order of making; a goroutine that outlives them fails the test.
func Run(t *testing.T, f func(t *testing.T, lab *Lab)) {
	t.Helper()
	Config{}.Run(t, f)
}

// Run is like the function Run, with a configuration.
func (c Config) Run(t *testing.T, f func(t *testing.T, lab *Lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		lab := newLab(t, c)
		t.Cleanup(lab.close)
		f(t, lab)
	})
}

// New returns a lab in real time, for machines that are attached to network stacks
// outside (see [Machine.Attach]). It is closed when the test ends.
func New(t testing.TB, c Config) *Lab {
	lab := newLab(t, c)
	t.Cleanup(lab.close)
	return lab
}

func newLab(t testing.TB, c Config) *Lab {
	if c.Trace == 0 {
		c.Trace = defaultTrace
	}
	l := &Lab{t: t, seed: c.Seed, start: time.Now(), trace: trace{limit: c.Trace}}
	l.internet = &Network{lab: l, name: "internet", machines: map[netip.Addr]*Machine{}}
	return l
}

// Internet is the network in the middle, where addresses are public.
func (l *Lab) Internet() *Network { return l.internet }

// Elapsed is the virtual time since the lab began.
func (l *Lab) Elapsed() time.Duration { return time.Since(l.start) }

// Trace returns the last packet events, oldest first, one a line.
func (l *Lab) Trace() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.trace.String()
}

// closeAtEnd calls closer when the lab closes. Its error is of no interest: the
// test may have closed the host already.
func (l *Lab) closeAtEnd(closer func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop = append(l.stop, closer)
}

func (l *Lab) close() {
	if l.t.Failed() {
		l.t.Logf("last packets:\n%s", l.Trace())
	}
	l.mu.Lock()
	stop := l.stop
	l.mu.Unlock()
	for _, f := range slices.Backward(stop) {
		_ = f() // see closeAtEnd
	}
	for _, s := range l.sockets() {
		_ = s.Close() // returns nil always
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = true
	l.queue.stop()
}

// sockets are those that are open.
func (l *Lab) sockets() []*socket {
	l.mu.Lock()
	defer l.mu.Unlock()
	var open []*socket
	for _, m := range l.machines {
		for _, s := range m.sockets {
			open = append(open, s...)
		}
	}
	return open
}

// rng returns a generator of its own for each caller, in the order of calls the
// same in every run: what one link loses does not depend on another's traffic.
// The caller holds l.mu.
func (l *Lab) rng() *rand.Rand {
	l.streams++
	return rand.New(rand.NewPCG(l.seed, l.streams))
}
