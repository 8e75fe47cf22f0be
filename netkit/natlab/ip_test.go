package natlab

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// datagram is a UDP packet as a network stack writes it.
func datagram(src, dst netip.AddrPort, payload string) []byte {
	raw := ipPacket(udp, src.Addr(), dst.Addr(), udpHeader+len(payload))
	body := raw[headerOf(raw):]
	binary.BigEndian.PutUint16(body[4:], uint16(len(body)))
	copy(body[udpHeader:], payload)
	return readdressed(raw, src, dst)
}

// segment is a TCP segment with the given flags, sequence and acknowledgement.
func segment(src, dst netip.AddrPort, bits byte, seq, ack uint32, payload string) []byte {
	raw := ipPacket(tcp, src.Addr(), dst.Addr(), tcpHeader+len(payload))
	body := raw[headerOf(raw):]
	binary.BigEndian.PutUint32(body[4:], seq)
	binary.BigEndian.PutUint32(body[8:], ack)
	body[12], body[13] = tcpHeader/4<<4, bits
	copy(body[tcpHeader:], payload)
	return readdressed(raw, src, dst)
}

// checksums fails unless those of a packet are right: the words of what each
// covers add up to all ones (RFC 1071).
func checksums(t rapid.TB, raw []byte) {
	t.Helper()
	proto, body := raw[6], raw[headerOf(raw):]
	if raw[0]>>4 == 4 {
		proto = raw[9]
		if sum(0, raw[:headerOf(raw)]) != 0xffff {
			t.Errorf("IPv4 header %x: wrong checksum", raw[:headerOf(raw)])
		}
	}
	covered := body
	if proto != icmp4 { // a pseudo header comes first (RFC 768, RFC 8200 section 8.1)
		src, dst := addressFields(raw)
		covered = append(bytes.Join([][]byte{src, dst}, nil), 0, 0, byte(len(body)>>8), byte(len(body)), 0, 0, 0, proto)
		covered = append(covered, body...)
	}
	if sum(0, covered) != 0xffff {
		t.Errorf("protocol %d, body %x: wrong checksum", proto, body)
	}
}

// knownUnreachable was written by a Linux kernel on its loopback device: ICMP port
// unreachable, from 127.0.0.1 port 9, for a datagram of one byte from port 46055.
const knownUnreachable = "45c00039e9d80000400192297f0000017f0000010303d2e500000000" +
	"4500001d0cb140004011301d7f0000017f000001b3e700090009fe1c78"

func TestKnownPacket(t *testing.T) {
	raw, err := hex.DecodeString(knownUnreachable)
	if err != nil {
		t.Fatal(err)
	}
	checksums(t, raw)
	p, err := parse(bytes.Clone(raw))
	if err != nil {
		t.Fatal(err)
	}
	if p.src != endpoint("127.0.0.1:9") || p.dst != endpoint("127.0.0.1:46055") || !p.refusal || p.proto != udp {
		t.Errorf("read as %+v", p)
	}
}

// TestEndpointsChangeAndNothingElse translates packets back and forth.
func TestEndpointsChangeAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		six := rapid.Bool().Draw(t, "IPv6")
		draw := func(what string) netip.AddrPort {
			size := 4
			if six {
				size = 16
			}
			a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, what))
			return netip.AddrPortFrom(a, rapid.Uint16().Draw(t, what+" port"))
		}
		src, dst, other, remote := draw("source"), draw("destination"), draw("new source"), draw("new destination")
		payload := string(rapid.SliceOf(rapid.Byte()).Draw(t, "payload"))
		raw := datagram(src, dst, payload)
		if rapid.Bool().Draw(t, "TCP") {
			raw = segment(src, dst, rapid.Byte().Draw(t, "flags"), rapid.Uint32().Draw(t, "seq"), rapid.Uint32().Draw(t, "ack"), payload)
		}
		checksums(t, raw)
		p, err := parse(bytes.Clone(raw))
		if err != nil {
			t.Fatal(err)
		}
		if p.src != src || p.dst != dst || p.bytes != len(payload) || p.size() != len(raw) {
			t.Fatalf("%x read as %+v", raw, p)
		}
		p.src, p.dst = other, remote
		changed := p.render()
		checksums(t, changed)
		if again := readdressed(changed, src, dst); !bytes.Equal(again, raw) {
			t.Errorf("%x came back as %x", raw, again)
		}
		if p, err = parse(changed); err != nil || p.src != other || p.dst != remote {
			t.Errorf("%x read as %+v: %v", changed, p, err)
		}
	})
}

