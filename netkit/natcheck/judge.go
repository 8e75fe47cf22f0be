package natcheck

import (
	"errors"
	"net/netip"
	"slices"

	"dibber/netkit/addr"
	"dibber/netkit/nat"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// FamilyError means that no server could be reached, since the machine has no address of
// the only family in question.
type FamilyError struct{ Family string } // IP4 or IP6

func (e *FamilyError) Error() string {
	name := "IPv4"
	if e.Family == IP6 {
		name = "IPv6"
	}
	return "no server could be reached: this host has no " + name + " address"
}

// judge draws verdict and advice from what was found out of the families.
func (c *check) judge(visits []*visit) {
	f := c.r.Families
	if len(c.socks) == 0 {
		f = f.ByTCP()
	}
	c.r.Verdict, c.r.Advice = f.Verdict(), f.Advice()
	if !c.nobody() {
		return
	}
	c.r.Verdict, c.r.Advice = nat.Inconclusive, []nat.Advice{nat.MoreServers}
	switch lacks := c.lacks(); {
	case lacks == IP4:
		c.r.Advice = []nat.Advice{nat.NoIPv4}
	case lacks == IP6:
		c.r.Advice = []nat.Advice{nat.NoIPv6}
	case c.alone():
		c.r.Verdict, c.r.Advice = nat.Offline, []nat.Advice{nat.CheckNetwork}
	case nowhere(visits):
	case c.onlyUDP(): // it may be that alone which does not get out
		c.r.Advice = append([]nat.Advice{nat.TryTCP}, c.r.Advice...)
	case len(c.cfg.Servers) > 1:
		c.r.Verdict, c.r.Advice = nat.Offline, []nat.Advice{nat.CheckNetwork}
	}
}

// nowhere reports whether no server has an address that can be looked over.
func nowhere(visits []*visit) bool {
	return len(visits) > 0 && !slices.ContainsFunc(visits, func(v *visit) bool { return !errors.Is(v.err, ErrNoAddress) })
}

// nobody reports whether no server was reached.
func (c *check) nobody() bool {
	return !slices.ContainsFunc(c.r.Servers, func(s Server) bool { return len(s.Addrs) > 0 })
}

// alone reports whether the machine has no address with which anything can get out.
func (c *check) alone() bool { return !c.has(IP4) && !c.has(IP6) }

// has reports whether the machine has an address of a family with which something can get
// out.
func (c *check) has(family string) bool {
	return slices.ContainsFunc(c.own, func(ip netip.Addr) bool {
		return familyOf(ip) == family && !ip.IsLoopback() && !ip.IsLinkLocalUnicast()
	})
}

// lacks is the family that is alone in question if the machine has no address of it; empty
// where that is not so.
func (c *check) lacks() string {
	for _, family := range []string{IP4, IP6} {
		if c.only(family) && !c.has(family) {
			return family
		}
	}
	return ""
}

// only reports whether a family is alone in question: the node keeps to it, or no server
// has an address of the other.
func (c *check) only(family string) bool {
	here, elsewhere := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	if family == IP6 {
		here, elsewhere = elsewhere, here
	}
	leaves := func(ip netip.Addr) bool { return c.n.Excludes(tcpAddr(netip.AddrPortFrom(ip, 1))) }
	if leaves(here) || leaves(elsewhere) {
		return leaves(elsewhere)
	}
	return len(c.cfg.Servers) > 0 && !c.anyServerAt(func(a ma.Multiaddr) bool {
		ip, ok := addr.IP(a)
		return !ok || familyOf(ip) != family || ip.IsLoopback()
	})
}

// onlyUDP reports whether the node uses TCP, but was told no server's address for it.
func (c *check) onlyUDP() bool {
	overTCP := func(a ma.Multiaddr) bool { _, ok := addr.TCP(a); return ok }
	notUDP := func(a ma.Multiaddr) bool { _, ok := addr.UDP(a); return !ok }
	return slices.ContainsFunc(c.n.ListenAddrs(), overTCP) && !c.anyServerAt(notUDP)
}

func (c *check) anyServerAt(is func(ma.Multiaddr) bool) bool {
	return slices.ContainsFunc(c.cfg.Servers, func(s peer.AddrInfo) bool { return slices.ContainsFunc(s.Addrs, is) })
}
