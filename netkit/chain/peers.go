package chain

import (
	"context"
	"slices"
	"sync"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/pchain"
	"dibber/netkit/retry"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// protection is the tag under which the connection manager keeps peers of the network.
const protection = "chain"

// follow keeps the neighbours as peers come and go.
func (s *Service) follow(events <-chan any) {
	for {
		select {
		case <-s.ctx.Done():
			return
		case e := <-events:
			switch e := e.(type) {
			case event.EvtPeerIdentificationCompleted:
				s.met(e)
			case event.EvtPeerConnectednessChanged:
				if e.Connectedness == network.NotConnected {
					s.lost(e.Peer)
				}
			}
		}
	}
}

func (s *Service) met(e event.EvtPeerIdentificationCompleted) {
	a, err := pchain.AddressOf(e.Peer)
	if err != nil || s.n.Network().Connectedness(e.Peer) != network.Connected {
		return // nobody's address, or gone again
	}
	s.mu.Lock()
	_, known := s.near[e.Peer]
	s.near[e.Peer] = a
	s.mu.Unlock()
	if known {
		return
	}
	s.redials.met(e.Peer, slices.Contains(e.Protocols, s.cfg.Kademlia), e.ListenAddrs)
	s.n.ConnManager().Protect(e.Peer, protection)
	s.tellPeer(Met, e.Peer, nil)
}

func (s *Service) lost(p peer.ID) {
	s.mu.Lock()
	_, known := s.near[p]
	delete(s.near, p)
	s.mu.Unlock()
	if !known {
		return
	}
	s.n.ConnManager().Unprotect(p, protection)
	s.redials.lost(p)
	s.tellPeer(Lost, p, nil)
}

// tellPeer tells of a peer that has an address.
func (s *Service) tellPeer(kind EventKind, p peer.ID, err error) {
	a, failed := pchain.AddressOf(p)
	if failed == nil {
		s.cfg.On(Event{Kind: kind, Peer: p, Address: a, Err: err})
	}
}

// forgetAfter is how long after it was lost a peer that is not of Config.Boot is dialled.
const forgetAfter = 10 * time.Minute

// yield is how much later than at once the one with the greater id dials, so that two that have lost each other do not dial each
// other at the same moment.
const yield = 2 * time.Second

// redials dials again who was lost.
type redials struct {
	n      *host.Node
	kept   int
	failed func(peer.ID, error)
	wake   chan struct{}
	dials  sync.WaitGroup

	mu  sync.Mutex // guards following
	all map[peer.ID]*redial
}

// redial is a peer that is to be connected.
type redial struct {
	addrs   []ma.Multiaddr
	boot    bool
	again   retry.Schedule
	due     time.Time // zero while it is connected or being dialled
	lost    time.Time // zero while it is connected
	pending bool
	told    bool // that it cannot be dialled
}

func newRedials(n *host.Node, boot []peer.AddrInfo, kept int, failed func(peer.ID, error)) *redials {
	r := &redials{n: n, kept: kept, failed: failed, wake: make(chan struct{}, 1), all: make(map[peer.ID]*redial)}
	for _, b := range boot {
		if b.ID != n.ID() {
			now := time.Now()
			r.all[b.ID] = &redial{addrs: b.Addrs, boot: true, due: now, lost: now}
		}
	}
	return r
}

// met takes note of a peer that is connected, and whether it is one to dial again: one that others have in their tables.
func (r *redials) met(p peer.ID, server bool, addrs []ma.Multiaddr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.all[p]
	switch {
	case d == nil && !server:
		return
	case d == nil:
		d = &redial{addrs: slices.Clone(addrs)}
		r.all[p] = d
	case !d.boot:
		d.addrs = slices.Clone(addrs)
	}
	d.again.Succeeded(time.Now())
	d.due, d.lost, d.told = time.Time{}, time.Time{}, false
}

// lost takes note that a peer is connected no more.
func (r *redials) lost(p peer.ID) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.all[p]
	if d == nil {
		return
	}
	if waiting := r.waiting(); !d.boot && waiting >= r.kept {
		delete(r.all, p)
		return
	}
	d.lost, d.due = now, d.again.Lost(now)
	if r.n.ID() > p {
		d.due = d.due.Add(yield)
	}
	r.nudge()
}

// waiting is how many that are not of Config.Boot are dialled again. The caller holds the lock.
func (r *redials) waiting() (n int) {
	for _, d := range r.all {
		if !d.boot && !d.lost.IsZero() {
			n++
		}
	}
	return n
}

func (r *redials) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run dials until ctx ends, and waits for the dials under way.
func (r *redials) run(ctx context.Context) {
	defer r.dials.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.wake:
		}
		next := r.dialDue(ctx, time.Now())
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// dialDue dials those whose time has come and returns when the next is due; zero: nobody.
func (r *redials) dialDue(ctx context.Context, now time.Time) (next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, d := range r.all {
		switch {
		case d.due.IsZero() || d.pending:
			continue
		case !d.boot && now.Sub(d.lost) > forgetAfter:
			delete(r.all, p)
			continue
		case d.due.After(now):
			if next.IsZero() || d.due.Before(next) {
				next = d.due
			}
			continue
		}
		d.pending = true
		d.again.Begin(now)
		addrs := d.addrs
		r.dials.Go(func() {
			within, cancel := context.WithTimeout(ctx, retry.Attempt)
			defer cancel()
			_, err := r.n.Dial(within, p, addrs)
			r.dialled(ctx, p, err)
		})
	}
	return next
}

// dialled takes the outcome of a dial. What became of a connection is told by met and lost.
func (r *redials) dialled(ctx context.Context, p peer.ID, err error) {
	r.mu.Lock()
	d := r.all[p]
	tell := false
	if d != nil {
		d.pending = false
		switch {
		case err != nil:
			d.due = d.again.Failed(time.Now())
			tell, d.told = !d.told && ctx.Err() == nil, true
		case !d.due.IsZero(): // unless it has been lost again, met comes
			d.due = time.Now().Add(retry.Attempt)
		}
		r.nudge()
	}
	r.mu.Unlock()
	if tell {
		r.failed(p, err)
	}
}
