package natlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Sizes and numbers of the headers (RFC 791, 8200, 768, 9293, 792, 4443).
const (
	ip4Header, ip6Header = 20, 40
	udpHeader, tcpHeader = 8, 20
	icmpHeader           = 8
	icmp4, icmp6         = 1, 58
	hopLimit             = 64

	flagFIN, flagSYN, flagRST, flagACK = 1, 2, 4, 16
)

var errNotCarried = errors.New("neither UDP, TCP nor a refusal of them")

// parse reads an IP packet as a network device gives it. Fragments, extension
// headers and ICMP other than port unreachable are not carried.
func parse(raw []byte) (packet, error) {
	p, body, err := parseIP(raw)
	if err != nil {
		return packet{}, err
	}
	switch p.proto {
	case udp, tcp:
		return parsePorts(p, body)
	case icmp4, icmp6:
		return parseUnreachable(p, body)
	default:
		return packet{}, fmt.Errorf("protocol %d: %w", p.proto, errNotCarried)
	}
}

// parseIP reads the IP header; the addresses stand in src and dst with no port.
func parseIP(raw []byte) (p packet, body []byte, err error) {
	switch {
	case len(raw) >= ip4Header && raw[0]>>4 == 4:
		header, total := int(raw[0]&15)*4, int(binary.BigEndian.Uint16(raw[2:]))
		if header < ip4Header || total < header || total > len(raw) {
			return p, nil, fmt.Errorf("IPv4 packet of %d bytes: header says %d and %d", len(raw), header, total)
		}
		const moreFragments, offset = 0x2000, 0x1fff
		if binary.BigEndian.Uint16(raw[6:])&(moreFragments|offset) != 0 {
			return p, nil, fmt.Errorf("fragment: %w", errNotCarried)
		}
		p.proto, p.raw, body = protocol(raw[9]), raw[:total], raw[header:total]
	case len(raw) >= ip6Header && raw[0]>>4 == 6:
		total := ip6Header + int(binary.BigEndian.Uint16(raw[4:]))
		if total > len(raw) {
			return p, nil, fmt.Errorf("IPv6 packet of %d bytes: header says %d", len(raw), total)
		}
		p.proto, p.raw, body = protocol(raw[6]), raw[:total], raw[ip6Header:total]
	default:
		return p, nil, fmt.Errorf("%d bytes that are no IP packet", len(raw))
	}
	src, dst := addressFields(raw)
	from, _ := netip.AddrFromSlice(src)
	to, _ := netip.AddrFromSlice(dst)
	p.src, p.dst = netip.AddrPortFrom(from, 0), netip.AddrPortFrom(to, 0)
	return p, body, nil
}

// addressFields are the bytes of an IP header that hold source and destination.
func addressFields(raw []byte) (src, dst []byte) {
	if raw[0]>>4 == 4 {
		return raw[12:16], raw[16:20]
	}
	return raw[8:24], raw[24:40]
}

func parsePorts(p packet, body []byte) (packet, error) {
	if p.proto == udp && len(body) < udpHeader || p.proto == tcp && len(body) < tcpHeader {
		return p, fmt.Errorf("header of protocol %d in %d bytes", p.proto, len(body))
	}
	p = withPorts(p, body)
	if p.proto == tcp {
		p.head, p.bytes = body[13], max(len(body)-int(body[12]>>4)*4, 0)
		return p, nil
	}
	p.bytes = len(body) - udpHeader
	if p.bytes > 0 {
		p.head = body[udpHeader]
	}
	return p, nil
}

func withPorts(p packet, body []byte) packet {
	p.src = netip.AddrPortFrom(p.src.Addr(), binary.BigEndian.Uint16(body))
	p.dst = netip.AddrPortFrom(p.dst.Addr(), binary.BigEndian.Uint16(body[2:]))
	return p
}

// parseUnreachable reads a port unreachable (RFC 792 type 3 code 3, RFC 4443 type
// 1 code 4), which quotes the packet that it refuses.
func parseUnreachable(p packet, body []byte) (packet, error) {
	kind := [2]byte{3, 3}
	if p.proto == icmp6 {
		kind = [2]byte{1, 4}
	}
	if len(body) < icmpHeader || [2]byte(body) != kind {
		return p, fmt.Errorf("ICMP: %w", errNotCarried)
	}
	quote := body[icmpHeader:]
	if quoted := len(quote); quoted >= ip4Header && quote[0]>>4 == 4 {
		binary.BigEndian.PutUint16(quote[2:], uint16(quoted)) // may be cut short
	} else if quoted >= ip6Header {
		binary.BigEndian.PutUint16(quote[4:], uint16(quoted-ip6Header))
	}
	inner, rest, err := parseIP(quote)
	if err != nil || len(rest) < udpHeader || inner.proto != udp {
		return p, fmt.Errorf("ICMP that quotes something else: %w", errNotCarried)
	}
	return withPorts(inner, rest).refused(), nil
}

