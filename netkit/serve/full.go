package serve

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/reach"
	"dibber/netkit/relay"
	"dibber/netkit/route"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

// Full makes a node take the roles that its reachability calls for: while others
// can reach it, it relays for those who cannot be reached; while they cannot, it
// reserves on relays that it knows. The zero value does both.
//
// As long as nothing is known the node stays as it is.
type Full struct {
	// Fixed is reach.Public or reach.Private where the operator knows; nobody is
	// asked then. Empty finds out.
	Fixed reach.State
	// NoRelay does not relay, NoReserve reserves on no relay.
	NoRelay, NoReserve bool
	// Relay bounds the relay; nil means FullRelayLimits.
	Relay *relay.Limits
	// FindRelays looks for relays in the network of Config.Route, and does not take whichever peer is connected as
	// long as there are some.
	FindRelays bool
	// Reservations is how many are kept while private, those on Config.Relays
	// counted; 0 means FullReservations.
	Reservations int
}

// FullRelayLimits are those of a full node's relay: a small part, so that many
// nodes carry it together. Circuits of 2 min and 128 KiB are enough to punch a hole.
func FullRelayLimits() relay.Limits {
	return relay.Limits{
		Reservations: 128, ReservationsPerIP: 32, ReservationsPerPrefix: 32,
		Circuits: 128, CircuitsPerPeer: 16, Duration: 2 * time.Minute, Bytes: 128 << 10,
	}
}

// connsPerReservation is how many connections a full node may have for each reservation that it gives.
const connsPerReservation = 4

// FullReservations is how many reservations a full node keeps while private.
const FullReservations = 2

// RoleEvent is a role that a full node has taken or given up.
type RoleEvent struct {
	Kind   string        // "started", "stopped" or "failed"
	Role   string        // RoleRelay or RoleRelayed
	Cause  reach.State   // what the node is
	Limits *relay.Limits // of a relay that started
	Err    error         // of failed; of stopped, when it did not end well
}

// full is a node that takes roles by itself.
type full struct {
	n      *host.Node
	cfg    Full
	retry  time.Duration
	others []peer.AddrInfo // relays that are kept anyway
	tell   func(Event)
	reach  *reach.Service // nil: fixed
	sub    event.Subscription
	peers  chan struct{} // peers have come, gone or changed
	wake   chan struct{} // something is to be done at once
	cancel context.CancelFunc
	done   sync.WaitGroup
	seeker seeker // of the goroutine
	route  *route.Service

	mu       sync.Mutex    // guards following
	is       reach.State   // the last that was known
	relay    *relay.Server // nil: does not relay
	past     relayed       // by relays that were closed
	retiring bool          // relay waits for its circuits
	reserves bool          // keeps reservations
	search   search
}

// newFull starts what n is to be by itself. With Full.Fixed the role is taken when
// it returns.
func newFull(n *host.Node, cfg Config, r *route.Service, tell func(Event)) (*full, error) {
	f := &full{
		route: r,
		n:     n, cfg: *cfg.Full, retry: cfg.Retry, others: cfg.Relays, tell: tell,
		peers: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		seeker: newSeeker(), is: cfg.Full.Fixed,
	}
	if f.cfg.Reservations == 0 {
		f.cfg.Reservations = FullReservations
	}
	sub, err := n.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerProtocolsUpdated), new(event.EvtPeerConnectednessChanged),
	}, eventbus.Name("full node"))
	if err != nil {
		return nil, fmt.Errorf("peer events: %w", err)
	}
	f.sub = sub
	switch f.is {
	case reach.Public:
		err = f.startRelay()
	case reach.Private:
		f.reserves = !f.cfg.NoReserve
		n.SetPrivate(true)
	default:
		f.reach, err = reach.New(n, reach.Config{On: f.learnt})
	}
	if err != nil {
		return nil, errors.Join(err, sub.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.done.Go(func() { f.run(ctx) })
	f.done.Go(func() {
		// Apart from run, which closes clients and must hold up nobody meanwhile.
		for range sub.Out() {
			poke(f.peers)
		}
	})
	return f, nil
}

// learnt takes what was found out.
func (f *full) learnt(e reach.Event) {
	f.tell(Event{Address: e.Address, State: e.State})
	if e.State == nil || e.State.Is == reach.Undecided {
		return
	}
	f.mu.Lock()
	f.is = e.State.Is
	f.mu.Unlock()
	f.n.SetPrivate(e.State.Is == reach.Private)
	poke(f.wake)
}

// poke leaves a signal, unless there is one already.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// settle is how long peers that come or change are left to settle.
const settle = time.Second

// run makes the roles fit what is known, until ctx ends.
func (f *full) run(ctx context.Context) {
	defer f.release()
	look := time.NewTimer(0)
	defer look.Stop()
	soon := true // look is running for a change of peers
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-f.peers:
			if !soon {
				soon = true
				look.Reset(settle)
			}
			continue
		case <-look.C:
		case <-f.wake:
		}
		soon = false
		f.fitRelay(ctx)
		if f.fitReservations(ctx) {
			look.Reset(lookAround)
		} else if f.findsRelays() {
			look.Reset(searchAgain)
		} else {
			look.Stop()
		}
	}
}

