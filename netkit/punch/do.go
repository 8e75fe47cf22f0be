package punch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/ping"
	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// readyPause is the time between two questions whether the other side has a
	// reservation by now.
	readyPause = time.Second
	// askTimeout is how long the other side may take to begin: it was called, so
	// it asks.
	askTimeout = 5 * time.Second
)

// FailedError means that a peer was to be connected directly and is not. Reason is a
// word of Report.Reason.
type FailedError struct {
	Peer   peer.ID
	Reason string
	View   View // of the end that tells; without attempts where none was made
	Err    error
}

func (e *FailedError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("punch to %s: %s", e.Peer, e.Reason)
	}
	return fmt.Sprintf("punch to %s: %s: %v", e.Peer, e.Reason, e.Err)
}

func (e *FailedError) Unwrap() error { return e.Err }

// DoConfig configures Do. The zero value ends as soon as the outcome is known.
type DoConfig struct {
	Config
	// Hold keeps the direct connection for so long and pings over it once a second,
	// to show that it lasts; 0 does not.
	Hold time.Duration
}

// Do calls p through the relay of one of circuits and returns when the connection
// is direct, or when that has failed. It waits, until ctx ends, for p to have a
// reservation. The Report is filled as far as things went; the error is a
// *FailedError or ctx's.
func Do(ctx context.Context, n *host.Node, p peer.ID, circuits []ma.Multiaddr, cfg DoConfig) (Report, error) {
	ended := make(chan Report, 1)
	tell := cfg.On
	cfg.On = func(e Event) {
		if e.Report != nil && e.Peer == p {
			select {
			case ended <- *e.Report:
			default: // one is enough
			}
		}
		if tell != nil {
			tell(e)
		}
	}
	s := New(n, cfg.Config)
	defer s.Close()
	defer context.AfterFunc(ctx, s.cancel)() // what runs ends with ctx
	r, err := s.introduced(ctx, p, circuits)
	switch {
	case ctx.Err() != nil:
		return cut(ctx, p, r)
	case err == nil:
		return s.keep(ctx, p, r.own(), cfg.Hold)
	case r != nil && r.hopeless(err):
		return s.relayedOnly(ctx, r, circuits, err, cfg.Hold)
	case !errors.Is(err, errPlain):
		return failed(p, err)
	}
	began := time.Now()
	c, err := call(ctx, n, p, circuits)
	switch {
	case err != nil && ctx.Err() != nil && !errors.Is(err, errNoReservation):
		return cut(ctx, p, nil)
	case err != nil:
		return failed(p, err)
	}
	relayed := time.Now()
	if !addr.IsRelayed(c.RemoteMultiaddr()) {
		return Report{View: View{
			Peer: p, Role: Responder, Outcome: AlreadyDirect, Addr: new(c.RemoteMultiaddr().String()), Started: began,
			Attempts: []Attempt{}, Dropped: []Dropped{}, Timeline: []Step{},
		}}, nil
	}
	report, err := s.await(ctx, c, ended)
	report.RelayedMS = new(ping.Milliseconds(relayed.Sub(began)))
	if err == nil {
		err = failureOf(report)
	}
	if err != nil {
		return report, err
	}
	return s.keep(ctx, p, report, cfg.Hold)
}

// failureOf is the error of a report that tells of a failure.
func failureOf(report Report) error {
	if report.Outcome != Failed {
		return nil
	}
	failed := &FailedError{Peer: report.Peer, Reason: *report.Reason, View: report.View}
	if report.Plan != nil && report.Plan.Method == nat.MethodNone {
		failed.Err = fmt.Errorf("%w: %s", ErrImpossible, report.Plan.Why)
	}
	return failed
}

// relayedOnly calls the peer of a run that is hopeless through the relay, and ends the run
// over that connection. A direct one that came late after all is as good as any.
func (s *Service) relayedOnly(ctx context.Context, r *run, circuits []ma.Multiaddr, vain error, hold time.Duration) (Report, error) {
	began := time.Now()
	c, err := call(ctx, s.n, r.peer, circuits)
	if err == nil && !addr.IsRelayed(c.RemoteMultiaddr()) {
		vain = s.prove(r)
	}
	relayed := time.Since(began)
	s.end(r, vain)
	if ctx.Err() != nil {
		return cut(ctx, r.peer, r)
	}
	report := r.own()
	if err != nil {
		_, err = failed(r.peer, err)
		return report, err
	}
	if vain == nil {
		return s.keep(ctx, r.peer, report, hold)
	}
	report.RelayedMS = new(ping.Milliseconds(relayed))
	return report, failureOf(report)
}

// cut is what is known of a run that ctx ended before its outcome; r is nil where none
// had begun.
func cut(ctx context.Context, p peer.ID, r *run) (Report, error) {
	report, _ := failed(p, context.Canceled)
	if r != nil {
		report = r.own()
	}
	report.Outcome, report.Reason, report.Detail = Failed, new(ReasonCancelled), new(ctx.Err().Error())
	return report, ctx.Err()
}

