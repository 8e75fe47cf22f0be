package commands

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/pchain"
	"dibber/netkit/rendezvous"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// readyDoc is the ready event of serve.
type readyDoc struct {
	Peer  peer.ID  `json:"peer"`
	Addrs []string `json:"addrs"` // each ends with /p2p/PEER
	Roles []string `json:"roles"`
	// Pending are roles that the node takes by itself once it knows what it is.
	Pending      []pendingRole `json:"pending"`
	Reachability *string       `json:"reachability"` // public or private; null: not known, or not a matter for these roles
	Limits       limitsDoc     `json:"limits"`
	Vantage      []siteDoc     `json:"vantage"` // where it answers those who want to see themselves; none unless a role
	Open         bool          `json:"open"`    // anybody may connect
	Reveals      []string      `json:"reveals"`
	StateDir     string        `json:"state_dir"`
	Admin        *string       `json:"admin"` // control socket
	HTTP         *string       `json:"http"`  // web address; null: none
	// Address is the node's own on the network of a ParallelChain, Boot how others begin with it; null elsewhere.
	Address *pchain.Address `json:"address"`
	Boot    *string         `json:"boot"`
}

// serveDoc is the document of serve, printed at its end.
type serveDoc struct {
	Peer         *peer.ID  `json:"peer"` // null: it did not start
	Roles        []string  `json:"roles"`
	Reachability *string   `json:"reachability"` // public or private; null: not known
	UptimeS      float64   `json:"uptime_s"`
	Rendezvous   *holdings `json:"rendezvous"` // what it holds; null: not a role of this node
	// Relay is what it relayed since its start; null: it never was a relay.
	Relay   *relayTotals `json:"relay"`
	Drained bool         `json:"drained"` // every role ended in time
}

// holdings are what a rendezvous point holds.
type holdings struct {
	Namespaces    int `json:"namespaces"`
	Registrations int `json:"registrations"`
	Peers         int `json:"peers"`
	// Refused counts requests since the start by the reason why they were refused.
	Refused map[string]uint64 `json:"refused"`
}

// holdingsOf is nil for a node that is no rendezvous point.
func holdingsOf(s *rendezvous.Stats) *holdings {
	if s == nil {
		return nil
	}
	return &holdings{s.Namespaces, s.Registrations, s.Peers, s.Refusals}
}

func (d serveDoc) quiet() string { return d.Peer.String() }

func (d serveDoc) renderText(t *text) {
	t.line("ended after %.1f s", d.UptimeS)
	if d.Relay != nil {
		d.Relay.fields(t)
	}
	if d.Rendezvous != nil {
		t.field(serve.RoleRendezvous, "%d registrations of %d peers in %d namespaces", d.Rendezvous.Registrations, d.Rendezvous.Peers, d.Rendezvous.Namespaces)
		refusedField(t, d.Rendezvous.Refused)
	}
}

// readyEvent is what the ready event is made of.
type readyEvent struct {
	o    serveOptions
	n    *host.Node
	s    *serve.Server
	open bool
	dir  string
	// admin is the control socket.
	admin string
	// http is the address of the dashboard; nil without one.
	http *string
}

func (r readyEvent) doc() readyDoc {
	d := readyDoc{
		Peer: r.n.ID(), Roles: r.s.Roles(), Pending: r.o.pending(), Reachability: stateWord(r.s.Reachability()), Limits: limitsOf(r.s.Limits()), Vantage: vantageOf(r.s), Open: r.open,
		Reveals: r.reveals(), StateDir: r.dir, Admin: &r.admin, HTTP: r.http,
	}
	for _, a := range slices.Concat(r.n.Announced(), r.n.ListenAddrs()) {
		d.Addrs = append(d.Addrs, addr.WithPeer(a, r.n.ID()).String())
	}
	if d.Limits.Chain != nil {
		d.Address, d.Boot = bootOf(r.n)
	}
	return d
}

