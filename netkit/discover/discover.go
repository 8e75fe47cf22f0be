// Package discover finds peers by several sources at once (rendezvous points,
// multicast DNS, a distributed hash table, dnsaddr names, subscribers of a topic, a table) and merges what they say: one entry a
// peer, with the addresses of its newest signed record.
//
// It composes netkit/rendezvous (libp2p/specs, rendezvous), netkit/mdns
// (libp2p/specs, discovery/mdns) and netkit/route (libp2p/specs, kad-dht). What the sources say is not trusted: records
// of rendezvous points are signed by their peers, the rest is proven when the
// peer is dialed, and an address that could not be written on a line is left out.
package discover

import (
	"cmp"
	"context"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/mdns"
	"dibber/netkit/rendezvous"
	"dibber/netkit/route"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Defaults of Config.
const (
	DefaultFor           = 5 * time.Second
	DefaultInterval      = 10 * time.Second
	DefaultTimeout       = 15 * time.Second
	DefaultProbeTimeout  = 10 * time.Second
	DefaultProbeParallel = 16
	DefaultProbeMax      = 256
)

// Config names the sources and says how long to listen to them. The zero value
// has no source and finds nobody.
type Config struct {
	// Servers are the rendezvous points, asked in parallel.
	Servers []peer.AddrInfo
	// Namespace to look in at the servers; empty asks for all.
	Namespace string
	// Format chooses the flavours of records asked for and registered.
	Format rendezvous.Format
	// MDNS looks for peers on the local network; nil does not. Its Announce,
	// Browse and On are ignored: nothing is announced.
	MDNS *mdns.Config
	// DHT looks for peers in the network of a hash table: those that provide Namespace there, or, without one, those
	// met on a random walk; nil does not. Its On is ignored, and it takes part as a client.
	DHT *route.Config
	// Route is a part in the network that the node has already, asked in place of DHT's; nil has none.
	Route *route.Service
	// DNSAddrs are names as /dnsaddr/NAME whose records list peers.
	DNSAddrs []ma.Multiaddr
	// Pubsub looks for those who are subscribed to a topic; nil does not.
	Pubsub *Pubsub
	// Table are peers known beforehand; nil is no source, an empty list is one.
	Table []peer.AddrInfo

	// For is how long to collect. While it lasts, sources are watched. Zero asks
	// each source once, but collects for DefaultFor if there
	// is something to wait for: MDNS, Min or Register.
	For time.Duration
	// Min ends the collecting as soon as there are so many peers, and fewer are a
	// *TooFewError; zero wants none.
	Min int
	// Limit is how many peers the result has, the first by peer id; zero means
	// all.
	Limit int
	// Interval is the time between two questions to a source that is watched and
	// does not tell by itself what changes; zero means DefaultInterval. Servers with
	// the push stream of netkit/rendezvous do tell. Others are asked for news by the
	// cookie of their last answer, and every tenth time for everything, which shows
	// who has left.
	Interval time.Duration
	// Timeout bounds one question; zero means DefaultTimeout.
	Timeout time.Duration

	// Register keeps this host registered in Namespace at all Servers while peers
	// are looked for, and unregisters it at the end; in the network of DHT it provides
	// Namespace, which cannot be taken back and is forgotten there after two days. Its addresses are those that it
	// was told to announce, those of relays, public ones, and those of the scope,
	// such as loopback, in which the server was reached.
	Register bool
	// TTL of the registration, in whole seconds; zero leaves it to the server.
	TTL time.Duration
	// Dropped is told that a followed server was seen, at that moment, to have this
	// host's registration in Namespace no more, which others keep than this search;
	// nil tells nobody. It must not block.
	Dropped func(server peer.ID, seen time.Time)

	// Probe tries whether a peer can be reached at addrs; nil leaves peers
	// unprobed. It is called from several goroutines, once for each set of
	// addresses of a peer, and ends with its context.
	Probe func(ctx context.Context, p peer.ID, addrs []ma.Multiaddr) Probe
	// ProbeTimeout bounds one probe; zero means DefaultProbeTimeout.
	ProbeTimeout time.Duration
	// ProbeParallel is how many run at once; zero means DefaultProbeParallel.
	ProbeParallel int
	// ProbeMax is how many peers may run or wait for it at once; zero means
	// DefaultProbeMax. Further ones stay unprobed.
	ProbeMax int

	// On is told what happens, one event at a time; nil tells nobody. It must not
	// block.
	On func(Event)

	find peer.ID // whose addresses are wanted; empty: anybody's
}

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	c.Interval = cmp.Or(c.Interval, DefaultInterval)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.ProbeTimeout = cmp.Or(c.ProbeTimeout, DefaultProbeTimeout)
	c.ProbeParallel = cmp.Or(c.ProbeParallel, DefaultProbeParallel)
	c.ProbeMax = cmp.Or(c.ProbeMax, DefaultProbeMax)
	if c.On == nil {
		c.On = func(Event) {}
	}
	return c
}

// window is how long to collect; zero ends when every source has answered.
func (c Config) window() time.Duration {
	if c.For == 0 && (c.MDNS != nil || c.Min > 0 || c.Register) {
		return DefaultFor
	}
	return c.For
}

// EventKind is what an Event is about.
type EventKind string

// The kinds of events.
const (
	PeerAdded    EventKind = "peer.added"
	PeerUpdated  EventKind = "peer.updated"
	PeerExpired  EventKind = "peer.expired" // no source knows it any more
	SourceAsked  EventKind = "source"       // a source answered or failed
	Registration EventKind = "registration" // a registration of this host changed
)

// Event reports a change. The field that its kind is about is set.
type Event struct {
	Kind         EventKind
	Peer         *Peer // as it was last known, when it expired
	Source       *SourceResult
	Registration *rendezvous.RegistrarEvent
}

// Result is what was found.
type Result struct {
	Namespace     *string        `json:"namespace"` // the one looked in; null: all, or no server asked
	Count         int            `json:"count"`     // of Peers
	Peers         []Peer         `json:"peers"`     // by peer id
	Sources       []SourceResult `json:"sources"`
	Registrations []Registered   `json:"registrations"`
}

// Do asks every source and returns what they know. A source that fails does not
// hide what others know. The Result is filled as far as things went, also with an
// error: *SourceError when no source worked, *PartialError when some did not,
// *TooFewError, or ctx's.
func Do(ctx context.Context, n *host.Node, cfg Config) (Result, error) {
	return newSession(n, cfg).collect(ctx)
}

// Watch looks for peers until the context ends, whatever For and Min are, and
// returns what was known then with the context's error. What fails is tried again:
// a server that returns is watched again within 10 s. It holds no more than what the
// sources say now, so that it may run as long as the node.
func Watch(ctx context.Context, n *host.Node, cfg Config) (Result, error) {
	return newSession(n, cfg).watch(ctx)
}

// Resolve asks the sources of cfg for the addresses of one peer, until one of them
// knows any. It returns ErrNotFound when none does, and a *SourceError when none
// worked.
func Resolve(ctx context.Context, n *host.Node, id peer.ID, cfg Config) ([]ma.Multiaddr, error) {
	cfg.Register, cfg.Probe, cfg.Min, cfg.find = false, nil, 0, id
	return newSession(n, cfg).find(ctx, id)
}