// introduced tries to do without a relayed connection. It fails with errPlain if that is
// not possible, with errNoDirect if it shows that nothing gets through, and otherwise if
// no relay can be dialled. The run is nil if none was begun.
func (s *Service) introduced(ctx context.Context, p peer.ID, circuits []ma.Multiaddr) (*run, error) {
	relays := relaysOf(circuits)
	if _, ok := s.direct(p); ok || len(relays) == 0 {
		return nil, errPlain
	}
	var last error
	for _, via := range relays {
		r, err := s.introduce(ctx, p, via)
		if err == nil || ctx.Err() != nil || r != nil && r.hopeless(err) {
			return r, err
		}
		if dialled, ok := errors.AsType[*host.DialError](err); !ok || dialled.Peer != via.ID {
			return r, errPlain // the relayed connection shows what is wrong
		}
		last = err
	}
	return nil, last
}

// relaysOf are the relays of circuits, each with all its addresses.
func relaysOf(circuits []ma.Multiaddr) (out []peer.AddrInfo) {
	for _, c := range circuits {
		via, ok := addr.RelayOf(c)
		if !ok {
			continue
		}
		i := slices.IndexFunc(out, func(o peer.AddrInfo) bool { return o.ID == via.ID })
		if i < 0 {
			out = append(out, via)
		} else {
			out[i].Addrs = append(out[i].Addrs, via.Addrs...)
		}
	}
	return out
}

// keep holds the direct connection that a report tells of.
func (s *Service) keep(ctx context.Context, p peer.ID, report Report, most time.Duration) (Report, error) {
	var err error
	if most > 0 {
		report.HeldMS, err = s.hold(ctx, p, most)
	}
	return report, err
}

// hold pings p once a second over the direct connection. It returns how long that
// lasted.
func (s *Service) hold(ctx context.Context, p peer.ID, most time.Duration) (heldMS *float64, err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, most, errHeld)
	defer cancel()
	lost := false
	_, err = ping.Do(ctx, s.n, p, ping.Config{Count: -1, On: func(pong ping.Pong) {
		if pong.Path != addr.PathDirect || pong.RTTms == nil {
			lost = true
			cancel()
		}
	}})
	held := new(ping.Milliseconds(time.Since(began)))
	switch {
	case lost:
		return held, &FailedError{Peer: p, Reason: ReasonLost, Err: errLost}
	case errors.Is(context.Cause(ctx), errHeld):
		return held, nil
	}
	return held, err
}

// errHeld ends a hold whose time is over.
var errHeld = errors.New("held")

// await returns the report of the punch that the peer at the other end of c begins.
func (s *Service) await(ctx context.Context, c network.Conn, ended <-chan Report) (Report, error) {
	p := c.RemotePeer()
	begins := time.NewTimer(askTimeout)
	defer begins.Stop()
	for {
		select {
		case r := <-ended:
			return r, nil
		case <-ctx.Done():
			s.mu.Lock()
			r := s.runs[p]
			s.mu.Unlock()
			return cut(ctx, p, r)
		case <-begins.C:
			s.mu.Lock()
			underWay := s.runs[p] != nil
			s.mu.Unlock()
			if underWay {
				begins.Reset(readyPause) // its own time-outs end it
				continue
			}
			if ok, err := s.n.Supports(ctx, c, holepunch.Protocol); err == nil && !ok {
				return failed(p, errUnsupported)
			}
			return failed(p, errNoStream)
		}
	}
}

// call connects to p over a relay, once p has a reservation there.
func call(ctx context.Context, n *host.Node, p peer.ID, circuits []ma.Multiaddr) (network.Conn, error) {
	for {
		c, err := n.Dial(ctx, p, slices.DeleteFunc(slices.Clone(circuits), func(a ma.Multiaddr) bool { return !addr.IsRelayed(a) }))
		if err == nil {
			return c, nil
		}
		if st, ok := relay.ConnectStatus(err); !ok || st != relay.NoReservation {
			return nil, err
		}
		host.Pause(ctx, readyPause)
		if ctx.Err() != nil {
			return nil, errors.Join(errNoReservation, err)
		}
	}
}

var errNoReservation = errors.New("the peer has no reservation there")

// failed is the report and the error of a punch that never began.
func failed(p peer.ID, err error) (Report, error) {
	reason := reasonOf(err)
	if dialled, ok := errors.AsType[*host.DialError](err); ok {
		reason = ReasonNoRelay
		if st, answered := relay.ConnectStatus(dialled); answered {
			reason = ReasonRefused
			if st == relay.NoReservation {
				reason = ReasonNoReservation
			}
		}
	}
	return Report{View: View{
		Peer: p, Role: Responder, Outcome: Failed, Reason: &reason, Detail: new(err.Error()), Started: time.Now(),
		Attempts: []Attempt{}, Dropped: []Dropped{}, Timeline: []Step{},
	}}, &FailedError{Peer: p, Reason: reason, Err: err}
}
