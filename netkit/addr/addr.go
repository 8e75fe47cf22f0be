// Package addr reads and classifies what people and programs write where a peer
// is named: multiaddrs, peer ids, AddrInfo JSON, lists of them, tables of named
// peers, and lists of IP ranges. It is pure: it resolves no names, opens no
// sockets and reads files only through the functions it is given.
//
// It follows the libp2p addressing and peer-ids specifications
// (github.com/libp2p/specs: addressing/README.md, peer-ids/peer-ids.md) and the multiaddr
// specification (github.com/multiformats/multiaddr).
package addr

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Scope says from where an address can be reached.
type Scope string

// The scopes. A DNS name has no scope of its own before it is resolved.
const (
	ScopeLoopback  Scope = "loopback"   // 127.0.0.0/8, ::1
	ScopeLinkLocal Scope = "link-local" // 169.254.0.0/16, fe80::/10
	ScopePrivate   Scope = "private"    // RFC 1918, RFC 4193, and RFC 6598 (carrier-grade NAT)
	ScopePublic    Scope = "public"     // what libp2p holds for publicly routable
	ScopeDNS       Scope = "dns"        // /dns, /dns4, /dns6, /dnsaddr
	ScopeUnknown   Scope = "unknown"    // no IP, unspecified, multicast, documentation and other special ranges
)

// ScopeOf classifies a by its first component; the scope of a relayed address is
// therefore the scope of its relay.
func ScopeOf(a ma.Multiaddr) Scope {
	if isDNS(a) {
		return ScopeDNS
	}
	ip, ok := IP(a)
	switch {
	case !ok:
		return ScopeUnknown
	case ip.IsLoopback():
		return ScopeLoopback
	case ip.IsLinkLocalUnicast():
		return ScopeLinkLocal
	case ip.IsPrivate() || IsCGNAT(ip):
		return ScopePrivate
	case manet.IsPublicAddr(a):
		return ScopePublic
	}
	return ScopeUnknown
}

// IsCGNAT reports whether ip is in the shared address space between a provider's NAT and
// its customers (RFC 6598).
func IsCGNAT(ip netip.Addr) bool {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10).Contains(ip)
}

func isDNS(a ma.Multiaddr) bool {
	if len(a) == 0 {
		return false
	}
	switch a[0].Code() {
	case ma.P_DNS, ma.P_DNS4, ma.P_DNS6, ma.P_DNSADDR:
		return true
	}
	return false
}

// IP returns the IP address that a begins with, IPv4-mapped IPv6 addresses as IPv4 and
// without an IPv6 zone. It is false for names and for other kinds of addresses.
func IP(a ma.Multiaddr) (netip.Addr, bool) {
	for _, c := range a {
		switch c.Code() {
		case ma.P_IP6ZONE:
			continue
		case ma.P_IP4, ma.P_IP6:
			ip, ok := netip.AddrFromSlice(c.RawValue())
			return ip.Unmap(), ok
		default:
			return netip.Addr{}, false
		}
	}
	return netip.Addr{}, false
}

// The words for the path that an address stands for.
const (
	PathDirect  = "direct"
	PathRelayed = "relayed"
)

// Path returns PathRelayed for a circuit address and PathDirect for any other.
func Path(a ma.Multiaddr) string {
	if IsRelayed(a) {
		return PathRelayed
	}
	return PathDirect
}

// IsRelayed reports whether a goes through a relay (contains /p2p-circuit).
func IsRelayed(a ma.Multiaddr) bool {
	return slices.ContainsFunc(a, func(c ma.Component) bool { return c.Code() == ma.P_CIRCUIT })
}

// RelayOf returns the relay that a circuit address leads through, with its address. It is
// false for other addresses and for circuits that do not name their relay.
func RelayOf(a ma.Multiaddr) (peer.AddrInfo, bool) {
	i := slices.IndexFunc(a, func(c ma.Component) bool { return c.Code() == ma.P_CIRCUIT })
	if i < 0 {
		return peer.AddrInfo{}, false
	}
	at, id := peer.SplitAddr(slices.Clone(a[:i]))
	if id == "" || at == nil {
		return peer.AddrInfo{}, false
	}
	return peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{at}}, true
}

// The words for the transport of an address.
const (
	TransportQUIC         = "quic"
	TransportTCP          = "tcp"
	TransportWS           = "ws"
	TransportWSS          = "wss"
	TransportWebTransport = "webtransport"
	TransportWebRTCDirect = "webrtc-direct"
)

// Transport names the transport of a, for a relayed address the transport to the relay.
// It is empty when a names none that libp2p v1 peers speak (a bare /udp, QUIC draft 29, /dnsaddr).
func Transport(a ma.Multiaddr) string {
	var word string
	var tls bool
	for _, c := range a {
		switch c.Code() {
		case ma.P_P2P, ma.P_CIRCUIT:
			return word
		case ma.P_TCP, ma.P_ONION3: // which is TCP within Tor
			word = TransportTCP
		case ma.P_TLS:
			tls = true
		case ma.P_WS:
			word = TransportWS
			if tls {
				word = TransportWSS
			}
		case ma.P_WSS:
			word = TransportWSS
		case ma.P_QUIC_V1:
			word = TransportQUIC
		case ma.P_WEBTRANSPORT:
			word = TransportWebTransport
		case ma.P_WEBRTC_DIRECT:
			word = TransportWebRTCDirect
		case ma.P_HTTP, ma.P_QUIC:
			word = ""
		}
	}
	return word
}

// Compare orders addresses for listings: direct before relayed, then by transport (QUIC
// first, as it is preferred), then by bytes, so that equal sets list equally.
func Compare(a, b ma.Multiaddr) int {
	return cmp.Or(
		cmp.Compare(Path(a), Path(b)),
		cmp.Compare(transportRank(a), transportRank(b)),
		slices.Compare(a.Bytes(), b.Bytes()),
	)
}

func transportRank(a ma.Multiaddr) int {
	order := []string{
		TransportQUIC, TransportTCP, TransportWebTransport, TransportWSS, TransportWS, TransportWebRTCDirect,
	}
	if i := slices.Index(order, Transport(a)); i >= 0 {
		return i
	}
	return len(order)
}

// Sort puts addrs in the order of Compare, in place.
func Sort(addrs []ma.Multiaddr) { slices.SortStableFunc(addrs, Compare) }

// appendNew appends those of more that list lacks, keeping their order.
func appendNew(list []ma.Multiaddr, more ...ma.Multiaddr) []ma.Multiaddr {
	for _, a := range more {
		if !slices.ContainsFunc(list, a.Equal) {
			list = append(list, a)
		}
	}
	return list
}

// UDP returns the UDP endpoint that a begins with, as IP does its address. It is
// false for other addresses.
func UDP(a ma.Multiaddr) (netip.AddrPort, bool) { return endpoint(a, ma.P_UDP) }

// TCP returns the TCP endpoint that a begins with, as UDP does.
func TCP(a ma.Multiaddr) (netip.AddrPort, bool) { return endpoint(a, ma.P_TCP) }

func endpoint(a ma.Multiaddr, transport int) (netip.AddrPort, bool) {
	ip, ok := IP(a)
	if !ok || IsRelayed(a) {
		return netip.AddrPort{}, false
	}
	for _, c := range a {
		if c.Code() == transport {
			return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(c.RawValue())), true
		}
	}
	return netip.AddrPort{}, false
}
