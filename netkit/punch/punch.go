// Package punch makes relayed connections direct. Both ends learn from each other,
// over the relay, where they were seen from outside, and then dial each other at the
// same moment, so that each opens its own NAT for the other: DCUtR
// (libp2p/specs relay/DCUtR.md), spoken in both roles with every libp2p peer.
//
// It differs from go-libp2p's own service where that loses time or connections: it
// asks at once instead of waiting for identify, dials in no order but everything
// together, and over QUIC both ends dial, so that it does not matter which of them
// is behind the harder NAT. What happened is told in a Report.
//
// Two hosts of ours do more: they tell each other, signed, what a vantage point
// (netkit/vantage) showed each of its own NAT, and a pure function of both (nat.PlanFor)
// says what gets through. A dibber relay carries the two messages, so that no relayed
// connection is needed; a relayed connection does it, too. Nothing is sent but to the
// address at which the relay or vantage point saw the peer within the last minute, and
// within the limits of host.AwaitProbe; intro.go says what is left to a relay that lies.
package punch

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/relay"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
)

// Config tunes a Service. The zero value punches whenever a relayed connection
// comes in, and answers those who do the same.
type Config struct {
	// Attempts is how often to try before giving up; 0 means 3.
	Attempts int
	// Timeout is how long one attempt may take; 0 means 3 s.
	Timeout time.Duration
	// Method is MethodDCUtR to do as every libp2p peer does and no more. Empty is
	// MethodAuto: with peers of ours, whatever gets through.
	Method string
	// Servers are vantage points from which to look at the own NAT where the relay is
	// none. Both ends need one in common. None leaves DCUtR with such relays.
	Servers []peer.AddrInfo
	// PortMap has the router forward the host's UDP port while the service runs, where the
	// host is behind a NAT that does not let everybody in.
	PortMap bool
	// Every is how often one and the same peer is offered or answered more than DCUtR; 0
	// means once a minute.
	Every time.Duration
	// KeepRelayed leaves relayed connections open after a direct one has carried
	// data.
	KeepRelayed bool
	// On is told of every step, from several goroutines; nil tells nobody. It must
	// not block.
	On func(Event)
}

const (
	defaultAttempts = 3
	defaultTimeout  = 3 * time.Second
	defaultEvery    = time.Minute
)

// Service upgrades the relayed connections of one host.
type Service struct {
	n       *host.Node
	cfg     Config
	limiter *wire.Limiter[peer.ID]
	offers  *wire.Limiter[peer.ID]
	looks   situations
	watch   *network.NotifyBundle
	views   *wire.Service
	intros  *wire.Service
	ctx     context.Context
	cancel  context.CancelFunc

	mu       sync.Mutex // guards following
	closed   bool
	runs     map[peer.ID]*run                     // under way
	opens    *run                                 // the one that may have sockets of its own
	vain     map[peer.ID]*run                     // that offers alone began and that came to nothing, until a relayed connection
	asked    map[peer.ID]bool                     // relays that are being learned from
	callers  map[network.Conn]chan network.Stream // offers of those who called
	mapping  bool                                 // the router was asked to forward the port
	mappedAt netip.AddrPort                       // where it does; invalid where it does not
	running  sync.WaitGroup
}

// Peers that were called may ask for as many punches as a series of calls has
// attempts. Those that ask more often are not answered.
const (
	requestsPerSecond = 3
	requestBurst      = 10
	requestPeers      = 4096
	// mostRuns is how many runs there are at once at most that offers alone began.
	mostRuns = 64
)