// reveals says who learns which addresses of this node.
func (r readyEvent) reveals() []string {
	var out []string
	if r.o.Host.NoDiscovery {
		return append(out, "nobody but the peers of the table: the address a connection comes from")
	}
	out = append(out, "every connected peer: the addresses of this machine's interfaces, and those --announce names")
	if len(r.o.UseRelays) > 0 {
		out = append(out, "each --use-relay: this node's IP address; those who dial through it: the relay's address, then this node's when they punch")
	}
	if len(r.o.Register) > 0 {
		out = append(out, fmt.Sprintf("each --register, and whoever asks it for %s: circuit addresses, public ones, and those of the network it is reached over", strings.Join(r.o.Namespaces, ", ")))
	}
	out = append(out, r.o.fullReveals()...)
	if len(r.o.Host.AllowPeers) > 0 {
		out = append(out, "the peers of --allow-peer, when they ask (dibber explain): this node's natcheck, which has its addresses")
	}
	if r.o.DHT.On {
		out = append(out, "whoever looks this node up in the network of the hash table: its addresses; those it asks: what it looks for")
	}
	if r.o.MDNS {
		out = append(out, "everybody on the local network: the peer id and the addresses there")
	}
	out = append(out, r.o.Pubsub.reveals()...)
	if r.s.Limits().Peering != nil {
		out = append(out, "the peers found: the address a connection comes from")
	}
	return out
}

// line is the start screen.
func (d readyDoc) line() string {
	t := &text{}
	t.field("peer id", "%s", d.Peer)
	t.field("state", "%s", d.StateDir)
	t.field("control", "%s", *d.Admin)
	if d.HTTP != nil {
		t.field("dashboard", "%s", *d.HTTP)
	}
	for i, a := range d.Addrs {
		t.field(labelOnce(i, "listening"), "%s", a)
	}
	var roles []string
	for _, r := range d.Roles {
		roles = append(roles, roleText(r, d.Limits))
	}
	for _, p := range d.Pending {
		roles = append(roles, p.String())
	}
	if len(roles) == 0 {
		roles = []string{"none"}
	}
	for i, r := range roles {
		t.field(labelOnce(i, "roles"), "%s", r)
	}
	for i, s := range d.Vantage {
		t.field(labelOnce(i, "vantage"), "%s", s)
	}
	for i, r := range d.Reveals {
		t.field(labelOnce(i, "reveals"), "%s", r)
	}
	switch {
	case d.Address != nil:
		t.field("address", "%s", *d.Address)
		t.field("try", "dibber pubsub sub --profile %s --boot %s", d.Limits.Chain.Profile, *d.Boot)
	case len(d.Addrs) > 0:
		t.field("try", "dibber dial %s", d.tryAddr())
	}
	t.field("ready", "Ctrl-C ends it")
	return strings.TrimRight(string(t.bytes()), "\n")
}

// tryAddr is the address that a second terminal of this machine can surely dial.
func (d readyDoc) tryAddr() string {
	for _, a := range d.Addrs {
		if m, err := ma.NewMultiaddr(a); err == nil && addr.ScopeOf(m) == addr.ScopeLoopback {
			return a
		}
	}
	return d.Addrs[0]
}

// limitsDoc are the limits of roles; null where a role is off.
type limitsDoc struct {
	Relay      *relayLimits      `json:"relay"`
	Rendezvous *rendezvousLimits `json:"rendezvous"`
	AutoNAT    *autoNATLimits    `json:"autonat"`
	Peering    *peeringLimits    `json:"peering"`
	Vantage    *vantageLimits    `json:"vantage"`
	Replicate  *replicateLimits  `json:"replicate"`
	Perf       *perfLimits       `json:"perf"`
	Blocks     *blocksLimits     `json:"blocks"`
	DHT        *routeLimits      `json:"dht"`
	Pubsub     *pubsubLimits     `json:"pubsub"`
	Chain      *chainLimits      `json:"chain"`
}

// perfLimits are those of answering who measures.
type perfLimits struct {
	Streams   int     `json:"streams"` // at once
	PerPeer   int     `json:"per_peer"`
	DurationS float64 `json:"duration_s"` // of one way
}

func (l perfLimits) String() string {
	return fmt.Sprintf("perf  %d measurements at once, %d of one peer, %s each", l.Streams, l.PerPeer, durationText(time.Duration(l.DurationS*float64(time.Second))))
}

