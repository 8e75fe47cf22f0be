package natlab

import (
	"net"
	"net/netip"

	"github.com/marcopolo/simnet"
)

// protocol is what an IP packet carries, by its number in IP headers.
type protocol byte

const (
	tcp protocol = 6
	udp protocol = 17
)

// packet is a UDP datagram or TCP segment under way. A router that translates
// makes a copy.
type packet struct {
	proto    protocol
	src, dst netip.AddrPort
	// refusal tells dst that what it sent to src was rejected: an ICMP port
	// unreachable for UDP, a reset for TCP. NATs and firewalls treat it as an
	// answer of src (RFC 4787 REQ-10, RFC 5382 REQ-10).
	refusal bool

	payload *simnet.Packet // of a packet between sockets
	raw     []byte         // of a packet from a wire: the IP packet as its sender wrote it
	head    byte           // first byte of a UDP payload, which tells QUIC packets apart; flags of a TCP segment
	bytes   int            // of payload
}

// udpOverhead is what IP and UDP headers add on an IPv4 link; IPv6 adds 20 more,
// a difference that no test here turns on.
const udpOverhead = 28

// size is what the packet occupies on a link, in bytes.
func (p packet) size() int {
	if p.raw != nil {
		return len(p.raw)
	}
	return p.bytes + udpOverhead
}

// refused is what the one that rejects p tells its sender.
func (p packet) refused() packet {
	p.src, p.dst, p.refusal = p.dst, p.src, true
	p.payload, p.bytes = nil, 0
	return p
}

// answerable reports whether a packet may be answered by a refusal: an error
// never is, or two sides would go on for ever (RFC 1122 section 3.2.2, RFC 9293
// section 3.5.2).
func (p packet) answerable() bool {
	return !p.refusal && !(p.proto == tcp && p.head&flagRST != 0)
}

// kind names what the packet is: the flags of a TCP segment, or QUIC's packet
// type by the first byte (RFC 9000 section 17; a first byte without the fixed bit
// is not QUIC version 1).
func (p packet) kind() string {
	const longHeader, fixedBit = 0x80, 0x40
	switch {
	case p.refusal:
		return "refusal"
	case p.proto == tcp:
		return flags(p.head)
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
