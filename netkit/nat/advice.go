package nat

import (
	"net/netip"

	"dibber/netkit/addr"
)

// Advice is something to do, in one word; commands put it in sentences.
type Advice string

// The pieces of advice.
const (
	OpenPort       Advice = "open-port"        // let the port in at the firewall
	MapPort        Advice = "map-port"         // have the router forward the port
	StaticPort     Advice = "static-port"      // have the router keep the port
	UseRelay       Advice = "use-relay"        // some peers can be met over a relay only
	UseTCP         Advice = "use-tcp"          // UDP does not get out
	MoreServers    Advice = "more-servers"     // one server cannot tell
	VantageNeeded  Advice = "vantage-needed"   // only a vantage point tells who gets in
	SecondAddress  Advice = "second-address"   // one with a second address tells more
	CheckNetwork   Advice = "check-network"    // nothing gets out
	IPv6Does       Advice = "ipv6-does-better" // prefer it
	LocalOnly      Advice = "local-only"       // the servers are in the same network
	DoubleNAT      Advice = "double-nat"       // the router itself is behind a NAT
	ServerDisputed Advice = "server-disputed"  // servers contradict each other
	AllowUDP       Advice = "allow-udp"        // let UDP out at the firewall
	DialLocal      Advice = "dial-local"       // try the other's address in the local network
	TryTCP         Advice = "try-tcp"          // UDP may not get out: name a TCP address of the server
	NoIPv4         Advice = "no-ipv4"          // nothing but IPv4 was to be used, and there is none
	NoIPv6         Advice = "no-ipv6"          // nothing but IPv6 was to be used, and there is none
)

// Advice is what follows for the node.
func (f Families) Advice() []Advice {
	var out []Advice
	add := func(when bool, a Advice) {
		if when {
			out = append(out, a)
		}
	}
	p := f.best()
	v := f.Verdict()
	add(v == Firewalled, OpenPort)
	add(v == Easy || v == PortRestricted || v == Hard, MapPort)
	add(v == Hard, StaticPort)
	add(v == Hard || v == UDPBlocked, UseRelay)
	add(v == UDPBlocked, UseTCP)
	add(v == Offline, CheckNetwork)
	if v == Inconclusive {
		unseen := p.NAT == nil || *p.NAT && p.MappingVaries == nil
		unfiltered := p.LetsOtherPort == nil
		add(unseen, MoreServers)
		add(unfiltered, VantageNeeded)
		add(!unfiltered && (unseen || p.LetsAnybody == nil), SecondAddress)
	}
	v4, v6 := f.IP4.UDP.Verdict(), f.IP6.UDP.Verdict()
	add((v6 == Public || v6 == Firewalled) && (v4 == PortRestricted || v4 == Hard), IPv6Does)
	add(len(p.Observed) > 0 && !publicly(p.Observed[0].Addr()), LocalOnly)
	add(len(f.IP4.UDP.Disputed)+len(f.IP4.TCP.Disputed)+len(f.IP6.UDP.Disputed)+len(f.IP6.TCP.Disputed) > 0, ServerDisputed)
	return out
}

// publicly reports whether an address is none of those of local networks.
func publicly(ip netip.Addr) bool {
	return ip.IsGlobalUnicast() && !ip.IsPrivate() && !addr.IsCGNAT(ip)
}

// best is the UDP path that the verdict is drawn from.
func (f Families) best() Path {
	if v := f.Verdict(); f.IP4.UDP.Verdict() != v && f.IP6.UDP.Verdict() == v || f.IP4.UDP.NAT == nil && f.IP6.UDP.NAT != nil {
		return f.IP6.UDP
	}
	return f.IP4.UDP
}