// replicateLimits are those of keeping a store in step.
type replicateLimits struct {
	Sessions int     `json:"sessions"` // that others may hold at once
	PerPeer  int     `json:"per_peer"`
	EveryS   float64 `json:"every_s"` // between sessions of its own, about
}

type relayLimits struct {
	Reservations          int      `json:"reservations"`
	ReservationsPerIP     int      `json:"reservations_per_ip"`     // IPv4 address
	ReservationsPerPrefix int      `json:"reservations_per_prefix"` // IPv6 prefix
	PrefixLength          int      `json:"prefix_length"`
	ReservationsPerASN    int      `json:"reservations_per_asn"`
	Circuits              int      `json:"circuits"`
	CircuitsPerPeer       int      `json:"circuits_per_peer"`
	DurationMS            *float64 `json:"duration_ms"` // null: unlimited
	Bytes                 *int64   `json:"bytes"`       // each way; null: unlimited
	Rate                  *int64   `json:"rate"`        // bytes a second each way; null: unlimited
}

type rendezvousLimits struct {
	MinTTLs float64 `json:"min_ttl_s"`
	MaxTTLs float64 `json:"max_ttl_s"`
	Total   int     `json:"registrations"`
	PerPeer int     `json:"per_peer"`
	// Of a namespace, and of an IPv4 /24 or IPv6 /56; null: only the total counts.
	PerNamespace *int `json:"per_namespace"`
	PerPrefix    *int `json:"per_prefix"`
	// Refuse are the kinds of addresses that do not count.
	Refuse []string `json:"refuse"`
	// Namespaces are those that may be used, NS* all that begin like NS; null: all.
	Namespaces []string `json:"namespaces"`
}

type autoNATLimits struct {
	PerMinute        int `json:"per_minute"`
	PerPeerPerMinute int `json:"per_peer_per_minute"`
}

type vantageLimits struct {
	PerPrefix int `json:"per_prefix_per_second"` // of an IPv4 /24 or IPv6 /56
	PerPeer   int `json:"per_peer_per_minute"`
}

// siteDoc is one address of a vantage point.
type siteDoc struct {
	IP    string   `json:"ip"`
	UDP   []uint16 `json:"udp"`   // ports that reflect, QUIC's first
	Probe uint16   `json:"probe"` // UDP port that answers for them when asked
	TCP   *uint16  `json:"tcp"`   // null: no TCP there
}

// vantageOf lists the addresses of a vantage point.
func vantageOf(s *serve.Server) []siteDoc {
	var out []siteDoc
	for _, at := range s.Sites() {
		d := siteDoc{IP: at.IP.String(), UDP: at.Ports, Probe: at.Probe}
		if at.TCP != 0 {
			d.TCP = &at.TCP
		}
		out = append(out, d)
	}
	return out
}

// String is one line of the start screen.
func (d siteDoc) String() string {
	s := fmt.Sprintf("%s  udp %s; probes from %d", d.IP, strings.Trim(fmt.Sprint(d.UDP), "[]"), d.Probe)
	if d.TCP != nil {
		s += fmt.Sprintf("; tcp %d", *d.TCP)
	}
	return s
}

// limitsOf puts the limits into the document's units.
func limitsOf(l serve.Limits) limitsDoc {
	var d limitsDoc
	if l.Relay != nil {
		d.Relay = relayLimitsOf(*l.Relay)
	}
	if r := l.Rendezvous; r != nil {
		d.Rendezvous = &rendezvousLimits{r.MinTTL.Seconds(), r.MaxTTL.Seconds(), r.Total, r.PerPeer, positive(r.PerNamespace), positive(r.PerPrefix), refusedKinds(r.RefuseAddrs), r.Namespaces}
	}
	if v := l.Vantage; v != nil {
		d.Vantage = &vantageLimits{v.PerPrefix, v.PerPeer}
	}
	if r := l.Replicate; r != nil {
		d.Replicate = &replicateLimits{r.Sessions, r.PerPeer, r.Every.Seconds()}
	}
	if p := l.Perf; p != nil {
		d.Perf = &perfLimits{p.Streams, p.PerPeer, p.Duration.Seconds()}
	}
	if a := l.AutoNAT; a != nil {
		d.AutoNAT = &autoNATLimits{a.PerMinute, a.PerPeerPerMinute}
	}
	d.Peering, d.DHT = peeringLimitsOf(l.Peering), routeLimitsOf(l.DHT)
	d.Blocks = blocksLimitsOf(l.Blocks)
	d.Pubsub, d.Chain = pubsubLimitsOf(l.Pubsub), chainLimitsOf(l.Chain)
	return d
}

