// Package chain runs a node on the network of a ParallelChain: it finds peers by their hash table, hears and sends broadcasts, takes
// what is sent to its own address and writes to others'. What is said is netkit/pchain's; the protocols are netkit/gossip and
// netkit/route.
//
// The node's key must be Ed25519, because it is the node's address. So that peers of the network understand it, its host speaks TCP,
// Noise and yamux alone, tells [HostConfig]'s protocol version and keeps to one connection a peer.
//
// A peer of the network that loses its last connection stays alone, for it drops who was connected from its table, its boot nodes
// too: the node dials again whom it loses. It has no scores for peers: where peers of several versions are in one network, each
// offers messages by ids that others do not know, and would be taken for one who breaks promises.
package chain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dibber/netkit/gossip"
	"dibber/netkit/host"
	"dibber/netkit/pchain"
	"dibber/netkit/route"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

// Defaults of Config.
const (
	DefaultWalk  = 10 * time.Second // as in the examples of pchain-network
	DefaultKept  = 64
	DefaultAwait = 10 * time.Second
)

// Config says which network, and what the node does there. The zero value is a node of 0.4 that knows nobody and waits for others.
type Config struct {
	// Profile is the version spoken; the zero Profile means that of pchain.V04.
	Profile pchain.Profile
	// Kademlia is the protocol of the hash table; empty means pchain.Kademlia.
	Kademlia protocol.ID
	// Boot are the peers to begin with; they are dialled again whenever they are lost.
	Boot []peer.AddrInfo
	// Topics are those to subscribe to besides the node's own mailbox; nil means the profile's, empty none.
	Topics []string
	// Client keeps the node out of the tables of others.
	Client bool
	// Walk is the time from one lookup of a random peer to the next; 0 means DefaultWalk.
	Walk time.Duration
	// Hub is of how many neighbours the node forwards the mailboxes, so that peers that cannot reach each other can write to each
	// other; 0 forwards none, but in profiles whose nodes all do so those of close neighbours, DefaultKept at most.
	Hub int
	// Kept is how many lost peers, besides Boot, are dialled again at the same time; 0 means DefaultKept.
	Kept int
	// Await is how long SendTo waits for the receiver to be subscribed to its mailbox; 0 means DefaultAwait.
	Await time.Duration
	// Gates take what comes, in order and one message at a time: those for this node, and broadcasts. Without any they are told by On
	// alone.
	Gates []Gate
	// On is told what happens, from several goroutines; nil tells nobody. It must not block.
	On func(Event)
}

// Gate takes messages.
type Gate struct {
	// Wants says whether it takes those of a topic; nil takes all.
	Wants func(topic string) bool
	// Take takes a message, and says whether it is the last gate to do so.
	Take func(Delivery) (last bool)
}

// Delivery is a message that came.
type Delivery struct {
	pchain.Envelope
	Seq *uint64 // counted by its author; nil for what the node wrote to itself
	Via peer.ID // the neighbour that brought it; the node itself for its own
	At  time.Time
	// Neighbour is set if the author is connected and has identified itself: peers of 0.4 hand their application nothing else.
	Neighbour bool
}

// EventKind is what an Event is about.
type EventKind string

// The kinds of events.
const (
	Met     EventKind = "met"     // a peer with an address has identified itself
	Lost    EventKind = "lost"    // it is connected no longer
	Failed  EventKind = "failed"  // one who was lost, or of Boot, could not be dialled; told once until it can
	Refused EventKind = "refused" // a message was not what its topic says, and neither delivered nor forwarded
	Routed  EventKind = "routed"  // something of the hash table
	Topics  EventKind = "topics"  // something of the topics
)

// Event is one thing that happened.
type Event struct {
	Kind    EventKind
	Peer    peer.ID        // met, lost, failed, or the author of what was refused
	Address pchain.Address // of Peer, unless refused for want of one
	Topic   string         // of what was refused
	Err     error          // why
	Route   *route.Event   // of Routed
	Gossip  *gossip.Event  // of Topics
}

// ErrNotEd25519 means that the key of the node is no address.
var ErrNotEd25519 = errors.New("a node of ParallelChain needs an Ed25519 key")

// HostConfig makes a host for the network of a configuration: TCP, Noise and yamux, the protocol version, one connection a peer.
func HostConfig(cfg host.Config, kademlia protocol.ID) host.Config {
	cfg.Transports, cfg.Security, cfg.Muxers = []host.Transport{host.TCP}, []host.Security{host.Noise}, []host.Muxer{host.Yamux}
	cfg.Single = true
	if cfg.ProtocolVersion = string(kademlia); kademlia == "" {
		cfg.ProtocolVersion = pchain.IdentifyVersion
	}
	return cfg
}

func (c Config) withDefaults() Config {
	if c.Profile.Name == "" {
		c.Profile, _ = pchain.ProfileOf(pchain.V04)
	}
	c.Kademlia = cmp.Or(c.Kademlia, pchain.Kademlia)
	c.Walk = cmp.Or(c.Walk, DefaultWalk)
	c.Kept = cmp.Or(c.Kept, DefaultKept)
	c.Await = cmp.Or(c.Await, DefaultAwait)
	if c.Topics == nil {
		c.Topics = c.Profile.Topics()
	}
	if c.On == nil {
		c.On = func(Event) {}
	}
	return c
}

