// Package peering lets a node join others by itself: it watches where peers are
// found, connects to them, and stays connected.
//
// Of a pair that find each other at the same moment one connection stays, the same
// for both; a direct one replaces a relayed one once it has carried data; peers that
// speak no protocol of a role are turned away; a lost peer is dialled again with
// back-off, and one that took its leave is not. All that is decided by a pure table
// of candidates; the rest of the package carries its orders out.
//
// The protocol /dibber/peering/1.0.0 tells a peer that this node leaves: one frame of
// netkit/wire with one byte, which is 1, and no reply. To speak it is what makes
// two nodes without any other role worth a connection to each other.
package peering

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/discover"
	"dibber/netkit/host"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
)

// ProtocolID is the protocol by which a node takes its leave.
const ProtocolID protocol.ID = "/dibber/peering/1.0.0"

// DefaultMax is the default of Config.Max.
const DefaultMax = 32

// Config says where to look for peers and whom to keep. The zero value looks nowhere.
type Config struct {
	// Sources are watched, each by itself, until Close; their On is ignored.
	Sources []discover.Config
	// Max is how many of the peers found are connected at once; 0 means DefaultMax.
	// Peers that connect by themselves when there is no room are not counted, and left
	// alone.
	Max int
	// Require names protocols of which a peer must speak one; empty asks for any of a
	// role: what begins with /dibber/, rendezvous, the hop side of a relay, AutoNAT v1
	// or v2, or aquadoggo's.
	Require []protocol.ID
	// Except are peers that others see to: they are neither dialled nor counted.
	Except []peer.ID
	// On is told what happens, one event at a time; nil tells nobody. It must not
	// block.
	On func(Event)
}

// EventKind is what an Event is about.
type EventKind string

// The kinds of events.
const (
	Found     EventKind = "found"     // a source named a peer that was not known
	Connected EventKind = "connected" // it is kept; told again when its path changes
	Lost      EventKind = "lost"      // it is connected no longer
	Failed    EventKind = "failed"    // it could not be reached; told once until it is
	Dropped   EventKind = "dropped"   // it was reached but speaks nothing wanted; told once until it does
)

// LeftOut is that a source names more peers than are remembered: Peer is the first for
// which another one was forgotten, or the other way round. It is told once, until the
// source names less than half of that.
const LeftOut EventKind = "left-out"

// Reason is why a peer was lost or dropped.
type Reason string

// The reasons.
const (
	ReasonClosed Reason = "closed"       // the connection ended or stopped answering
	ReasonLeft   Reason = "left"         // the peer said that it leaves
	ReasonUnfit  Reason = "not-required" // it speaks none of the protocols wanted

	ReasonTooMany Reason = "too-many" // its source names too many
)

// Event is a change of what is known of a peer, or of the connection with it.
type Event struct {
	Kind    EventKind
	Peer    peer.ID
	Sources []string       // words of netkit/discover; none when no source knows it any more
	Addrs   []ma.Multiaddr // when found
	Path    string         // direct or relayed, when connected
	Addr    string         // of the peer, when connected
	Reason  Reason         // when lost or dropped
	Err     error          // when failed
}

// Limits are those in force.
type Limits struct {
	Max     int           // peers connected at once
	Require []protocol.ID // none asks for any protocol of a role
}

// Service keeps a node connected with peers that it finds, until Close.
type Service struct {
	n   *host.Node
	cfg Config
	bye *wire.Service

	// The following belong to the goroutine of run.
	table    *table
	met      map[peer.ID]map[network.Conn]verdict // what the candidates' connections showed
	settling map[peer.ID]struct{}                 // peers with more than one, being sorted out
	alive    map[peer.ID]func()                   // ends the watch over those kept
	down     map[string]struct{}                  // sources that failed when last asked

	mu    sync.Mutex           // guards following
	dirty map[peer.ID]struct{} // peers whose connections changed

	wake    chan struct{} // dirty has members
	steps   chan func()   // what others want run to do
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup // run, and all that it starts
	close   func() error
}

