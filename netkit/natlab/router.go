package natlab

import (
	"net/netip"
	"time"
)

// RouterConfig describes a router. The zero value is a router with the zero NAT
// and no IPv6.
type RouterConfig struct {
	NAT  NAT        // for IPv4, UDP and TCP each with a table of its own
	IPv6 *Firewall  // nil means that the LAN has no IPv6; else its addresses are public, behind this firewall
	Link LinkConfig // to the network that the router stands in
	// LAN is the inside IPv4 network, a /24; the zero Prefix means the next free
	// one of 10.0.0.0/8. A carrier's NAT may want one of 100.64.0.0/10.
	LAN netip.Prefix
	// BlockUDP makes the router drop every UDP packet, as networks that only let
	// TCP out do.
	BlockUDP bool
}

// Router joins a LAN to the network it stands in.
type Router struct {
	name     string
	cfg      RouterConfig
	lan      *Network
	outside  *Network
	link     *Link
	external netip.Addr // guarded by lab.mu, as the following
	gates    map[channel]gate
}

// channel is what a router has a gate for: a protocol in an address family.
type channel struct {
	proto protocol
	six   bool
}

// gate decides about the packets of one channel.
type gate interface {
	Outbound(now time.Time, src, dst netip.AddrPort) (netip.AddrPort, Verdict)
	Inbound(now time.Time, src, dst netip.AddrPort) (netip.AddrPort, Verdict)
}

// Router puts a router with an empty LAN behind it into n.
func (n *Network) Router(name string, c RouterConfig) *Router {
	n.lab.t.Helper()
	n.lab.mu.Lock()
	defer n.lab.mu.Unlock()
	if !c.LAN.IsValid() {
		c.LAN = n.lab.plan.lan()
	}
	r := &Router{name: name, cfg: c, outside: n, gates: map[channel]gate{}}
	r.lan = &Network{
		lab: n.lab, name: name + "'s LAN", gateway: r, prefix4: c.LAN,
		machines: map[netip.Addr]*Machine{}, hosts: 1,
	}
	if c.IPv6 != nil {
		r.lan.prefix6 = n.lab.plan.delegated(n.lab.t)
		for _, proto := range []protocol{udp, tcp} {
			r.gates[channel{proto, true}] = newFilter(*c.IPv6)
		}
	}
	r.link = newLink(n, name, c.Link)
	r.connect()
	n.routers = append(n.routers, r)
	return r
}

// connect takes an external address, with empty NAT tables. The caller holds
// lab.mu.
func (r *Router) connect() {
	r.external, _ = r.outside.assign()
	r.reset()
}

// reset empties the NAT tables. The caller holds lab.mu.
func (r *Router) reset() {
	seed := r.outside.lab.rng().Uint64()
	nat := r.cfg.NAT
	r.gates[channel{udp, false}] = NewTable(nat, r.external, seed)
	if nat.Unsolicited == Poison {
		nat.Unsolicited = Reject // with the reset that answers it, Linux forgets a connection attempt
	}
	r.gates[channel{tcp, false}] = NewTable(nat, r.external, seed)
}

// LAN is the network behind the router.
func (r *Router) LAN() *Network { return r.lan }

// Link is the router's link to the network it stands in.
func (r *Router) Link() *Link { return r.link }

// External is the router's IPv4 address outside.
func (r *Router) External() netip.Addr {
	r.outside.lab.mu.Lock()
	defer r.outside.lab.mu.Unlock()
	return r.external
}

// Reconnect gives the router another external IPv4 address and empties its NAT
// table, as a dial-up line does every night.
func (r *Router) Reconnect() {
	r.outside.lab.mu.Lock()
	defer r.outside.lab.mu.Unlock()
	r.connect()
}

// SetNAT replaces the NAT, with an empty table and the external address kept: how
// a router changes behind the back of who stands behind it. A [NAT] that filters
// stands for a firewall, too.
func (r *Router) SetNAT(n NAT) {
	r.outside.lab.mu.Lock()
	defer r.outside.lab.mu.Unlock()
	r.cfg.NAT = n
	r.reset()
}

// leadsTo reports whether an IPv6 address is in the router's LAN or in one behind
// it. The caller holds lab.mu.
func (r *Router) leadsTo(a netip.Addr) bool {
	if r.lan.prefix6.Contains(a) {
		return true
	}
	for _, inner := range r.lan.routers {
		if inner.leadsTo(a) {
			return true
		}
	}
	return false
}

// gate is the one that a packet meets; nil when the router has no IPv6. The caller
// holds lab.mu.
func (r *Router) gate(p packet) gate { return r.gates[channel{p.proto, p.dst.Addr().Is6()}] }

// blocks reports whether the router lets no packet of this protocol through.
func (r *Router) blocks(p packet) bool { return r.cfg.BlockUDP && p.proto == udp }

// outbound takes a packet from the LAN. The caller holds lab.mu.
func (r *Router) outbound(now time.Time, p packet) {
	g := r.gate(p)
	switch {
	case r.blocks(p):
		r.note(now, "lost: UDP is blocked", p)
		return
	case g == nil:
		r.note(now, "lost: no IPv6", p)
		return
	case p.dst.Addr() == r.external && !r.cfg.NAT.Hairpin:
		r.note(now, "lost: no hairpin", p)
		return
	}
	src, verdict := g.Outbound(now, p.src, p.dst)
	if verdict != Passed {
		r.note(now, "lost: "+verdict.String(), p)
		return
	}
	r.note(now, "out as "+src.String(), p)
	p.src = src
	if p.dst.Addr() == r.external {
		// RFC 4787 REQ-9a: a hairpinned packet shows its external source.
		r.inbound(now, p)
		return
	}
	r.link.cross(now, up, p, func(now time.Time) { r.outside.route(now, p) })
}

// inbound takes a packet for the router's external address or its LAN. The
// caller holds lab.mu.
func (r *Router) inbound(now time.Time, p packet) {
	g := r.gate(p)
	switch {
	case r.blocks(p):
		r.note(now, "lost: UDP is blocked", p)
		return
	case g == nil:
		r.note(now, "lost: no IPv6", p)
		return
	}
	dst, verdict := g.Inbound(now, p.src, p.dst)
	if verdict != Passed {
		r.note(now, "not let in: "+verdict.String(), p)
		if verdict != Dropped && p.answerable() {
			p = p.refused()
			r.link.cross(now, up, p, func(now time.Time) { r.outside.route(now, p) })
		}
		return
	}
	r.note(now, "in to "+dst.String(), p)
	p.dst = dst
	if !r.lan.deliver(now, p) {
		r.note(now, "lost: nobody there", p)
	}
}

func (r *Router) note(now time.Time, what string, p packet) {
	r.outside.lab.note(now, r.name, what, p)
}