// New starts a Service on n.
func New(n *host.Node, cfg Config) *Service {
	if cfg.Attempts == 0 {
		cfg.Attempts = defaultAttempts
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Every == 0 {
		cfg.Every = defaultEvery
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Service{
		n: n, cfg: cfg, ctx: ctx, cancel: cancel, runs: make(map[peer.ID]*run), vain: make(map[peer.ID]*run), asked: make(map[peer.ID]bool), callers: make(map[network.Conn]chan network.Stream),
		limiter: wire.NewLimiter[peer.ID](requestsPerSecond, requestBurst, requestPeers),
		offers:  wire.NewLimiter[peer.ID](1/cfg.Every.Seconds(), 1, requestPeers),
		looks:   situations{known: make(map[peer.ID]*look)},
	}
	s.watch = &network.NotifyBundle{ConnectedF: s.connected}
	s.views = s.serveViews()
	n.SetStreamHandler(ViewsProtocol, s.views.Handle)
	n.SetStreamHandler(holepunch.Protocol, s.answer)
	if cfg.Method != MethodDCUtR {
		s.intros = s.serveIntros()
		n.SetStreamHandler(relay.OfferProtocol, s.offered)
	}
	n.Network().Notify(s.watch)
	s.goRun(s.watchRelays)
	if len(cfg.Servers) > 0 && cfg.Method != MethodDCUtR {
		s.look(cfg.Servers[0]) // before it is needed
	}
	return s
}

// Close ends what is under way and returns when nothing runs any more.
func (s *Service) Close() error {
	s.n.RemoveStreamHandler(holepunch.Protocol)
	s.n.RemoveStreamHandler(relay.OfferProtocol)
	s.n.RemoveStreamHandler(ViewsProtocol)
	s.n.Network().StopNotify(s.watch)
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.running.Wait()
	if s.intros != nil {
		if err := s.intros.Close(); err != nil {
			return err
		}
	}
	return s.views.Close()
}

// goRun runs f unless the service is closed, and reports whether it does.
func (s *Service) goRun(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.running.Go(f)
	}
	return !s.closed
}

// connected starts a punch for a relayed connection. In DCUtR the end that was called
// begins, as it is the one that needed a relay to be reached.
func (s *Service) connected(_ network.Network, c network.Conn) {
	via, ok := addr.RelayOf(c.RemoteMultiaddr())
	switch {
	case !ok:
	case c.Stat().Direction == network.DirInbound:
		if s.cfg.Method != MethodDCUtR {
			s.expect(c)
		}
		s.goRun(func() { s.initiateUntilDirect(c) })
	default:
		s.learn(via.ID) // before the other end asks
		s.prepare(via)
		if s.cfg.Method != MethodDCUtR {
			s.goRun(func() { s.call(c) })
		}
	}
}

// begin notes a run. If one with the same peer is under way it returns that and false.
func (s *Service) begin(r *run) (*run, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.runs[r.peer]; other != nil {
		return other, false
	}
	if r.relayed == nil && len(s.runs) >= mostRuns {
		return r, false // others cost their peers a connection
	}
	s.runs[r.peer] = r
	return r, true
}

// mayOpen reports whether a run may open sockets of its own: one at a time does, so that
// there never are more than opened.
func (s *Service) mayOpen(r *run) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opens == nil {
		s.opens = r
	}
	return s.opens == r
}

// beginRelayed begins a run for a relayed connection, after one by offer alone: where
// that has failed the peer calls through the relay. It is false where both ends know of
// that one that a further run would fail as well.
func (s *Service) beginRelayed(c network.Conn, role Role) (*run, bool) {
	for {
		r, ok := s.begin(relayedRun(c, role, s.cfg.On))
		if ok {
			s.goesBefore(r)
		}
		if ok || r.relayed != nil {
			return r, ok
		}
		select {
		case <-r.ended:
		case <-s.ctx.Done():
			return r, false
		}
		if r.shown() {
			return r, false
		}
	}
}

// goesBefore puts into the report of r what the run by offer alone has to tell that it
// follows.
func (s *Service) goesBefore(r *run) {
	s.mu.Lock()
	before := s.vain[r.peer]
	delete(s.vain, r.peer)
	s.mu.Unlock()
	if before != nil && r.began.Sub(before.began) < defaultEvery {
		r.follows(before.own())
	}
}

// end completes the report of a run with the other end's, tells it, and forgets the
// run. One by offer alone that did not do what the two NATs allow tells nothing: what
// follows over the relayed connection does. Nor does one whose peer takes no part.
func (s *Service) end(r *run, err error) {
	if err != nil && s.ctx.Err() != nil {
		err = errors.Join(s.ctx.Err(), err)
	}
	r.settle(err)
	s.mu.Lock()
	if s.opens == r {
		s.opens = nil
	}
	s.mu.Unlock()
	vain := err != nil && r.relayed == nil && !r.hopeless(err) && s.ctx.Err() == nil
	quiet := vain || errors.Is(err, errUnasked)
	if !quiet {
		s.exchangeViews(r)
	}
	s.mu.Lock()
	delete(s.runs, r.peer)
	if vain {
		if len(s.vain) >= mostRuns {
			clear(s.vain) // of peers that did not call
		}
		s.vain[r.peer] = r
	}
	s.mu.Unlock()
	close(r.ended)
	if s.cfg.On != nil && !quiet {
		done := r.own()
		s.cfg.On(Event{Run: done.Run, Peer: r.peer, Report: &done})
	}
}

// direct is a direct connection to p, if there is one.
func (s *Service) direct(p peer.ID) (network.Conn, bool) {
	conns := s.n.Conns(p) // direct ones first
	if len(conns) == 0 || addr.IsRelayed(conns[0].RemoteMultiaddr()) {
		return nil, false
	}
	return conns[0], true
}

// together dials the peer of r while the peer does the same, and returns the direct
// connection that either of the dials gave.
func (s *Service) together(ctx context.Context, r *run, client bool, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	changed, stop := s.n.Changes(r.peer)
	defer stop()
	dialled := make(chan error, 1)
	dialling, hangUp := context.WithCancel(ctx)
	var dial sync.WaitGroup
	defer dial.Wait()
	defer hangUp()
	dial.Go(func() {
		_, err := s.n.DialTogether(dialling, r.peer, r.remote, client)
		dialled <- err
	})
	var failed error
	for {
		if _, ok := s.direct(r.peer); ok {
			return nil
		}
		select {
		case err := <-dialled:
			failed, dialled = err, nil // the peer's own dial may still arrive
		case <-changed:
		case <-ctx.Done():
			return errors.Join(errNoDirect, failed, context.Cause(s.ctx))
		}
	}
}
