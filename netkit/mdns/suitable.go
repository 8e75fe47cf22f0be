package mdns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/addr"
)

// acceptable reports whether an address that somebody on the link told is worth keeping.
func acceptable(a ma.Multiaddr) bool {
	if len(a) == 0 || addr.IsRelayed(a) {
		return false
	}
	if ip, ok := addr.IP(a); ok {
		return !ip.IsUnspecified() && !ip.IsMulticast()
	}
	return isLocalName(a)
}

// isLocalName reports whether a begins with a name that is resolved on the link (RFC 6762).
func isLocalName(a ma.Multiaddr) bool {
	switch a[0].Code() {
	case ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
		return strings.HasSuffix(strings.ToLower(strings.TrimSuffix(a[0].Value(), ".")), ".local")
	}
	return false
}

// announceable picks the addresses that are told to a link: those that peers on it can dial and that no
// other way of discovery has to give. Circuits, addresses that a NAT maps, and link-local IPv6
// addresses, which mean nothing without a zone, are left out. So are the transports for browsers,
// which do not use mDNS, as in go-libp2p (libp2p/go-libp2p#3415). Loopback addresses come last; they serve
// other processes of this machine. local are the addresses of its interfaces.
func announceable(addrs []ma.Multiaddr, local []netip.Addr) []ma.Multiaddr {
	var near, loopback []ma.Multiaddr
	for _, a := range addrs {
		if !acceptable(a) || forBrowsers(a) || a[0].Code() == ma.P_IP6ZONE {
			continue
		}
		ip, isIP := addr.IP(a)
		switch {
		case isIP && ip.IsLoopback():
			loopback = append(loopback, a)
		case isIP && ip.Is6() && ip.IsLinkLocalUnicast():
		case isIP && addr.ScopeOf(a) == addr.ScopePublic && !slices.Contains(local, ip):
		default:
			near = append(near, a)
		}
	}
	addr.Sort(near)
	addr.Sort(loopback)
	all := append(near, loopback...)
	return all[:min(len(all), maxAddrs)]
}

func forBrowsers(a ma.Multiaddr) bool {
	switch addr.Transport(a) {
	case addr.TransportWS, addr.TransportWSS, addr.TransportWebTransport, addr.TransportWebRTCDirect:
		return true
	}
	return false
}

// withoutLoopback takes out the loopback addresses.
func withoutLoopback(addrs []ma.Multiaddr) []ma.Multiaddr {
	return slices.DeleteFunc(addrs, func(a ma.Multiaddr) bool { return addr.ScopeOf(a) == addr.ScopeLoopback })
}

// portOf returns the first port in addrs, for the SRV record, which libp2p peers do not look at.
func portOf(addrs []ma.Multiaddr) uint16 {
	for _, a := range addrs {
		for _, c := range a {
			if c.Code() != ma.P_TCP && c.Code() != ma.P_UDP {
				continue
			}
			if port, err := strconv.ParseUint(c.Value(), 10, 16); err == nil {
				return uint16(port)
			}
		}
	}
	return 0
}