// New starts looking for peers and connecting to them.
func New(n *host.Node, cfg Config) (*Service, error) {
	if cfg.Max == 0 {
		cfg.Max = DefaultMax
	}
	if cfg.On == nil {
		cfg.On = func(Event) {}
	}
	s := &Service{
		n: n, cfg: cfg,
		table:    newTable(n.ID(), cfg.Max, cfg.Except, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), time.Now()),
		met:      make(map[peer.ID]map[network.Conn]verdict),
		settling: make(map[peer.ID]struct{}), alive: make(map[peer.ID]func()), down: make(map[string]struct{}),
		dirty: make(map[peer.ID]struct{}), wake: make(chan struct{}, 1), steps: make(chan func()),
	}
	updates, err := n.EventBus().Subscribe(new(event.EvtPeerProtocolsUpdated), eventbus.Name("peering"))
	if err != nil {
		return nil, fmt.Errorf("protocol events: %w", err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.bye = wire.NewService(wire.ServiceConfig{Name: "dibber.peering", MaxRequest: 1, Timeout: byeTimeout, Rate: 1, Burst: 4}, s.byeReceived)
	n.SetStreamHandler(ProtocolID, s.bye.Handle)
	release := n.HoldStreams() // aquadoggo's nodes stay only with those who take theirs
	watch := &network.NotifyBundle{ConnectedF: s.changed, DisconnectedF: s.changed}
	n.Network().Notify(watch)
	s.running.Go(s.run)
	s.running.Go(func() {
		for e := range updates.Out() {
			if u, ok := e.(event.EvtPeerProtocolsUpdated); ok {
				s.do(func() { s.judgeAgain(u.Peer) })
			}
		}
	})
	for i, source := range cfg.Sources {
		source.On = func(e discover.Event) { s.do(func() { s.heard(i, e) }) }
		s.running.Go(func() {
			// It ends with the context, and has told by events what it found.
			_, _ = discover.Watch(s.ctx, n, source)
		})
	}
	s.close = sync.OnceValue(func() error {
		n.RemoveStreamHandler(ProtocolID)
		n.Network().StopNotify(watch)
		s.cancel()
		err := updates.Close()
		s.running.Wait()
		s.sayBye()
		release()
		return errors.Join(err, s.bye.Close())
	})
	return s, nil
}

// Limits are the limits in force.
func (s *Service) Limits() Limits { return Limits{Max: s.cfg.Max, Require: s.cfg.Require} }

// Close takes leave of the peers that speak ProtocolID, within a second, lets the
// connections be and waits until nothing runs.
func (s *Service) Close() error { return s.close() }

// do has run do something, unless the service ends.
func (s *Service) do(step func()) {
	select {
	case s.steps <- step:
	case <-s.ctx.Done():
	}
}

// changed notes that the connections of a peer are to be looked at.
func (s *Service) changed(_ network.Network, c network.Conn) { s.note(c.RemotePeer()) }

func (s *Service) note(id peer.ID) {
	s.mu.Lock()
	s.dirty[id] = struct{}{}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// changes returns the peers noted since the last call.
func (s *Service) changes() map[peer.ID]struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.dirty
	s.dirty = make(map[peer.ID]struct{})
	return out
}

// run hands the table what happens, and carries out what it orders.
func (s *Service) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var next time.Time
	concerned := true // something may have changed for the table
	for s.ctx.Err() == nil {
		for id := range s.changes() {
			if s.look(id) {
				concerned = true
			}
		}
		if concerned {
			next = s.table.step(time.Now())
			s.obey()
		}
		concerned = true
		timer.Stop()
		var wake <-chan time.Time
		if !next.IsZero() {
			timer.Reset(time.Until(next))
			wake = timer.C
		}
		select {
		case step := <-s.steps:
			step()
		case <-s.wake:
			concerned = false // on a server most connections are those of others
		case <-wake:
		case <-s.ctx.Done():
		}
	}
}

// heard takes what a source tells.
func (s *Service) heard(source int, e discover.Event) {
	switch e.Kind {
	case discover.PeerAdded, discover.PeerUpdated:
		seen := sighting{sources: e.Peer.Sources, addrs: parse(e.Peer.Addrs)}
		if s.table.found(time.Now(), source, e.Peer.ID, seen) {
			s.look(e.Peer.ID) // it may be connected already
		}
	case discover.PeerExpired:
		s.table.gone(source, e.Peer.ID)
	case discover.SourceAsked:
		s.answered(fmt.Sprint(source, e.Source.Source, deref(e.Source.Server)), e.Source.OK)
	case discover.Registration: // none is kept here
	}
}

// answered takes whether a source worked.
func (s *Service) answered(source string, ok bool) {
	_, failed := s.down[source]
	switch {
	case !ok:
		s.down[source] = struct{}{}
	case failed:
		delete(s.down, source)
		s.table.revive(time.Now())
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// parse reads addresses that end with the peer's id, which is left out.
func parse(addrs []string) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, text := range addrs {
		if t, err := addr.ParseTarget(text, addr.Options{}); err == nil { // else discover has not checked it
			out = append(out, t.Addrs...)
		}
	}
	return out
}
