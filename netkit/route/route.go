// Package route finds peers, records and providers by a distributed hash table: Kademlia as libp2p speaks it
// (libp2p/specs, kad-dht), by go-libp2p-kad-dht.
//
// To what the library does it adds what a node needs that strangers may ask and a person may want to understand: limits
// on requests, on records and on provider entries, which are kept in netkit/store; a namespace of records signed by their
// author (see [Record]); a join that says why it failed; a random walk at any pace; and a trace of each lookup that tells
// who was asked, how far from the target it is, and how long dialling and asking took.
package route

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/store"

	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Prefixes of protocols. The protocol is the prefix and then /kad/1.0.0.
const (
	// DefaultPrefix is that of dibber's own networks.
	DefaultPrefix protocol.ID = "/dibber"
	// PublicPrefix is that of the public network, which IPFS nodes form.
	PublicPrefix protocol.ID = "/ipfs"

	suffix protocol.ID = "/kad/1.0.0"
)

// Mode says whether a node answers others.
type Mode string

// The modes. The zero value is Client.
const (
	// Client asks and is asked nothing: it is in nobody's table.
	Client Mode = "client"
	// Server answers, keeps records and is in the tables of others.
	Server Mode = "server"
	// Auto is a server until Reachable says that others cannot reach the node, and a client while they cannot.
	Auto Mode = "auto"
)

// Defaults of Config.
const (
	DefaultReplication = 20 // k of the Kademlia paper
	DefaultConcurrency = 10 // alpha
	DefaultWalk        = time.Minute
	// DefaultTimeout bounds one request to one peer.
	DefaultTimeout = 10 * time.Second
)

// Config says what network a node takes part in and how. The zero value is a client of a network of dibber's own that
// knows nobody.
type Config struct {
	// Prefix of the protocol; empty means DefaultPrefix. With PublicPrefix only records under /pk and /ipns are taken,
	// Replication is 20, and peers of one network cannot fill the table.
	Prefix protocol.ID
	// Protocol is the whole protocol id for networks that follow another rule than prefix and /kad/1.0.0, as
	// ParallelChain's; empty follows it.
	Protocol protocol.ID
	// Mode is whether the node answers others; empty means Client.
	Mode Mode
	// NoRecords neither keeps nor asks for records and providers: the network finds peers and nothing else. The
	// public one does not allow it.
	NoRecords bool
	// Boot are the peers to begin with; they are dialled again whenever the table is empty.
	Boot []peer.AddrInfo
	// Replication is how many peers keep a record, and how many a part of the table has room for; 0 means
	// DefaultReplication.
	Replication int
	// Concurrency is how many peers a lookup asks at once; 0 means DefaultConcurrency.
	Concurrency int
	// Walk is the time from one lookup of a random peer to the next, by which the table is filled; 0 means
	// DefaultWalk, negative never.
	Walk time.Duration
	// Timeout bounds one request to one peer; 0 means DefaultTimeout.
	Timeout time.Duration
	// Limits bound what others can make a server do and keep.
	Limits Limits
	// DB keeps records and provider entries, under keys that begin with "dht/"; nil keeps them in memory. It must
	// stay open until Close has returned.
	DB *store.DB
	// On is told what happens, from several goroutines; nil tells nobody. It must not block.
	On func(Event)
}

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	c.Prefix = cmp.Or(c.Prefix, DefaultPrefix)
	c.Mode = cmp.Or(c.Mode, Client)
	c.Replication = cmp.Or(c.Replication, DefaultReplication)
	c.Concurrency = cmp.Or(c.Concurrency, DefaultConcurrency)
	c.Walk = cmp.Or(c.Walk, DefaultWalk)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.Protocol = cmp.Or(c.Protocol, ProtocolOf(c.Prefix))
	if c.On == nil {
		c.On = func(Event) {}
	}
	c.Limits = c.Limits.withDefaults()
	return c
}

// ErrMode means that a Config names a mode that there is not.
var ErrMode = errors.New("unknown mode: client, server and auto are known")

// ErrPublic means that a Config changes what the public network prescribes.
var ErrPublic = fmt.Errorf("the network of %s has a replication of %d and keeps records", PublicPrefix, DefaultReplication)

// Service is a node's part in the network, until Close.
type Service struct {
	n     *host.Node
	cfg   Config
	dht   *dht.IpfsDHT
	guard *guard
	keeps *keeper // nil with NoRecords

	bus    *modeBus
	mode   sync.Mutex // of those who tell whether the node can be reached
	walks  atomic.Uint64
	joined atomic.Bool   // the table had somebody when last looked
	walk   chan struct{} // it has somebody now

	cancel context.CancelFunc
	done   sync.WaitGroup
	close  func() error // once
}