// Service is a node's part in the network, until Close.
type Service struct {
	n       *host.Node
	cfg     Config
	address pchain.Address
	gossip  *gossip.Service
	route   *route.Service
	redials *redials
	subs    []*gossip.Subscription

	ctx     context.Context //nolint:containedctx // it ends with the service
	cancel  context.CancelFunc
	running sync.WaitGroup
	take    sync.Mutex // held while gates take a message

	mu   sync.Mutex // guards following
	near map[peer.ID]pchain.Address
}

// New starts a node's part. Errors wrap ErrNotEd25519, and gossip.ErrBadTopic where a topic of Config has no meaning in the profile.
func New(n *host.Node, cfg Config) (*Service, error) {
	cfg = cfg.withDefaults()
	own, err := pchain.AddressOf(n.ID())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotEd25519, err)
	}
	s := &Service{n: n, cfg: cfg, address: own, near: make(map[peer.ID]pchain.Address)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.redials = newRedials(n, cfg.Boot, cfg.Kept, func(p peer.ID, err error) { s.tellPeer(Failed, p, err) })
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Service) start() (err error) {
	if s.gossip, err = gossip.New(s.n, s.gossipConfig()); err != nil {
		return err
	}
	if s.route, err = route.New(s.n, s.routeConfig()); err != nil {
		return err
	}
	for _, name := range append(slices.Clone(s.cfg.Topics), s.cfg.Profile.Mailbox(s.address)) {
		if err := s.subscribe(name); err != nil {
			return err
		}
	}
	peers, err := s.n.EventBus().Subscribe([]any{new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerConnectednessChanged)}, eventbus.Name("chain"))
	if err != nil {
		return fmt.Errorf("events of peers: %w", err)
	}
	s.running.Go(func() {
		defer func() { _ = peers.Close() }() // it has no error to tell
		s.follow(peers.Out())
	})
	s.running.Go(func() { s.redials.run(s.ctx) })
	return nil
}

// gossipConfig is that of a peer of the network.
func (s *Service) gossipConfig() gossip.Config {
	p := s.cfg.Profile
	cfg := gossip.Config{
		MaxMessage: pchain.MaxMessage, NoScore: true,
		MessageID: func(topic string, from peer.ID, seqno, data []byte) string {
			return messageID(p, topic, from, seqno, data)
		},
		Validate: s.validate,
		On:       func(e gossip.Event) { s.cfg.On(Event{Kind: Topics, Gossip: &e}) },
	}
	if !p.AnyTopic {
		cfg.Topics = func(name string) bool {
			_, mailbox := p.Owner(name)
			return mailbox || slices.Contains(p.Topics(), name)
		}
	}
	switch {
	case s.cfg.Hub > 0:
		cfg.Relay = &gossip.RelayConfig{Topics: s.cfg.Hub, For: s.isMailbox}
	case p.RelaysClose:
		cfg.Relay = &gossip.RelayConfig{Topics: DefaultKept, For: func(topic string, id peer.ID) bool {
			return s.isMailbox(topic, id) && pchain.Close(s.n.ID(), id)
		}}
	}
	return cfg
}

// isMailbox reports whether a topic is the mailbox of a peer.
func (s *Service) isMailbox(topic string, id peer.ID) bool {
	owner, ok := s.cfg.Profile.Owner(topic)
	return ok && owner.Peer() == id
}

func (s *Service) routeConfig() route.Config {
	cfg := route.Config{
		Protocol: s.cfg.Kademlia, Mode: route.Server, NoRecords: true, Boot: s.cfg.Boot, Walk: s.cfg.Walk,
		On: func(e route.Event) { s.cfg.On(Event{Kind: Routed, Route: &e}) },
	}
	if s.cfg.Client {
		cfg.Mode = route.Client
	}
	return cfg
}

// Address is the node's own.
func (s *Service) Address() pchain.Address { return s.address }

// Profile is the version spoken.
func (s *Service) Profile() pchain.Profile { return s.cfg.Profile }

// Limits are those in force, every field filled.
func (s *Service) Limits() Config { return s.cfg }

// Route is the node's part in the hash table.
func (s *Service) Route() *route.Service { return s.route }

// Gossip is what the node knows of topics.
func (s *Service) Gossip() *gossip.Service { return s.gossip }

// Neighbours are the addresses of the peers that are connected and have identified themselves, in their order.
func (s *Service) Neighbours() []pchain.Address {
	s.mu.Lock()
	out := make([]pchain.Address, 0, len(s.near))
	for _, a := range s.near {
		out = append(out, a)
	}
	s.mu.Unlock()
	slices.SortFunc(out, func(a, b pchain.Address) int { return slices.Compare(a[:], b[:]) })
	return out
}

// isNear reports whether a peer is one of Neighbours.
func (s *Service) isNear(p peer.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.near[p]
	return ok
}

// Lost is how many messages came faster than the gates took them.
func (s *Service) Lost() (n uint64) {
	for _, sub := range s.subs {
		n += sub.Lost()
	}
	return n
}

// Close ends the node's part. What was sent shortly before may be lost; Drain of Gossip comes before it where that matters.
func (s *Service) Close() error {
	s.cancel()
	var errs []error
	if s.gossip != nil {
		errs = append(errs, s.gossip.Close())
	}
	s.running.Wait()
	if s.route != nil {
		errs = append(errs, s.route.Close())
	}
	return errors.Join(errs...)
}