// refusedKinds are the words for a set of kinds of addresses.
func refusedKinds(set rendezvous.AddrKinds) []string {
	var words []string
	for word, kind := range addrKinds() {
		if set&kind != 0 {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	return words
}

// positive is n, or nil where the library means no limit.
func positive[T int | int64](n T) *T {
	if n <= 0 {
		return nil
	}
	return &n
}

// roleText is a role with its limits.
func roleText(role string, l limitsDoc) string {
	switch role {
	case serve.RoleRelay:
		return "relay  " + l.Relay.String()
	case serve.RoleRendezvous:
		return "rendezvous  " + l.Rendezvous.String()
	case serve.RoleAutoNAT:
		return fmt.Sprintf("autonat  v1 and v2, %d dial-backs a minute, %d per peer", l.AutoNAT.PerMinute, l.AutoNAT.PerPeerPerMinute)
	case serve.RolePeering:
		return l.Peering.String()
	case serve.RolePerf:
		return l.Perf.String()
	case serve.RoleBlocks:
		return l.Blocks.String()
	case serve.RoleDHT:
		return l.DHT.String()
	case serve.RolePubsub:
		return l.Pubsub.String()
	case serve.RoleChain:
		return l.Chain.String()
	case serve.RoleReplicate:
		return fmt.Sprintf("replicate  %d sessions at once, %d of one peer", l.Replicate.Sessions, l.Replicate.PerPeer)
	}
	if role == serve.RoleVantage {
		return fmt.Sprintf("vantage  %d datagrams a second from one network, %d requests a minute of one peer", l.Vantage.PerPrefix, l.Vantage.PerPeer)
	}
	return role
}

func (l relayLimits) String() string {
	var each []string
	if l.DurationMS != nil {
		each = append(each, durationText(time.Duration(*l.DurationMS*float64(time.Millisecond))))
	}
	if l.Bytes != nil {
		each = append(each, sizeText(uint64(*l.Bytes))+" each way")
	}
	if l.Rate != nil {
		each = append(each, sizeText(uint64(*l.Rate))+" a second")
	}
	kind := "unlimited circuits"
	if len(each) > 0 {
		kind = "circuits of " + strings.Join(each, " and ")
	}
	return fmt.Sprintf("%d reservations, %d per IPv4 address, %d per IPv6 /%d, %d per autonomous system; %d circuits, %d per peer; %s",
		l.Reservations, l.ReservationsPerIP, l.ReservationsPerPrefix, l.PrefixLength, l.ReservationsPerASN, l.Circuits, l.CircuitsPerPeer, kind)
}

func (l rendezvousLimits) String() string {
	span := func(s float64) string { return durationText(time.Duration(s * float64(time.Second))) }
	text := fmt.Sprintf("%d registrations, %d per peer", l.Total, l.PerPeer)
	if l.PerNamespace != nil {
		text += fmt.Sprintf(", %d per namespace", *l.PerNamespace)
	}
	if l.PerPrefix != nil {
		text += fmt.Sprintf(", %d per network", *l.PerPrefix)
	}
	text += fmt.Sprintf(", for %s to %s", span(l.MinTTLs), span(l.MaxTTLs))
	if len(l.Refuse) > 0 {
		text += "; addresses that do not count: " + strings.Join(l.Refuse, ", ")
	}
	if len(l.Namespaces) > 0 {
		text += "; namespaces: " + strings.Join(l.Namespaces, ", ")
	}
	return text
}