// TestRefusal: what a stack hears of a packet it sent names the packet as it was
// when it left the stack, and only what may be refused is.
func TestRefusal(t *testing.T) {
	for _, at := range [][2]netip.AddrPort{
		{endpoint("10.0.1.2:4001"), endpoint("17.0.9.1:1000")},
		{endpoint("[3fff:1::2]:4001"), endpoint("[3fff:9::1]:1000")},
	} {
		src, dst := at[0], at[1]
		p, err := parse(datagram(src, dst, "hello"))
		if err != nil {
			t.Fatal(err)
		}
		raw := p.refused().render()
		checksums(t, raw)
		quote := raw[headerOf(raw)+icmpHeader:]
		if from, to := addressFields(quote); !bytes.Equal(from, src.Addr().AsSlice()) || !bytes.Equal(to, dst.Addr().AsSlice()) {
			t.Errorf("quotes %x", quote)
		}
		back, err := parse(raw)
		if err != nil || back.src != dst || back.dst != src || !back.refusal || back.answerable() {
			t.Errorf("read as %+v: %v", back, err)
		}
		for _, c := range []struct {
			name     string
			segment  []byte
			flags    byte
			seq, ack uint32
		}{ // RFC 9293 section 3.5.2
			{"SYN", segment(src, dst, flagSYN, 100, 0, ""), flagRST | flagACK, 0, 101},
			{"data without ACK", segment(src, dst, flagFIN, 100, 0, "abc"), flagRST | flagACK, 0, 104},
			{"ACK", segment(src, dst, flagACK, 100, 7, "abc"), flagRST, 7, 0},
		} {
			p, err := parse(c.segment)
			if err != nil {
				t.Fatal(err)
			}
			raw := p.refused().render()
			checksums(t, raw)
			body := raw[headerOf(raw):]
			if seq, ack := binary.BigEndian.Uint32(body[4:]), binary.BigEndian.Uint32(body[8:]); body[13] != c.flags || seq != c.seq || ack != c.ack {
				t.Errorf("%s: reset with flags %s, seq %d, ack %d", c.name, flags(body[13]), seq, ack)
			}
			if back, err := parse(raw); err != nil || back.src != dst || back.dst != src || back.answerable() {
				t.Errorf("%s: reset read as %+v: %v", c.name, back, err)
			}
		}
	}
}

func TestNotCarried(t *testing.T) {
	src, dst := endpoint("10.0.1.2:4001"), endpoint("17.0.9.1:1000")
	changed := func(at int, to byte) []byte {
		raw := datagram(src, dst, "hello")
		raw[at] = to
		return raw
	}
	for name, raw := range map[string][]byte{
		"another protocol": changed(9, 47),
		"a first fragment": changed(6, 0x20),
		"a later fragment": changed(7, 1),
		"a ping":           ipPacket(icmp4, src.Addr(), dst.Addr(), 8),
	} {
		if p, err := parse(raw); !errors.Is(err, errNotCarried) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	for name, raw := range map[string][]byte{
		"nothing":                nil,
		"no IP version":          make([]byte, 60),
		"cut short":              datagram(src, dst, "hello")[:30],
		"IPv6 cut short":         datagram(endpoint("[3fff::1]:1"), endpoint("[3fff::2]:1"), "hello")[:45],
		"header beyond the end":  changed(0, 0x4f),
		"no room for ports":      ipPacket(udp, src.Addr(), dst.Addr(), 4),
		"no room for TCP header": ipPacket(tcp, src.Addr(), dst.Addr(), 8),
	} {
		if p, err := parse(raw); err == nil {
			t.Errorf("%s: read as %+v", name, p)
		}
	}
}

// FuzzParse: what can be read can be written, and read again as the same.
func FuzzParse(f *testing.F) {
	src, dst := endpoint("10.0.1.2:4001"), endpoint("17.0.9.1:1000")
	p, err := parse(datagram(src, dst, "hello"))
	if err != nil {
		f.Fatal(err)
	}
	for _, raw := range [][]byte{datagram(src, dst, "hello"), segment(src, dst, flagSYN, 1, 2, ""), p.refused().render()} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := parse(bytes.Clone(raw))
		if err != nil {
			return
		}
		q, err := parse(p.render())
		if err != nil {
			t.Fatalf("%x cannot be read again: %v", p.render(), err)
		}
		if q.src != p.src || q.dst != p.dst || q.refusal != p.refusal || q.proto != p.proto {
			t.Fatalf("read as %+v, then as %+v", p, q)
		}
		if p.answerable() {
			p.refused().render()
		}
	})
}
