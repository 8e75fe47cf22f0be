package punch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/ping"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	libp2pping "github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
)

// run collects the report of one punch.
type run struct {
	peer    peer.ID
	role    Role
	relayed network.Conn  // nil: the two meet by offer alone
	via     peer.AddrInfo // the relay between the two
	began   time.Time
	on      func(Event)
	remote  []ma.Multiaddr      // where the peer was seen; only its own goroutine looks at it
	probed  bool                // all that DCUtR would do was tried, or more; as remote
	asked   bool                // the peer began an attempt of its own; as remote
	next    chan network.Stream // further attempts of the peer
	settled chan struct{}       // closed when this end's own report stands
	ended   chan struct{}       // closed when another run with the peer may begin
	theirs  chan View           // the other end's

	mu     sync.Mutex // guards following
	over   bool       // nobody receives from next any more
	known  bool       // the other end knows the run's id
	report Report
}

func newRun(p peer.ID, via peer.AddrInfo, role Role, on func(Event)) *run {
	now := time.Now()
	return &run{
		peer: p, via: via, role: role, began: now, on: on, next: make(chan network.Stream, 1),
		settled: make(chan struct{}), ended: make(chan struct{}), theirs: make(chan View, 1), report: Report{View: View{
			Run: newRunID(), Peer: p, Role: role, Started: now,
			Attempts: []Attempt{}, Dropped: []Dropped{}, Timeline: []Step{},
		}},
	}
}

// relayedRun is a run for a relayed connection.
func relayedRun(c network.Conn, role Role, on func(Event)) *run {
	via, _ := addr.RelayOf(c.RemoteMultiaddr()) // it is relayed
	r := newRun(c.RemotePeer(), via, role, on)
	r.relayed, r.began = c, c.Stat().Opened
	r.report.Relayed, r.report.Started = true, r.began
	return r
}

// again hands the run a further attempt of the peer; false when it takes none.
func (r *run) again(st network.Stream) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	select {
	case r.next <- st:
		return true
	default:
		return false
	}
}

// noMore ends the taking of attempts.
func (r *run) noMore() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	select {
	case st := <-r.next:
		_ = st.Reset() // nobody will answer it
	default:
	}
}

// named takes the id that the other end gave the run.
func (r *run) named(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Run, r.known = id, true
}

// id is the run's name.
func (r *run) id() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report.Run
}

// shared reports whether the other end gave the run its name, and so will ask.
func (r *run) shared() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known
}

// own is a copy of this end's report as it stands.
func (r *run) own() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.report
	c.Attempts, c.Dropped, c.Timeline = slices.Clone(c.Attempts), slices.Clone(c.Dropped), slices.Clone(c.Timeline)
	return c
}

// tell adds a step to the timeline.
func (r *run) tell(step Step) {
	r.mu.Lock()
	step.Side = r.role
	step.AtMS = ping.Milliseconds(time.Since(r.began))
	r.report.Timeline = append(r.report.Timeline, step)
	e := Event{Run: r.report.Run, Peer: r.peer, Step: &step}
	r.mu.Unlock()
	if r.on != nil {
		r.on(e)
	}
}

// took notes the addresses that the peer named.
func (r *run) took(remote []ma.Multiaddr, dropped []Dropped) error {
	r.remote = remote
	r.leftOut(dropped)
	if len(remote) == 0 {
		return errNoRemote
	}
	return nil
}

// leftOut notes addresses that are not dialled.
func (r *run) leftOut(dropped []Dropped) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Dropped = append(r.report.Dropped, dropped...)
}

// hopeless reports whether a run that ended so has tried all that its peer and this end
// can do, DCUtR included.
func (r *run) hopeless(err error) bool { return r.probed && errors.Is(err, errNoDirect) }

// shown reports whether both ends of a run by offer alone, which is over, have seen that
// nothing gets through.
func (r *run) shown() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.relayed == nil && r.report.Outcome == Failed && *r.report.Reason == ReasonAttemptsEnded && r.report.Other != nil
}

