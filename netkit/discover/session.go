package discover

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/rendezvous"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// session is one run: the sources work in goroutines of their own, and hand what
// they find to the goroutine of run, the only one that touches the rest.
type session struct {
	n   *host.Node
	cfg Config
	// repeat asks sources again, until the end.
	repeat bool

	sources    []*source
	registered []*Registered
	registrars map[peer.ID]*rendezvous.Registrar // by server
	view       *view
	probing    map[peer.ID]struct{}
	slots      chan struct{} // one for each probe that runs

	steps   chan func() // what the others want run to do
	closers []func() error
	working sync.WaitGroup
}

func newSession(n *host.Node, cfg Config) *session {
	hear := &listener{n: n}
	s := newSessionOf(n.ID(), cfg, makeSources(n, cfg, hear))
	s.n, s.closers = n, []func() error{hear.close}
	return s
}

// newSessionOf makes a session of any sources; it needs no host unless one of them,
// or a registration, does.
func newSessionOf(self peer.ID, cfg Config, sources []*source) *session {
	cfg = cfg.withDefaults()
	names := make([]sourceName, len(sources))
	for i, src := range sources {
		names[i] = sourceName{src.Source, src.Server}
	}
	return &session{
		cfg: cfg, sources: sources, view: newView(self, names),
		probing: make(map[peer.ID]struct{}), slots: make(chan struct{}, cfg.ProbeParallel),
		steps: make(chan func(), 16), registrars: make(map[peer.ID]*rendezvous.Registrar),
	}
}

// collect is Do.
func (s *session) collect(ctx context.Context) (Result, error) {
	over := time.Now().Add(s.cfg.window())
	s.repeat = s.cfg.window() > 0
	err := s.run(ctx, over, func(now time.Time) bool {
		enough := s.cfg.Min > 0 && s.view.size() >= s.cfg.Min
		return s.settled() && (enough || !now.Before(over))
	})
	if err != nil {
		return s.result(), err
	}
	return s.result(), s.verdict(s.view.size())
}

// watch is Watch.
func (s *session) watch(ctx context.Context) (Result, error) {
	s.repeat = true
	err := s.run(ctx, time.Time{}, func(time.Time) bool { return false })
	return s.result(), err
}

// find is Resolve.
func (s *session) find(ctx context.Context, id peer.ID) ([]ma.Multiaddr, error) {
	over := time.Now().Add(s.cfg.window())
	s.repeat = s.cfg.window() > 0
	err := s.run(ctx, over, func(now time.Time) bool {
		return len(s.view.addrs(id)) > 0 || s.settled() && !now.Before(over)
	})
	if found := s.view.addrs(id); len(found) > 0 {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, s.notFound(id)
}

// run works until done says so, which is asked after every step and at the time
// over (zero: never), or until ctx ends, whose error it returns.
func (s *session) run(ctx context.Context, over time.Time, done func(now time.Time) bool) error {
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	s.start(work)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var err error
	for err == nil {
		now := time.Now()
		s.view.expire(now)
		s.tell(work, now)
		if done(now) {
			break
		}
		timer.Stop()
		var wake <-chan time.Time
		if at := soonest(now, over, s.view.first); !at.IsZero() {
			timer.Reset(time.Until(at))
			wake = timer.C
		}
		select {
		case step := <-s.steps:
			step()
		case <-wake:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	cancel()
	s.stop()
	return err
}

// soonest is the first of two moments, left out if zero or not after now.
func soonest(now time.Time, moments ...time.Time) time.Time {
	var first time.Time
	for _, m := range moments {
		if m.After(now) && (first.IsZero() || m.Before(first)) {
			first = m
		}
	}
	return first
}

// stop waits for all that was started, and does what it still asks for.
func (s *session) stop() {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for _, closer := range s.closers {
			// What cannot be closed or unregistered is told by events, if at all:
			// the host ends next.
			_ = closer()
		}
		s.working.Wait()
		for _, src := range s.sources {
			if src.stop != nil {
				_ = src.stop() // as above
			}
		}
	}()
	for {
		select {
		case step := <-s.steps:
			step()
		case <-stopped:
			for len(s.steps) > 0 {
				(<-s.steps)()
			}
			return
		}
	}
}

// tell reports what changed, and has new addresses probed.
func (s *session) tell(ctx context.Context, now time.Time) {
	for _, e := range s.view.changes(now) {
		s.cfg.On(e)
		if e.Kind != PeerExpired {
			s.probe(ctx, e.Peer.ID)
		}
	}
}

// probe starts probing a peer whose addresses are not those of its last probe.
func (s *session) probe(ctx context.Context, id peer.ID) {
	e := s.view.peers[id]
	_, busy := s.probing[id]
	if s.cfg.Probe == nil || busy || len(s.probing) >= s.cfg.ProbeMax {
		return
	}
	addrs := e.addrs()
	if slices.EqualFunc(addrs, e.probedAt, ma.Multiaddr.Equal) {
		return
	}
	e.probedAt = addrs
	s.probing[id] = struct{}{}
	s.working.Go(func() {
		var p Probe
		select {
		case s.slots <- struct{}{}:
			within, cancel := context.WithTimeout(ctx, s.cfg.ProbeTimeout)
			p = s.cfg.Probe(within, id, addrs)
			cancel()
			<-s.slots
		case <-ctx.Done():
		}
		cut := ctx.Err() != nil // its outcome then tells nothing of the peer
		s.steps <- func() {
			delete(s.probing, id)
			if !cut {
				s.view.probed(id, p)
			}
		}
	})
}

// settled reports whether every source has answered or failed, every registration
// was tried, and no probe is under way.
func (s *session) settled() bool {
	return len(s.probing) == 0 &&
		!slices.ContainsFunc(s.sources, func(src *source) bool { return !src.answered }) &&
		!slices.ContainsFunc(s.registered, func(r *Registered) bool { return r.State == "" })
}

// result is what is known now.
func (s *session) result() Result {
	r := Result{Peers: s.view.list(time.Now())}
	if len(s.cfg.Servers) > 0 {
		r.Namespace = optional(s.cfg.Namespace)
	}
	if s.cfg.Limit > 0 {
		r.Peers = r.Peers[:min(len(r.Peers), s.cfg.Limit)]
	}
	r.Count = len(r.Peers)
	for i, src := range s.sources {
		if !src.answered {
			src.fail(errors.New("no answer before the end"))
		}
		src.Count, src.More = s.view.countPeers(i), s.view.more[i]
		r.Sources = append(r.Sources, src.SourceResult)
	}
	for _, reg := range s.registered {
		r.Registrations = append(r.Registrations, *reg)
	}
	return r
}