// New starts a node's part. It returns at once: Join waits until somebody is in the table.
func New(n *host.Node, cfg Config) (*Service, error) {
	cfg = cfg.withDefaults()
	if cfg.Prefix == PublicPrefix && (cfg.Replication != DefaultReplication || cfg.NoRecords) {
		return nil, ErrPublic
	}
	s := &Service{n: n, cfg: cfg, walk: make(chan struct{}, 1), bus: newModeBus(n.EventBus())}
	s.guard = newGuard(cfg.Limits, s.tell)
	opts, err := s.options()
	if err != nil {
		return nil, err
	}
	if s.dht, err = dht.New(&tracedHost{Node: n, guard: s.guard, bus: s.bus}, opts...); err != nil {
		return nil, fmt.Errorf("hash table: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.close = cancel, sync.OnceValue(s.end)
	s.done.Go(func() { s.keepJoined(ctx) })
	if cfg.Walk > 0 {
		s.done.Go(func() { s.keepWalking(ctx) })
	}
	return s, nil
}

// options are the library's for the Config.
func (s *Service) options() ([]dht.Option, error) {
	c := s.cfg
	mode, ok := map[Mode]dht.ModeOpt{Client: dht.ModeClient, Server: dht.ModeServer, Auto: dht.ModeAutoServer}[c.Mode]
	if !ok {
		return nil, fmt.Errorf("%q: %w", c.Mode, ErrMode)
	}
	opts := []dht.Option{
		dht.Mode(mode), dht.ProtocolPrefix(c.Prefix), dht.V1ProtocolOverride(c.Protocol),
		dht.Concurrency(c.Concurrency), dht.BucketSize(c.Replication),
		dht.RoutingTableRefreshQueryTimeout(c.Timeout),
		dht.WithCustomMessageSender(s.sender), dht.OnRequestHook(s.served),
	}
	if c.Walk > 0 {
		// The library's own look at the table: it drops who no longer answers, and asks for parts that no walk met.
		opts = append(opts, dht.RoutingTableRefreshPeriod(refreshWalks*c.Walk))
	} else {
		opts = append(opts, dht.DisableAutoRefresh())
	}
	if c.Prefix == PublicPrefix {
		opts = append(opts, dht.RoutingTablePeerDiversityFilter(dht.NewRTPeerDiversityFilter(s.n, maxPerPrefixBucket, maxPerPrefix)),
			dht.RoutingTableFilter(dht.PublicRoutingTableFilter), dht.QueryFilter(dht.PublicQueryFilter))
	}
	if c.NoRecords {
		return append(opts, dht.DisableValues(), dht.DisableProviders()), nil
	}
	var below ds.Batching = dssync.MutexWrap(ds.NewMapDatastore())
	if c.DB != nil {
		below = &pebbleStore{db: c.DB}
	}
	var err error
	if s.keeps, err = newKeeper(below, c.Limits); err != nil {
		return nil, err
	}
	s.guard.full = s.keeps.full
	opts = append(opts, dht.Datastore(s.keeps), dht.ProviderManagerOpts(records.Cache(noCache{})))
	if c.Prefix != PublicPrefix {
		opts = append(opts, dht.Validator(s.validators()))
	}
	return opts, nil
}

const (
	// refreshWalks is after how many walks the library refreshes the table.
	refreshWalks = 10
	// maxPerPrefixBucket and maxPerPrefix are how many peers of one network (an IPv4 /16, an autonomous system of
	// IPv6) a part of the public table, and all of it, may have; the values are kubo's.
	maxPerPrefixBucket = 2
	maxPerPrefix       = 3
)

// ProtocolOf is the protocol of the network of a prefix.
func ProtocolOf(prefix protocol.ID) protocol.ID { return prefix + suffix }

// Protocol is the protocol that peers of this network speak.
func (s *Service) Protocol() protocol.ID { return s.cfg.Protocol }

// Limits are those in force, every field filled.
func (s *Service) Limits() Limits { return s.cfg.Limits }

// Reachable tells a node in mode Auto whether others can reach it; in other modes it does nothing.
func (s *Service) Reachable(is bool) {
	if s.cfg.Mode != Auto {
		return
	}
	s.mode.Lock()
	defer s.mode.Unlock()
	s.bus.tell(is)
}

// Close ends the node's part.
func (s *Service) Close() error { return s.close() }

func (s *Service) end() error {
	s.cancel()
	s.done.Wait()
	err := s.dht.Close()
	s.n.RemoveStreamHandler(s.cfg.Protocol)
	s.guard.close()
	if s.keeps != nil { // there may be work under way that nobody waits for
		err = errors.Join(err, s.keeps.Sync(context.Background(), ds.NewKey("/")), s.keeps.Close())
	}
	return err
}

func (s *Service) tell(e Event) { s.cfg.On(e) }
