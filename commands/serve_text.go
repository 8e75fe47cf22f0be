package commands

import (
	"fmt"
	"slices"
	"strings"

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
	if r.o.Host.hidden() != "" {
		return r.o.hiddenReveals()
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
