// Package serve composes the long-lived roles of a node: relay, rendezvous point
// and dial-back server for others, and for itself reservations on relays,
// registrations at rendezvous points and connections that are kept, with peers that it
// was told of and with those that it finds.
package serve

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dibber/netkit/blocks"
	"dibber/netkit/chain"
	"dibber/netkit/dialback"
	"dibber/netkit/discover"
	"dibber/netkit/gossip"
	"dibber/netkit/host"
	"dibber/netkit/join"
	"dibber/netkit/mdns"
	"dibber/netkit/natcheck"
	"dibber/netkit/peering"
	"dibber/netkit/perf"
	"dibber/netkit/punch"
	"dibber/netkit/reach"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/replicate"
	"dibber/netkit/route"
	"dibber/netkit/vantage"

	"github.com/libp2p/go-libp2p/core/peer"
)

// The words of Server.Roles.
const (
	RoleRelay      = "relay"
	RoleRendezvous = "rendezvous"
	RoleAutoNAT    = "autonat"
	RoleVantage    = "vantage"
	RoleReplicate  = "replicate"
	RolePerf       = "perf"
	RoleBlocks     = "blocks"
	RoleDHT        = "dht"
	RolePubsub     = "pubsub"
	RoleChain      = "chain"
	RoleMDNS       = "mdns"
	RoleRelayed    = "use-relay" // keeps reservations
	RoleRegistered = "register"  // keeps registrations
	RoleKeeper     = "peer"      // keeps connections
	RolePeering    = "peering"   // connects with those found
)

// Config names the roles. The zero value takes none.
type Config struct {
	// Relay relays for others; nil does not. Its On is ignored.
	Relay *relay.Config
	// Rendezvous keeps registrations of others; nil does not. Its On and Abused
	// are ignored.
	Rendezvous *rendezvous.ServerConfig
	// DialBack answers AutoNAT v1 and v2; nil does not.
	DialBack *dialback.Config
	// Vantage shows others how they are seen from outside; nil does not. It needs a
	// node with host.Config.EachAddress.
	Vantage *vantage.Config
	// Replicate keeps a replica in step with those of connected peers; nil does not.
	Replicate *Replicate
	// Perf answers those who measure throughput; nil does not.
	Perf *perf.ServerConfig
	// Blocks exchanges the blocks of a store with connected peers; nil does not.
	Blocks *Blocks
	// Route takes part in the network of a distributed hash table; nil does not. Its On is ignored.
	Route *route.Config
	// Pubsub speaks gossip, and forwards topics that peers are subscribed to if its Relay says so; nil does not. Its On is ignored, and
	// Peers are trusted besides those that it names.
	Pubsub *gossip.Config
	// Chain takes part in the network of a ParallelChain, which excludes Route and Pubsub; nil does not. It needs a node of
	// chain.HostConfig. Its On is ignored.
	Chain *chain.Config
	// MDNS announces the node on the local network.
	MDNS bool
	// MDNSInterfaces are the networks to announce it on; nil means all.
	MDNSInterfaces []string

	// Punch makes relayed connections direct; nil does not. Its On is ignored.
	Punch *punch.Config

	// Natcheck tells the node's natcheck to whom it allows; nil tells nobody.
	Natcheck *natcheck.ShareConfig

	// Join lets in who shows a join token of this node's; nil lets nobody. Its On is ignored.
	Join *join.Config

	// Full lets the node take further roles by itself, as it can be reached or not;
	// nil takes only those named here. It excludes Relay.
	Full *Full

	// Relays are those to keep a reservation on.
	Relays []peer.AddrInfo
	// Registrations are those to keep.
	Registrations []Registration
	// Peers are those to stay connected to.
	Peers []peer.AddrInfo
	// Look are places where Peering looks for peers although the node is not to be found there.
	Look []discover.Config
	// Peering connects with those found by MDNS, in the namespaces of Registrations and
	// at Look, other than Relays, Peers and servers; nil waits for them to connect. Its Sources,
	// Except and On are ignored.
	Peering *peering.Config

	// Retry is the longest wait between the beginnings of two attempts to get back
	// what was lost, which is spread by a quarter; 0 means retry.DefaultMost, with
	// which a repair takes less than 10 s from the end of what caused the loss.
	Retry time.Duration
	// On is told of what happens, from several goroutines; nil tells nobody. It
	// must not block.
	On func(Event)
}

// Registration is a place to be found at.
type Registration struct {
	Server    peer.AddrInfo
	Namespace string            // 1 to 255 bytes
	TTL       time.Duration     // 0 leaves it to the server
	Format    rendezvous.Format // flavours of the record
}

