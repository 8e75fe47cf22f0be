// Package reach finds out at which of its addresses a host can be reached, and
// whether it can be reached at all, by having others dial it back: AutoNAT v2
// (libp2p/specs autonat/autonat-v2.md), which tells of each address, and where
// nobody speaks it AutoNAT v1 (autonat/autonat-v1.md), which does not.
//
// No single server decides: see ledger. What AutoNAT cannot see it cannot either: a
// NAT that filters by address lets in whoever the host is connected to, and so the
// servers that it asks (libp2p/specs#714).
package reach

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

// Config sets up a Service. The zero value works.
type Config struct {
	// On is told of every change, one at a time; nil tells nobody. It must not
	// block, nor call Close.
	On func(Event)
}

const (
	// settle is how long the host is left to settle after a change before its
	// addresses and peers are looked at: identify tells both, one after the other.
	settle = time.Second
	// refresh is how often they are looked at though nobody told of a change.
	refresh = 30 * time.Second
	// maxAddrs is how many addresses are asked about. Behind a symmetric NAT there
	// are as many as there are peers.
	maxAddrs = 16
	// maxServers is how many are kept in mind, of the many that a relay's clients
	// may be.
	maxServers = 32
)

// Service keeps finding out.
type Service struct {
	n       *host.Node
	on      func(Event)
	client  *Client
	sub     event.Subscription
	cancel  context.CancelFunc
	done    sync.WaitGroup
	answers chan answer

	mu     sync.Mutex // guards ledger
	ledger *ledger
}

// answer is what came of a question.
type answer struct {
	question
	outcome
}

// New starts finding out about n. Nobody is connected to for it: those are asked
// that are connected anyway.
func New(n *host.Node, cfg Config) (*Service, error) {
	sub, err := n.EventBus().Subscribe([]any{
		new(event.EvtLocalAddressesUpdated), new(event.EvtLocalReachabilityChanged), new(event.EvtPeerIdentificationCompleted),
		new(event.EvtPeerProtocolsUpdated), new(event.EvtPeerConnectednessChanged),
	}, eventbus.Name("reach"))
	if err != nil {
		return nil, fmt.Errorf("reachability events: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Service{
		n: n, on: cfg.On, client: NewClient(n), sub: sub, cancel: cancel,
		answers: make(chan answer), ledger: newLedger(rand.Perm),
	}
	s.done.Go(func() { s.run(ctx) })
	return s, nil
}

// Close stops finding out, and waits for the questions under way.
func (s *Service) Close() error {
	s.cancel()
	s.done.Wait()
	return errors.Join(s.sub.Close(), s.client.Close())
}

// State returns what is known of the node.
func (s *Service) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger.state
}

// Addresses returns what is known of each address that is asked about.
func (s *Service) Addresses() []Address {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Address
	for _, a := range s.ledger.addrs {
		out = append(out, Address{Addr: a.addr, Is: a.verdict, By: a.by(a.verdict), Asked: len(a.voices)})
	}
	return out
}

// run is the only one that changes the ledger.
func (s *Service) run(ctx context.Context) {
	look := time.NewTimer(settle)
	defer look.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	looking := true // look is running for a change
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case e := <-s.sub.Out():
			if r, ok := e.(event.EvtLocalReachabilityChanged); ok {
				s.update(func(l *ledger, now time.Time) []Event { return l.setV1(now, stateOf(r.Reachability)) })
			} else if !looking {
				looking = true
				look.Reset(settle)
				continue
			}
		case <-look.C:
			looking = false
			look.Reset(refresh)
			s.look()
		case a := <-s.answers:
			s.update(func(l *ledger, now time.Time) []Event { return l.answer(now, a.question, a.outcome) })
		case <-next.C:
		}
		if at := s.ask(ctx); at.IsZero() {
			next.Stop()
		} else {
			next.Reset(time.Until(at))
		}
	}
}

// update changes the ledger and tells what follows.
func (s *Service) update(change func(*ledger, time.Time) []Event) {
	s.mu.Lock()
	events := change(s.ledger, time.Now())
	s.mu.Unlock()
	if s.on != nil {
		for _, e := range events {
			s.on(e)
		}
	}
}

// look takes in the addresses and peers that the host has now.
func (s *Service) look() {
	servers, addrs := s.servers(), candidates(s.n)
	s.update(func(l *ledger, now time.Time) []Event {
		l.setServers(now, servers)
		return l.setAddrs(now, addrs)
	})
}

// ask puts the questions that are due and returns when to come back.
func (s *Service) ask(ctx context.Context) (next time.Time) {
	s.update(func(l *ledger, now time.Time) []Event {
		due, events, at := l.ask(now)
		next = at
		for _, q := range due {
			s.done.Go(func() {
				a := answer{question: q}
				a.reachable, a.err = s.client.Ask(ctx, q.server, q.about)
				select {
				case s.answers <- a:
				case <-ctx.Done():
				}
			})
		}
		return events
	})
	return next
}

// servers are peers, connected past relays, that answer AutoNAT v2: those known as
// such stay, others fill up at random.
func (s *Service) servers() []peer.ID {
	peers := s.n.Network().Peers()
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	slices.SortStableFunc(peers, func(a, b peer.ID) int { return s.strange(a) - s.strange(b) })
	var out []peer.ID
	for _, p := range peers {
		if protos, err := s.n.Peerstore().SupportsProtocols(p, ProtocolDialRequest); err != nil || len(protos) == 0 {
			continue
		}
		if conns := s.n.Conns(p); len(conns) > 0 && !addr.IsRelayed(conns[0].RemoteMultiaddr()) {
			out = append(out, p)
		}
		if len(out) == maxServers {
			break
		}
	}
	return out
}

// strange is 0 for a server that is known and 1 for any other peer.
func (s *Service) strange(p peer.ID) int {
	if s.ledger.servers[p] != nil { // read by the goroutine that changes it
		return 0
	}
	return 1
}

// candidates are the addresses that strangers may reach the host at: those that it
// listens on and announces, and those that peers see where its connection left from
// a listening port.
func candidates(n *host.Node) []candidate {
	var out []candidate
	add := func(c candidate) {
		if scope := addr.ScopeOf(c.addr); scope != addr.ScopePublic && scope != addr.ScopeDNS || addr.IsRelayed(c.addr) {
			return // no stranger dials it
		}
		i := slices.IndexFunc(out, func(have candidate) bool { return have.addr.Equal(c.addr) })
		switch {
		case i < 0:
			out = append(out, c)
		case out[i].observers != nil && !slices.Contains(out[i].observers, c.observers[0]):
			out[i].observers = append(out[i].observers, c.observers[0])
		}
	}
	for _, a := range slices.Concat(n.Announced(), n.ListenAddrs()) {
		add(candidate{addr: a})
	}
	for _, o := range n.Observations() {
		if n.ListensAt(o.Conn.LocalMultiaddr()) {
			add(candidate{o.Addr, []peer.ID{o.Conn.RemotePeer()}})
		}
	}
	sortCandidates(out)
	return out[:min(len(out), maxAddrs)]
}

func stateOf(r network.Reachability) State {
	switch r {
	case network.ReachabilityPublic:
		return Public
	case network.ReachabilityPrivate:
		return Private
	case network.ReachabilityUnknown:
	}
	return Undecided
}
