package natlab

import (
	"net"
	"net/netip"

	"github.com/marcopolo/simnet"
)

// packet is a UDP datagram under way. A router that translates makes a copy.
type packet struct {
	src, dst netip.AddrPort
	payload  *simnet.Packet
	head     byte // first byte of the payload, which tells QUIC packets apart
	bytes    int  // of payload
}

// udpOverhead is what IP and UDP headers add on an IPv4 link; IPv6 adds 20 more,
// a difference that no test here turns on.
const udpOverhead = 28

// size is what the packet occupies on a link, in bytes.
func (p packet) size() int { return p.bytes + udpOverhead }

// kind names what the payload is by its first byte (RFC 9000 section 17;
// a first byte without the fixed bit is not QUIC version 1).
func (p packet) kind() string {
	const longHeader, fixedBit = 0x80, 0x40
	switch {
	case p.bytes == 0:
		return "empty"
	case p.head&fixedBit == 0:
		return "other"
	case p.head&longHeader == 0:
		return "1-RTT"
	default:
		return [...]string{"initial", "0-RTT", "handshake", "retry"}[p.head>>4&3]
	}
}

// addrPort converts a UDP address, IPv4 in either of its spellings to IPv4.
func addrPort(a *net.UDPAddr) netip.AddrPort {
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
