// Package natcheck finds out how a node is reached from outside: whether UDP and TCP
// work, how its NAT maps and filters, which of its addresses can be dialled, and what
// can be done about it.
//
// It looks from the ports that the node really listens on. Any libp2p peer tells
// by identify where connections come from; a vantage point (netkit/vantage) besides
// that reflects datagrams and sends some unasked; an AutoNAT v2 server dials back;
// a relay may hold a reservation. What they say is evidence, kept row by row; the
// conclusions are drawn by netkit/nat, and what is not known in time is nil.
package natcheck

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/nat"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// DefaultLimit is when a report is due.
const DefaultLimit = 5 * time.Second

// ErrUnreachable means that no server could be reached at all.
var ErrUnreachable = errors.New("no server could be reached")

// ErrInconclusive means that the servers at hand could not tell enough.
var ErrInconclusive = errors.New("too few vantage points to say")

// Config says whom to ask. The zero value asks nobody.
type Config struct {
	// Servers are asked in parallel.
	Servers []peer.AddrInfo
	// Limit is when to report what is known by then; 0 means DefaultLimit.
	Limit time.Duration
	// PortMap has the router forward a port while the check lasts, if there is a NAT,
	// to see whether it does.
	PortMap bool
	// UDPOnly looks at UDP and nothing else: there are no dial-backs and no reservations
	// either.
	UDPOnly bool
	// LookOnly leaves out what takes a connection of the node's or tells others of its
	// addresses: dial-backs, reservations and the router.
	LookOnly bool
	// Lifetime finds out how long NATs keep a mapping that nothing is sent through, up to
	// so long, at most MaxLifetime; the report comes so much later. 0 does not.
	Lifetime time.Duration
	// On is told of what comes in, from several goroutines; nil tells nobody. It
	// must not block.
	On func(Event)
}

// Event is something that came in. Exactly one field is set.
type Event struct {
	Sight   *Sight
	Path    *PathEvent
	Address *Address
	Relay   *Relay
}

// PathEvent tells that a vantage point has been made use of.
type PathEvent struct {
	Server    peer.ID `json:"server"`
	Family    string  `json:"family"`
	Transport string  `json:"transport"`
	nat.Path
	// MS is how long after the vantage point's answer, in ms.
	MS float64 `json:"ms"`
}

// The words for families and transports.
const (
	IP4 = "ip4"
	IP6 = "ip6"
	UDP = "udp"
	TCP = "tcp"
)

// The words for who tells where packets come from.
const (
	ByIdentify  = "identify"
	ByVantage   = "vantage"
	ByReflector = "reflector"
)

// Sight is where one endpoint of a server saw a socket of the node.
type Sight struct {
	Server    peer.ID        `json:"server"`
	Local     netip.AddrPort `json:"local"`
	Observed  netip.AddrPort `json:"observed"`
	Transport string         `json:"transport"` // UDP or TCP
	RTTms     *float64       `json:"rtt_ms"`    // nil where it was not measured
	Remote    netip.AddrPort `json:"remote"`    // the server's endpoint
	By        string         `json:"by"`
	// Sample marks a socket opened only to see how outside ports are chosen.
	Sample bool `json:"sample"`
}

// Trial is an attempt of a server to get in unasked, from an endpoint that the node had
// not written to.
type Trial struct {
	Server    string `json:"server"`
	Family    string `json:"family"`
	Transport string `json:"transport"`
	// Known means that another port of the endpoint's address was written to.
	Known bool `json:"known"`
	Came  bool `json:"came"`
	// Sure means that it would have been noticed. One that did not come and is not sure
	// counts for nothing.
	Sure bool `json:"sure"`
}

// Server is what became of one server.
type Server struct {
	Peer peer.ID `json:"peer"`
	// Vantage, AutoNAT and Relay say what it offers; nil if it could not be asked.
	Vantage *bool    `json:"vantage"`
	AutoNAT *bool    `json:"autonat"`
	Relay   *bool    `json:"relay"`
	Addrs   []string `json:"addrs"` // those that were reached
	Error   *string  `json:"error"` // why it could not be reached, or asked
}