// Event is one thing that happened. Exactly one field is set.
type Event struct {
	Relay        *relay.ClientEvent         // a reservation of this node
	Registration *rendezvous.RegistrarEvent // a registration of this node
	Relayed      *relay.Event               // a request to the relay, or what became of it
	Rendezvous   *rendezvous.Event          // a request served
	Peer         *PeerEvent                 // a kept connection
	Punch        *punch.Event               // a relayed connection on its way to a direct one
	Address      *reach.AddressEvent        // an address can be reached or not
	State        *reach.StateEvent          // the node can be reached or not
	Role         *RoleEvent                 // a role of a full node
	Found        *peering.Event             // a peer found, or the connection with it
	Replicated   *replicate.Event           // a session that has ended
	Corrupt      *blocks.CorruptError       // a block that was taken out of the store
	Provided     *ProvideEvent              // a CID that the network of the hash table was told of
	Routed       *route.Event               // the node's part in the network of the hash table
	Gossip       *gossip.Event              // of topics
	Lived        *replicate.Live            // entries that came as they were signed
	Chain        *chain.Event               // of the network of a ParallelChain
	Joined       *join.Event                // a join token that was shown
}

// turnedAway is how long a peer that abused a role is kept out.
const turnedAway = time.Minute

// Server is a node with its roles.
type Server struct {
	n     *host.Node
	cfg   Config
	roles []string
	// The roles for others; nil where one is not taken.
	relay    *relay.Server
	point    *rendezvous.Server
	dialback *dialback.Server
	full     *full
	peering  *peering.Service // nil where nobody is looked for
	vantage  *vantage.Server
	sessions *replicate.Service
	perf     *perf.Server
	blocks   *blocks.Service
	provider atomic.Pointer[provider] // nil where nothing is provided
	route    *route.Service
	gossip   *gossip.Service
	chain    *chain.Service

	registrars []*rendezvous.Registrar // as in cfg.Registrations

	forUs  []func() error // ends what the node does for itself
	forAll []func() error // ends what it does for others, in the order of starting
}