// follows puts what this end saw of a run before into the report: what had been agreed,
// and steps before the relayed connection, at negative times.
func (r *run) follows(before Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sooner := ping.Milliseconds(r.began.Sub(before.Started))
	for _, step := range before.Timeline {
		step.Side, step.AtMS = r.role, step.AtMS-sooner
		r.report.Timeline = append(r.report.Timeline, step)
	}
	r.report.Attempts, r.report.Dropped = before.Attempts, before.Dropped
	r.report.LocalNAT, r.report.RemoteNAT, r.report.Plan = before.LocalNAT, before.RemoteNAT, before.Plan
}

// goesOn reports whether there may be a further attempt after one that ended so.
func (r *run) goesOn(err error) bool {
	return !r.probed && (errors.Is(err, errNoDirect) || errors.Is(err, errPlain))
}

// nat is the kind of NAT; nil where it is not known in full.
func (p path) nat() *string {
	if p.assumed {
		return nil
	}
	return new(p.kind.String())
}

// agreed notes the NATs of both ends, and what is to be done with them.
func (r *run) agreed(p pairing) {
	family := "ip4"
	if p.own.observed.Addr().Is6() {
		family = "ip6"
	}
	r.mu.Lock()
	r.report.LocalNAT, r.report.RemoteNAT = p.own.nat(), p.peer.nat()
	r.report.Plan = &Plan{Method: p.Method, Why: p.Why, Family: family, Acts: p.Own}
	r.mu.Unlock()
	r.tell(Step{Event: "plan." + string(p.Method)})
}

// attempted notes one attempt.
func (r *run) attempted(a Attempt, err error) {
	if err != nil {
		a.Error = new(err.Error())
	}
	r.mu.Lock()
	a.N = len(r.report.Attempts) + 1
	r.report.Method = nil
	if err == nil {
		r.report.Method = &a.Method
	}
	r.report.Attempts = append(r.report.Attempts, a)
	r.report.RTTRelayedMS = &a.RTTms
	r.mu.Unlock()
	r.tell(Step{Event: "attempt." + a.Outcome, Error: a.Error})
}

// directNow notes the direct connection.
func (r *run) directNow(c network.Conn) {
	at := c.RemoteMultiaddr()
	r.mu.Lock()
	r.report.Transport, r.report.Addr = new(addr.Transport(at)), new(at.String())
	r.report.DirectMS = new(ping.Milliseconds(c.Stat().Opened.Sub(r.began)))
	r.mu.Unlock()
}

// stood notes a direct connection that was there before.
func (r *run) stood(c network.Conn) {
	at := c.RemoteMultiaddr()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Outcome, r.report.Transport, r.report.Addr = AlreadyDirect, new(addr.Transport(at)), new(at.String())
}

// proved notes what the direct connection carried, and whether the relayed one was
// closed by then.
func (r *run) proved(pings ping.Result, relayClosed bool) {
	r.mu.Lock()
	r.report.Outcome = Direct
	if pings.Min != nil {
		if r.report.Verified == nil {
			r.report.Verified = &Verified{}
		}
		v := r.report.Verified
		v.Bytes += libp2pping.PingSize
		v.RTTms, v.RelayClosed = *pings.Min, relayClosed
		r.report.RTTDirectMS = pings.Min
	}
	r.mu.Unlock()
	step := "direct.proved"
	if relayClosed {
		step = "direct.proved-alone"
	}
	r.tell(Step{Event: step})
}

// settle gives this end's report its outcome.
func (r *run) settle(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.report.Outcome = Failed
		r.report.Reason, r.report.Detail = new(reasonOf(err)), new(err.Error())
	}
	close(r.settled)
}

// reasonOf is the word for an error that ended a run.
func reasonOf(err error) string {
	for _, m := range []struct {
		is   error
		word string
	}{
		{context.Canceled, ReasonCancelled},
		{errUnsupported, ReasonNoProtocol},
		{errNoOwn, ReasonNoLocalAddr},
		{errNoRemote, ReasonNoRemoteAddr},
		{errNoDirect, ReasonAttemptsEnded},
		{errLost, ReasonLost},
		{errNoStream, ReasonNoStream},
	} {
		if errors.Is(err, m.is) {
			return m.word
		}
	}
	return ReasonCoordination
}

func outcomeOf(err error) string {
	if err != nil {
		return Failed
	}
	return Direct
}

func texts(addrs []ma.Multiaddr) []string {
	out := []string{}
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}
