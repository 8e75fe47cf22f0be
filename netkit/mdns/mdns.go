// Package mdns finds peers on the local network, and lets them find this one, by multicast DNS.
//
// It follows the libp2p mDNS specification (github.com/libp2p/specs, discovery/mdns.md) on top
// of RFC 6762 and RFC 6763: a PTR record of _p2p._udp.local points to a random name, whose TXT
// record holds the addresses as dnsaddr=<multiaddr>/p2p/<id>. Peers that answer with
// PTR and TXT alone, as rust-libp2p and js-libp2p do, are found as well (libp2p/go-libp2p#2275), and SRV and
// address records are sent for those that want them. Answers are always multicast.
//
// Nothing of what is told on a link is authenticated: a peer has to prove its id when it is dialed.
package mdns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	node "dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/miekg/dns"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/time/rate"
)

// DefaultServiceName is the service of the libp2p specification, which all its peers share.
const DefaultServiceName = "_p2p._udp"

// Defaults of Config.
const (
	DefaultInterval = 10 * time.Second
	DefaultMaxPeers = 1024
)

const (
	// domain is that of multicast DNS.
	domain = "local"
	// maxServiceName leaves room for a name in front of it within the 255 bytes of a DNS name.
	maxServiceName = 100
	// packetsPerSecond is how many packets are looked at; a link with hundreds of
	// responders stays below it.
	packetsPerSecond = 500
	// queued is how many packets wait while On runs; more are dropped.
	queued = 64
)

// ErrServiceName says that Config.ServiceName is not the name of a DNS-SD service.
var ErrServiceName = errors.New("bad mdns service name")

// ErrNoInterface says that the machine has no network interface of that name.
var ErrNoInterface = errors.New("no interface")

// Config says what a Service does. The zero value looks for peers and announces nothing.
type Config struct {
	// Announce tells the link of this host. Without it no packet says anything of the host.
	Announce bool
	// Browse asks for peers and reports them. It is implied when Announce is false.
	Browse bool
	// ServiceName is the DNS-SD service, with or without .local at its end; empty means
	// DefaultServiceName. Peers with another name do not see each other.
	ServiceName string
	// Interval is the longest time between two questions and between two looks at the interfaces
	// and addresses of the machine; 0 means DefaultInterval, and a second is the least. The first questions follow
	// each other faster.
	Interval time.Duration
	// Interfaces names the network interfaces to use. Empty means all that are up and can do
	// multicast, or the loopback interface if none can. Interfaces that come and go are followed.
	Interfaces []string
	// MaxPeers is how many peers are remembered; 0 means DefaultMaxPeers. Further ones are
	// not reported until others expire.
	MaxPeers int
	// Addrs returns the addresses to announce, without /p2p/ID; nil means the listen
	// addresses of the host on its interfaces. Those that make no sense on a link are left out.
	Addrs func() []ma.Multiaddr
	// On is called for each event, one at a time. It must not block, nor call Close. nil is allowed.
	On func(Event)
}

// EventKind is what happened to a peer.
type EventKind string

// The kinds of events.
const (
	Found   EventKind = "found"   // a peer that was not there before
	Updated EventKind = "updated" // its addresses changed
	Expired EventKind = "expired" // it took its leave or was not heard of any more
)

// Event reports a change of what is known of a peer on the local network.
type Event struct {
	Kind EventKind
	// Peer has all addresses known now; none when Kind is Expired.
	Peer peer.AddrInfo
	// TTL is how long this stays true if nothing more is heard; 0 when Kind is Expired.
	TTL time.Duration
}

// Service announces and browses until it is closed.
type Service struct {
	host    host.Host
	config  Config
	engine  *engine
	sockets *sockets
	packets chan received
	limit   *rate.Limiter
	close   func() error
}

// New starts a service for h. Errors wrap ErrServiceName, or come from the system: an
// interface that Config names does not exist, or no socket can be opened.
func New(h host.Host, config Config) (*Service, error) {
	if n, ok := h.(interface{ Hidden() bool }); ok && n.Hidden() {
		return nil, fmt.Errorf("mdns: %w", node.ErrHidden)
	}
	names, err := newNames(config.ServiceName)
	if err != nil {
		return nil, err
	}
	for _, name := range config.Interfaces {
		if _, err := net.InterfaceByName(name); err != nil {
			return nil, fmt.Errorf("%w %q: %w", ErrNoInterface, name, err)
		}
	}
	config = config.withDefaults()
	engine, err := newEngine(names, h.ID(), config)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrServiceName, config.ServiceName, err)
	}
	sockets, err := openSockets(config.Interfaces)
	if err != nil {
		return nil, fmt.Errorf("open mdns sockets: %w", err)
	}
	s := &Service{
		host: h, config: config, engine: engine, sockets: sockets,
		packets: make(chan received, queued),
		limit:   rate.NewLimiter(packetsPerSecond, packetsPerSecond),
	}
	now := time.Now()
	engine.restart(now)
	if err := s.refresh(now); err != nil {
		return nil, errors.Join(err, sockets.close())
	}
	s.start()
	return s, nil
}