// New starts every role of cfg on n. Roles for others are up when it returns;
// reservations, registrations and connections come later and are told by On.
func New(n *host.Node, cfg Config) (*Server, error) {
	if cfg.Chain != nil && (cfg.Route != nil || cfg.Pubsub != nil) {
		return nil, errors.New("serve: the network of a ParallelChain has a hash table and gossip of its own")
	}
	if cfg.Full != nil && cfg.Relay != nil {
		return nil, errors.New("serve: a full node decides by itself whether it relays")
	}
	if cfg.Full != nil && cfg.Full.FindRelays && cfg.Route == nil {
		return nil, errors.New("serve: there is no hash table to find relays in")
	}
	s := &Server{n: n, cfg: cfg}
	release := n.HoldStreams() // an aquadoggo node stays with those alone, server or peer, that take its stream
	s.forAll = append(s.forAll, func() error { release(); return nil })
	for _, start := range []func() error{s.startServers, s.startRoute, s.startProviding, s.startMDNS, s.startPunch, s.startNatcheck, s.startClients, s.startPeering, s.startFull} {
		if err := start(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// startServers starts the roles for others.
func (s *Server) startServers() error {
	if s.cfg.Relay != nil {
		cfg := *s.cfg.Relay
		cfg.On = func(e relay.Event) { s.tell(Event{Relayed: &e}) }
		r, err := relay.New(s.n, cfg)
		if err != nil {
			return err
		}
		s.relay = r
		s.add(&s.forAll, RoleRelay, r.Close)
	}
	if s.cfg.Rendezvous != nil {
		cfg := *s.cfg.Rendezvous
		cfg.On = func(e rendezvous.Event) { s.tell(Event{Rendezvous: &e}) }
		cfg.Abused = func(p peer.ID) { s.n.TurnAway(p, turnedAway) }
		p, err := rendezvous.NewServer(s.n, cfg)
		if err != nil {
			return err
		}
		s.point = p
		s.add(&s.forAll, RoleRendezvous, p.Close)
	}
	if s.cfg.DialBack != nil {
		d, err := dialback.New(s.n, *s.cfg.DialBack)
		if err != nil {
			return err
		}
		s.dialback = d
		s.add(&s.forAll, RoleAutoNAT, d.Close)
	}
	if s.cfg.Vantage != nil {
		v, err := vantage.New(s.n, *s.cfg.Vantage)
		if err != nil {
			return err
		}
		s.vantage = v
		s.add(&s.forAll, RoleVantage, v.Close)
	}
	if s.cfg.Perf != nil {
		s.perf = perf.New(s.n, *s.cfg.Perf)
		s.add(&s.forAll, RolePerf, s.perf.Close)
	}
	if err := errors.Join(s.startBlocks(), s.startPubsub(), s.startChain(), s.startJoin()); err != nil {
		return err
	}
	return s.startReplicate() // which may use its gossip, and ends first
}

func (s *Server) startMDNS() error {
	if !s.cfg.MDNS {
		return nil
	}
	m, err := mdns.New(s.n, mdns.Config{Announce: true, Interfaces: s.cfg.MDNSInterfaces, Addrs: s.n.ListenAddrs})
	if err != nil {
		return err
	}
	s.add(&s.forUs, RoleMDNS, m.Close)
	return nil
}

func (s *Server) startPunch() error {
	if s.cfg.Punch == nil {
		return nil
	}
	cfg := *s.cfg.Punch
	cfg.On = func(e punch.Event) { s.tell(Event{Punch: &e}) }
	s.forUs = append(s.forUs, punch.New(s.n, cfg).Close)
	return nil
}

func (s *Server) startNatcheck() error {
	if s.cfg.Natcheck != nil {
		s.forUs = append(s.forUs, natcheck.NewShare(s.n, *s.cfg.Natcheck).Close)
	}
	return nil
}

func (s *Server) startJoin() error {
	if s.cfg.Join == nil {
		return nil
	}
	cfg := *s.cfg.Join
	cfg.On = func(e join.Event) { s.tell(Event{Joined: &e}) }
	j, err := join.New(s.n, cfg)
	if err != nil {
		return err
	}
	s.forAll = append(s.forAll, j.Close)
	return nil
}

// startClients starts the roles for the node itself.
func (s *Server) startClients() error {
	for _, at := range s.cfg.Relays {
		c := relay.NewClient(s.n, relay.ClientConfig{
			Relay: at, MaxBackoff: s.cfg.Retry,
			On: func(e relay.ClientEvent) { s.tell(Event{Relay: &e}) },
		})
		s.add(&s.forUs, RoleRelayed, c.Close)
	}
	if err := s.startRegistrations(); err != nil {
		return err
	}
	for _, p := range s.cfg.Peers {
		k := newKeeper(s.n, p, s.cfg.Retry, func(e PeerEvent) { s.tell(Event{Peer: &e}) })
		s.add(&s.forUs, RoleKeeper, k.Close)
	}
	return nil
}

// startFull lets the node take roles by itself.
func (s *Server) startFull() error {
	if s.cfg.Full == nil {
		return nil
	}
	f, err := newFull(s.n, s.cfg, s.route, s.tell)
	if err != nil {
		return err
	}
	s.full = f
	if s.route != nil && s.cfg.Full.Fixed == reach.Private {
		s.route.Reachable(false)
	}
	s.forUs = append(s.forUs, f.close)
	s.forAll = append(s.forAll, f.closeRelay)
	return nil
}

// relaying returns the relay; nil while the node is none.
func (s *Server) relaying() *relay.Server {
	if s.full != nil {
		return s.full.relaying()
	}
	return s.relay
}

// add notes a role that has started.
func (s *Server) add(ends *[]func() error, role string, stop func() error) {
	if !slices.Contains(s.roles, role) {
		s.roles = append(s.roles, role)
	}
	*ends = append(*ends, stop)
}

func (s *Server) tell(e Event) {
	if e.State != nil && s.route != nil && e.State.Is != reach.Undecided {
		s.route.Reachable(e.State.Is == reach.Public)
	}
	if s.cfg.On != nil {
		s.cfg.On(e)
	}
}

// Drain ends in order what can be ended in order, until ctx ends: what the node does
// for itself ends at once, so that registrations are withdrawn while their servers
// can still be told; the relay takes nothing new and waits for its circuits.
// Close comes after it.
func (s *Server) Drain(ctx context.Context) error {
	if r := s.relaying(); r != nil {
		r.Drain()
	}
	err := s.endOurs() // a full node takes no roles any more
	if r := s.relaying(); r != nil {
		r.Drain()
		err = errors.Join(err, r.Wait(ctx))
	}
	return err
}

// endOurs ends the roles for the node itself at once, so that a server that does
// not answer holds up no other.
func (s *Server) endOurs() error {
	errs := make([]error, len(s.forUs))
	var ended sync.WaitGroup
	for i, stop := range s.forUs {
		ended.Go(func() { errs[i] = stop() })
	}
	ended.Wait()
	s.forUs = nil
	return errors.Join(errs...)
}

// Close ends the roles, those for the node itself first.
func (s *Server) Close() error {
	errs := []error{s.endOurs()}
	for _, stop := range slices.Backward(s.forAll) {
		errs = append(errs, stop())
	}
	s.forAll = nil
	return errors.Join(errs...)
}