// Result is the report.
type Result struct {
	Verdict   nat.Verdict  `json:"verdict"`
	Families  nat.Families `json:"families"`
	Addresses []Address    `json:"addresses"`
	PortMap   *PortMap     `json:"portmap"` // nil if it was not tried: no NAT, or not to be
	// CGNAT says whether the outside address belongs to a provider's NAT (RFC 6598): by
	// the addresses of the machine or the one that the router knows as its own.
	CGNAT    *bool          `json:"cgnat"`
	Relays   []Relay        `json:"relays"`
	Evidence []Sight        `json:"evidence"`
	Trials   []Trial        `json:"trials"` // evidence for filtering
	Forecast []nat.Forecast `json:"forecast"`
	Advice   []nat.Advice   `json:"advice"`
	Servers  []Server       `json:"servers"`
}

// check is one run.
type check struct {
	n     *host.Node
	cfg   Config
	own   []netip.Addr
	socks []*socket

	mu       sync.Mutex      // guards following
	sampled  map[string]bool // families
	evidence map[pathKey]*nat.Evidence
	r        Result
	// reflectors are those of a vantage point by family, other than its QUIC port.
	reflectors map[string]netip.AddrPort
}

type pathKey struct{ family, transport string }

// Do asks every server and reports at the latest after Config.Limit. From the looks at the
// node before is taken what cannot be found out twice: whether strangers get in, as long
// as the node is seen at the same address. The Result is
// filled whatever the error: ErrUnreachable, *FamilyError, ErrNoAddress, ErrInconclusive, or
// ctx's.
func Do(ctx context.Context, n *host.Node, cfg Config) (Result, error) {
	if cfg.Limit == 0 {
		cfg.Limit = DefaultLimit
	}
	c := &check{
		n: n, cfg: cfg,
		sampled: make(map[string]bool), evidence: make(map[pathKey]*nat.Evidence),
		reflectors: make(map[string]netip.AddrPort),
	}
	for _, a := range n.ListenAddrs() {
		if ip, ok := addr.IP(a); ok && !slices.Contains(c.own, ip) {
			c.own = append(c.own, ip)
		}
	}
	if err := c.openSockets(); err != nil {
		return c.r, err
	}
	defer c.closeSockets()
	contactPeers(n)
	limited, cancel := context.WithTimeout(ctx, cfg.Limit)
	defer cancel()
	visits := c.visitAll(limited)
	var lasting sync.WaitGroup
	if cfg.Lifetime > 0 {
		lasting.Go(func() { c.lifetimes(ctx) })
	}
	if !cfg.UDPOnly && !cfg.LookOnly {
		c.verify(limited, visits)
	}
	for _, v := range visits {
		v.close()
	}
	lasting.Wait()
	c.conclude(visits)
	return c.r, c.outcome(ctx, visits)
}

// visitAll looks at the node from every server.
func (c *check) visitAll(ctx context.Context) []*visit {
	var all sync.WaitGroup
	var visits []*visit
	for _, s := range c.cfg.Servers {
		v := &visit{c: c, server: s}
		visits = append(visits, v)
		all.Go(func() { v.run(ctx) })
	}
	all.Wait()
	return visits
}

// verify asks for what takes longer, once the looks are over that it could disturb:
// dial-backs and reservations.
func (c *check) verify(ctx context.Context, visits []*visit) {
	var all sync.WaitGroup
	all.Go(func() {
		remove := c.mapPort(ctx)
		defer remove()
		c.dialBacks(ctx, visits)
	})
	for _, v := range visits {
		all.Go(func() { c.reserve(ctx, v) })
	}
	all.Wait()
}

