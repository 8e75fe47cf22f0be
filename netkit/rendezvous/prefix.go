package rendezvous

import (
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// prefix is the network a request came from: an IPv4 /24 or an IPv6 /56, which
// is what one customer of an access network commonly gets. The first byte is
// 4 or 6. The zero prefix stands for sources without an IP address.
type prefix [8]byte

// prefixOf returns the network of a connection's remote address. Over a relay
// that is the relay's: who is behind it cannot be told apart.
func prefixOf(addr ma.Multiaddr) (p prefix) {
	if addr == nil {
		return p
	}
	ip, err := manet.ToIP(addr)
	if err != nil {
		return p
	}
	if ip4 := ip.To4(); ip4 != nil {
		p[0] = 4
		copy(p[1:4], ip4)
		return p
	}
	p[0] = 6
	copy(p[1:], ip)
	return p
}