// fitRelay starts or ends the relay.
func (f *full) fitRelay(ctx context.Context) {
	f.mu.Lock()
	is, running, retiring := f.is, f.relay, f.retiring
	f.mu.Unlock()
	switch {
	case is == reach.Public && running == nil && !f.cfg.NoRelay:
		e := RoleEvent{Kind: "started", Role: RoleRelay, Cause: is}
		if e.Err = f.startRelay(); e.Err != nil {
			e.Kind = "failed"
		} else {
			e.Limits = new(f.relaying().Limits())
		}
		f.tell(Event{Role: &e})
	case is == reach.Private && running != nil && !retiring:
		f.mu.Lock()
		f.retiring = true
		f.mu.Unlock()
		running.Drain()
		f.done.Go(func() { f.retire(ctx, running) })
	}
}

func (f *full) startRelay() error {
	if f.cfg.NoRelay {
		return nil
	}
	limits := FullRelayLimits()
	// Who reserves stays connected, and others are to find room, too.
	limits.Reservations = max(1, min(limits.Reservations, f.n.Limits().Conns/connsPerReservation))
	if f.cfg.Relay != nil {
		limits = *f.cfg.Relay
	}
	r, err := relay.New(f.n, relay.Config{Limits: limits, On: func(e relay.Event) { f.tell(Event{Relayed: &e}) }})
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.relay = r
	return nil
}

// retire ends a relay that takes nothing new when its circuits have ended, which
// their limits bound. If ctx ends before, the server that is closing sees to it.
// A host has one handler of the protocol, so no other relay starts meanwhile.
func (f *full) retire(ctx context.Context, r *relay.Server) {
	if r.Wait(ctx) != nil {
		return
	}
	err := r.Close()
	f.mu.Lock()
	f.past = f.past.with(r)
	f.relay, f.retiring = nil, false
	f.mu.Unlock()
	f.tell(Event{Role: &RoleEvent{Kind: "stopped", Role: RoleRelay, Cause: reach.Private, Err: err}})
	poke(f.wake)
}

// relaying returns the relay; nil while there is none.
func (f *full) relaying() *relay.Server {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.relay
}

// reachability is what is known now.
func (f *full) reachability() reach.State {
	if f.reach == nil {
		return f.cfg.Fixed
	}
	return f.reach.State()
}

// roles are those taken now.
func (f *full) roles() (out []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.relay != nil {
		out = append(out, RoleRelay)
	}
	if f.reserves {
		out = append(out, RoleRelayed)
	}
	return out
}

// close ends all but the relay, which may have to be drained.
func (f *full) close() error {
	f.cancel()
	err := f.sub.Close()
	f.done.Wait()
	if f.reach != nil {
		err = errors.Join(err, f.reach.Close())
	}
	return err
}

// closeRelay ends the relay, if there is one.
func (f *full) closeRelay() error {
	if r := f.relaying(); r != nil {
		return r.Close()
	}
	return nil
}