// conclude fills in what follows from the evidence.
func (c *check) conclude(visits []*visit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	path := func(family, transport string) nat.Path { return nat.Classify(c.path(family, transport)) }
	c.r.Families = c.n.Looked(nat.Families{
		IP4: nat.Transports{UDP: path(IP4, UDP), TCP: path(IP4, TCP)},
		IP6: nat.Transports{UDP: path(IP6, UDP), TCP: path(IP6, TCP)},
	})
	for i := range c.r.Addresses {
		a := &c.r.Addresses[i]
		for transport, endpoint := range map[string]func(ma.Multiaddr) (netip.AddrPort, bool){UDP: addr.UDP, TCP: addr.TCP} {
			if at, ok := endpoint(a.ma); ok {
				family := familyOf(at.Addr())
				a.judge(at, path(family, transport), c.path(family, transport).Trials)
			}
		}
	}
	for _, family := range []string{IP4, IP6} {
		for _, transport := range []string{UDP, TCP} {
			for _, t := range c.path(family, transport).Trials {
				c.r.Trials = append(c.r.Trials, Trial{t.Server, family, transport, t.Known, t.Came, t.Sure || t.Came})
			}
		}
	}
	for _, v := range visits {
		c.r.Servers = append(c.r.Servers, v.report())
	}
	c.judge(visits)
	c.r.CGNAT = c.cgnat()
	c.r.Forecast = c.r.Families.Forecasts()
	if c.r.PortMap != nil && c.r.PortMap.DoubleNAT != nil && *c.r.PortMap.DoubleNAT {
		c.r.Advice = append(c.r.Advice, nat.DoubleNAT)
	}
	slices.SortStableFunc(c.r.Evidence, func(a, b Sight) int {
		return cmp.Or(
			cmp.Compare(familyOf(a.Observed.Addr()), familyOf(b.Observed.Addr())), -cmp.Compare(a.Transport, b.Transport),
			cmp.Compare(a.Server, b.Server), cmp.Compare(a.By, b.By)) // samples stay in the order of opening
	})
	slices.SortStableFunc(c.r.Addresses, func(a, b Address) int { return addr.Compare(a.ma, b.ma) })
}

// cgnat says whether a provider's NAT is on the way out over IPv4; nil where nobody knows
// what is outside the router.
func (c *check) cgnat() *bool {
	p := c.r.Families.IP4.UDP
	if p.NAT == nil {
		p = c.r.Families.IP4.TCP
	}
	switch m := c.r.PortMap; {
	case slices.ContainsFunc(c.own, addr.IsCGNAT), m != nil && m.External != nil && addr.IsCGNAT(m.External.Addr()):
		return new(true)
	case p.NAT != nil && !*p.NAT, m != nil && m.DoubleNAT != nil && !*m.DoubleNAT:
		return new(false)
	}
	return nil
}

// path is the evidence for one path. The caller holds c.mu.
func (c *check) path(family, transport string) nat.Evidence {
	key := pathKey{family, transport}
	if c.evidence[key] == nil {
		c.evidence[key] = &nat.Evidence{Own: c.own}
	}
	return *c.evidence[key]
}

// add changes the evidence for one path.
func (c *check) add(family, transport string, change func(*nat.Evidence)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.path(family, transport)
	change(c.evidence[pathKey{family, transport}])
}

// saw keeps a row of evidence and tells of it.
func (c *check) saw(s Sight) {
	c.add(familyOf(s.Observed.Addr()), s.Transport, func(e *nat.Evidence) {
		c.r.Evidence = append(c.r.Evidence, s)
		e.Works = new(true)
		one := nat.Sight{Server: s.Server.String(), Local: s.Local, Remote: s.Remote, Observed: s.Observed}
		if s.Sample {
			e.Samples = append(e.Samples, one)
		} else {
			e.Sights = append(e.Sights, one)
		}
	})
	c.tell(Event{Sight: &s})
}

func (c *check) tell(e Event) {
	if c.cfg.On != nil {
		c.cfg.On(e)
	}
}

// outcome is the error that goes with the report.
func (c *check) outcome(ctx context.Context, visits []*visit) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case c.nobody() && c.lacks() != "":
		return &FamilyError{c.lacks()}
	case nowhere(visits):
		return ErrNoAddress
	case c.nobody():
		return ErrUnreachable
	case c.r.Verdict == nat.Inconclusive:
		return ErrInconclusive
	}
	return nil
}

func familyOf(ip netip.Addr) string {
	if ip.Is4() {
		return IP4
	}
	return IP6
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