// start begins the goroutines that Close waits for.
func (s *Service) start() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	if s.sockets.ip4 != nil {
		running.Go(func() { s.read(ctx, s.sockets.receive4) })
	}
	if s.sockets.ip6 != nil {
		running.Go(func() { s.read(ctx, s.sockets.receive6) })
	}
	var err error
	running.Go(func() { err = s.run(ctx) })
	s.close = sync.OnceValue(func() error {
		cancel()
		running.Wait()
		return err
	})
}

func (c Config) withDefaults() Config {
	c.Browse = c.Browse || !c.Announce
	if c.Interval == 0 {
		c.Interval = DefaultInterval
	}
	c.Interval = max(c.Interval, minGap)
	if c.MaxPeers == 0 {
		c.MaxPeers = DefaultMaxPeers
	}
	if c.On == nil {
		c.On = func(Event) {}
	}
	return c
}

// newNames makes the names of a peer. They are random, so that they tell nothing of it and fit
// a label whatever its id is.
func newNames(service string) (names, error) {
	if service == "" {
		service = DefaultServiceName
	}
	given := service
	service = strings.ToLower(strings.TrimSuffix(service, "."))
	service = strings.TrimSuffix(service, "."+domain)
	labels := strings.Split(service, ".")
	bad := len(labels) != 2 || len(service) > maxServiceName || strings.Contains(service, `\`)
	for _, label := range labels {
		bad = bad || len(label) < 2 || label[0] != '_'
	}
	service += "." + domain + "."
	if _, ok := dns.IsDomainName(service); !ok || bad {
		return names{}, fmt.Errorf("%w %q: want two labels that begin with _, as in %s", ErrServiceName, given, DefaultServiceName)
	}
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	label := make([]byte, 32+rand.IntN(32))
	for i := range label {
		label[i] = alphabet[rand.IntN(len(alphabet))]
	}
	return names{
		service:  service,
		instance: string(label) + "." + service,
		host:     string(label) + "." + domain + ".",
	}, nil
}

// Close takes back what was announced, and returns when everything has ended. Only the first
// call does something; all return its error.
func (s *Service) Close() error { return s.close() }

// Interfaces returns the names of the network interfaces in use now, sorted.
func (s *Service) Interfaces() []string {
	s.sockets.mu.Lock()
	defer s.sockets.mu.Unlock()
	var all []string
	for _, iface := range s.sockets.ifaces {
		all = append(all, iface.Name)
	}
	slices.Sort(all)
	return all
}

// refresh follows the interfaces and addresses of the machine.
func (s *Service) refresh(now time.Time) error {
	grown, err := s.sockets.refresh()
	if err != nil {
		return err
	}
	local, err := localIPs()
	if err != nil {
		return err
	}
	s.engine.setAddrs(now, s.addrs(), local)
	if grown {
		s.engine.restart(now)
	}
	return nil
}

func (s *Service) addrs() []ma.Multiaddr {
	if !s.config.Announce {
		return nil
	}
	if s.config.Addrs != nil {
		return s.config.Addrs()
	}
	addrs, err := s.host.Network().InterfaceListenAddresses()
	if err != nil {
		return nil // as when there are no listeners; the next refresh asks again
	}
	return addrs
}

// run is the only goroutine that touches the engine. It closes the sockets at its end, which ends the
// readers.
func (s *Service) run(ctx context.Context) error {
	ticker := time.NewTicker(s.config.Interval)
	defer ticker.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		out, events, next := s.engine.step(time.Now())
		for _, one := range out {
			s.sockets.send(one.to, one.packets)
		}
		s.report(events)
		timer.Stop()
		var wake <-chan time.Time
		if !next.IsZero() {
			timer.Reset(time.Until(next))
			wake = timer.C
		}
		select {
		case <-ctx.Done():
			s.sockets.send(link{}, s.engine.goodbye())
			return s.sockets.close()
		case <-wake:
		case now := <-ticker.C:
			// What cannot be listed now may be so at the next tick.
			_ = s.refresh(now)
		case r := <-s.packets:
			s.report(s.engine.receive(time.Now(), r))
		}
	}
}

func (s *Service) report(events []Event) {
	for _, e := range events {
		s.config.On(e)
	}
}

// read hands packets on until the sockets are closed. Those that come too fast are dropped.
func (s *Service) read(ctx context.Context, receive func([]byte) (received, bool, error)) {
	buf := make([]byte, maxPacket+1)
	for {
		r, ok, err := receive(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			// Such as an ICMP error, which concerns one packet only.
			if s.limit.Wait(ctx) != nil {
				return
			}
			continue
		}
		if !ok || !s.limit.Allow() {
			continue
		}
		r.data = slices.Clone(r.data)
		select {
		case s.packets <- r:
		case <-ctx.Done():
			return
		default:
		}
	}
}