// render writes a packet from a wire as its receiver is to see it.
func (p packet) render() []byte {
	switch {
	case !p.refusal:
		return readdressed(p.raw, p.src, p.dst)
	case p.proto == tcp:
		return reset(p)
	default:
		return unreachable(p)
	}
}

// readdressed is a copy of an IP packet with other endpoints.
func readdressed(raw []byte, src, dst netip.AddrPort) []byte {
	out := append([]byte(nil), raw...)
	from, to := addressFields(out)
	copy(from, src.Addr().AsSlice())
	copy(to, dst.Addr().AsSlice())
	body := out[headerOf(out):]
	binary.BigEndian.PutUint16(body, src.Port())
	binary.BigEndian.PutUint16(body[2:], dst.Port())
	seal(out)
	return out
}

func headerOf(raw []byte) int {
	if raw[0]>>4 == 4 {
		return int(raw[0]&15) * 4
	}
	return ip6Header
}

// reset refuses a TCP segment (RFC 9293 section 3.5.2, group 1): it acknowledges
// what the segment occupies, or takes the number that an acknowledgement expects.
func reset(p packet) []byte {
	in := p.raw[headerOf(p.raw):]
	out := ipPacket(tcp, p.src.Addr(), p.dst.Addr(), tcpHeader)
	body := out[headerOf(out):]
	binary.BigEndian.PutUint16(body, p.src.Port())
	binary.BigEndian.PutUint16(body[2:], p.dst.Port())
	body[12], body[13] = tcpHeader/4<<4, flagRST
	if in[13]&flagACK != 0 {
		copy(body[4:8], in[8:12])
	} else {
		length := uint32(max(len(in)-int(in[12]>>4)*4, 0))
		for _, flag := range []byte{flagSYN, flagFIN} {
			if in[13]&flag != 0 {
				length++
			}
		}
		binary.BigEndian.PutUint32(body[8:], binary.BigEndian.Uint32(in[4:])+length)
		body[13] |= flagACK
	}
	seal(out)
	return out
}

// unreachable refuses a UDP packet: an ICMP error that quotes its headers as its
// sender knows them.
func unreachable(p packet) []byte {
	quote := readdressed(p.raw[:headerOf(p.raw)+udpHeader], p.dst, p.src)
	proto, kind := protocol(icmp4), [2]byte{3, 3}
	if p.src.Addr().Is6() {
		proto, kind = icmp6, [2]byte{1, 4}
	}
	out := ipPacket(proto, p.src.Addr(), p.dst.Addr(), icmpHeader+len(quote))
	body := out[headerOf(out):]
	copy(body, kind[:])
	copy(body[icmpHeader:], quote)
	seal(out)
	return out
}

// ipPacket is an IP packet with a body of n zeros.
func ipPacket(proto protocol, src, dst netip.Addr, n int) []byte {
	var out []byte
	if src.Is4() {
		out = make([]byte, ip4Header+n)
		out[0], out[8], out[9] = 4<<4|ip4Header/4, hopLimit, byte(proto)
		binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
	} else {
		out = make([]byte, ip6Header+n)
		out[0], out[6], out[7] = 6<<4, byte(proto), hopLimit
		binary.BigEndian.PutUint16(out[4:], uint16(n))
	}
	from, to := addressFields(out)
	copy(from, src.AsSlice())
	copy(to, dst.AsSlice())
	return out
}

// seal writes the checksums of a packet (RFC 1071).
func seal(raw []byte) {
	header := headerOf(raw)
	body, proto := raw[header:], raw[9]
	if raw[0]>>4 == 4 {
		raw[10], raw[11] = 0, 0
		binary.BigEndian.PutUint16(raw[10:], ^sum(0, raw[:header]))
	} else {
		proto = raw[6]
	}
	at := map[byte]int{byte(udp): 6, byte(tcp): 16, icmp4: 2, icmp6: 2}[proto]
	if at+2 > len(body) {
		return // a quote that is cut short has none
	}
	body[at], body[at+1] = 0, 0
	var pseudo uint32
	if proto != icmp4 {
		src, dst := addressFields(raw)
		pseudo = uint32(sum(sum32(src), dst)) + uint32(proto) + uint32(len(body))
	}
	check := ^sum(pseudo, body)
	if check == 0 && proto == byte(udp) {
		check = 0xffff // 0 would mean that there is none
	}
	binary.BigEndian.PutUint16(body[at:], check)
}

func sum32(b []byte) uint32 { return uint32(sum(0, b)) }

// sum adds 16-bit words in ones' complement.
func sum(start uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		start += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		start += uint32(b[0]) << 8
	}
	for start > 0xffff {
		start = start&0xffff + start>>16
	}
	return uint16(start)
}

// flags names the flags of a TCP segment.
func flags(b byte) string {
	var names []string
	for _, f := range []struct {
		bit  byte
		name string
	}{{flagSYN, "SYN"}, {flagFIN, "FIN"}, {flagRST, "RST"}, {flagACK, "ACK"}} {
		if b&f.bit != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, "+")
}
