// Package vantage lets a node see itself from outside: how its NAT maps it, and
// whom its NAT lets in.
//
// A server answers on /dibber/vantage/1.0.0 with the address it sees the asker at,
// and with its reflectors: every address it listens at for QUIC, and on each the
// ports at which datagrams are answered. A datagram from the asker's QUIC port to a
// reflector comes back with the address it was seen to come from (RFC 5780 section
// 4.3 does so with STUN), and a datagram with a token makes a port answer that the
// asker has not written to (section 4.4). The QUIC port itself is a reflector, so
// that what is measured is what QUIC gets.
//
// A reflector answers with no more bytes than it was sent, to where they came from
// and to nobody else. A token is given out over an established QUIC connection and
// holds for the address and port at the other end of it, so the ports that answer
// unasked send only where somebody proved to be. What comes from one IPv4 /24 or
// IPv6 /56 is limited, before it is looked at.
//
// The stream carries one frame each way, of protobuf:
//
//	Request  { kind = 1 }                       // 0: the answer; 1: try to connect to the asker by TCP; 2: the answer, attested
//	Answer   { observed = 1, token = 2, sites = 3, attempts = 4, attestation = 5 }
//	Site     { ip = 1, here = 2, ports = 3, probe = 4, tcp = 5 }
//	Attempt  { from = 1, connected = 2 }
//
// An attestation is the server's signed word where it sees the asker (see
// [Attestation]), which the asker can show to others.
//
// Endpoints are the bytes of the IP address and two of the port. Datagrams begin
// with 0x0d 'd' 'v' and a kind, then eight bytes by which the asker knows them again:
//
//	1 reflect    padded to 64 bytes
//	2 reflected  endpoint
//	3 ask        site, token, padded to 128 bytes; answered by 2 from where it was sent to and by 4 from the site's probe port
//	4 probe      site
//	5 later      seconds in two bytes, padded to 64 bytes; answered by 2 so long after, but for more than 600
//
// The first byte is neither QUIC's nor one that RFC 7983 gives to others.
package vantage
