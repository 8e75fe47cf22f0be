package natlab

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// addressPlan hands out addresses. Sites on the internet get an IPv4 /24 and an
// IPv6 /32 each, so that limits by address or prefix see them as strangers.
//
// Public IPv4 is 17.0.0.0/8, which go-libp2p takes for public as it does not the
// documentation ranges; public IPv6 is 3fff::/20, the documentation range of
// RFC 9637, which it takes for public. LANs are 10.0.0.0/8.
type addressPlan struct {
	sites, lans uint16
}

// maxSites is how many /32 there are in 3fff::/20, but for the first.
const maxSites = 1<<12 - 1

// site returns the addresses of the next machine or router on the internet.
func (a *addressPlan) site(t testing.TB) (v4, v6 netip.Addr) {
	t.Helper()
	if a.sites == maxSites {
		t.Fatalf("natlab: the internet is full: it has %d addresses", maxSites)
	}
	a.sites++
	return addr4(17, a.sites, 1), addr6(a.sites, 1)
}

// lan returns the IPv4 network of the next LAN.
func (a *addressPlan) lan() netip.Prefix {
	a.lans++
	return netip.PrefixFrom(addr4(10, a.lans, 0), 24)
}

// delegated returns the IPv6 network of the next LAN that has one.
func (a *addressPlan) delegated(t testing.TB) netip.Prefix {
	t.Helper()
	_, v6 := a.site(t)
	return netip.PrefixFrom(v6, 48).Masked()
}

// addr4 is net.n.n.host.
func addr4(net byte, n uint16, host byte) netip.Addr {
	return netip.AddrFrom4([4]byte{net, byte(n >> 8), byte(n), host})
}

// addr6 is 3fff:n::host.
func addr6(n uint16, host byte) netip.Addr {
	b := [16]byte{0: 0x3f, 1: 0xff, 15: host}
	binary.BigEndian.PutUint16(b[2:], n)
	return netip.AddrFrom16(b)
}
