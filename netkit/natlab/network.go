package natlab

import (
	"net/netip"
	"time"
)

// Network is where machines and routers stand: the internet or a LAN.
type Network struct {
	lab     *Lab
	name    string
	gateway *Router      // nil on the internet
	prefix4 netip.Prefix // of a LAN
	prefix6 netip.Prefix // of a LAN that has IPv6

	machines map[netip.Addr]*Machine // by address; guarded by lab.mu, as the following
	routers  []*Router
	hosts    byte // host numbers given out; the gateway has number 1
}

// assign hands out the next addresses; v6 is the zero Addr in a LAN without
// IPv6. The caller holds lab.mu.
func (n *Network) assign() (v4, v6 netip.Addr) {
	n.lab.t.Helper()
	if n.gateway == nil {
		return n.lab.plan.site(n.lab.t)
	}
	if n.hosts == lastHost {
		n.lab.t.Fatalf("natlab: %s is full", n.name)
	}
	n.hosts++
	v4 = numbered(n.prefix4, n.hosts)
	if n.prefix6.IsValid() {
		v6 = numbered(n.prefix6, n.hosts)
	}
	return v4, v6
}

// lastHost is the last host number of a /24.
const lastHost = 254

// numbered is the address of a host in a network.
func numbered(p netip.Prefix, host byte) netip.Addr {
	b := p.Addr().AsSlice()
	b[len(b)-1] = host
	a, _ := netip.AddrFromSlice(b)
	return a
}

// route sends a packet that is in n on its way: to its destination in n, or out
// through the gateway. The caller holds lab.mu.
func (n *Network) route(now time.Time, p packet) {
	switch {
	case n.gateway == nil && n.lab.parted(p):
		n.lab.note(now, n.name, "lost: parted", p)
	case n.deliver(now, p):
	case n.gateway != nil:
		n.gateway.outbound(now, p)
	default:
		n.lab.note(now, n.name, "lost: no route", p)
	}
}

// deliver hands a packet to the machine or router in n that its destination
// belongs to, if there is one. The caller holds lab.mu.
func (n *Network) deliver(now time.Time, p packet) bool {
	if m := n.machines[p.dst.Addr()]; m != nil {
		m.link.cross(now, down, p, func(now time.Time) { m.receive(now, p) })
		return true
	}
	for _, r := range n.routers {
		if r.external == p.dst.Addr() || r.leadsTo(p.dst.Addr()) {
			r.link.cross(now, down, p, func(now time.Time) { r.inbound(now, p) })
			return true
		}
	}
	return false
}
