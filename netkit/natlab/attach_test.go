package natlab

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// stack stands in for a kernel: it notes every packet that it is given.
type stack struct {
	t    *testing.T
	send func(raw []byte)
	got  chan packet
}

func attach(t *testing.T, m *Machine) stack {
	s := stack{t: t, got: make(chan packet, 100)}
	s.send = m.Attach(func(raw []byte) {
		checksums(t, raw)
		p, err := parse(raw)
		if err != nil {
			t.Errorf("given %x: %v", raw, err)
		}
		s.got <- p
	})
	return s
}

// hear waits a second of virtual time for a packet.
func (s stack) hear() (p packet, ok bool) {
	select {
	case p = <-s.got:
		return p, true
	case <-time.After(time.Second):
		return p, false
	}
}

func (s stack) must() packet {
	s.t.Helper()
	p, ok := s.hear()
	if !ok {
		s.t.Fatal("nothing came")
	}
	return p
}

func (s stack) silent(why string) {
	s.t.Helper()
	if p, ok := s.hear(); ok {
		s.t.Errorf("%s: %s from %s", why, p.kind(), p.src)
	}
}

// home is a NAT with an attached machine behind it, and an attached server.
func home(t *testing.T, lab *Lab, c RouterConfig) (r *Router, inner, server stack, from, to netip.AddrPort) {
	r = lab.Internet().Router("home", c)
	a, s := r.LAN().Machine("a", MachineConfig{}), lab.Internet().Machine("server", MachineConfig{})
	return r, attach(t, a), attach(t, s), netip.AddrPortFrom(a.Addrs()[0], 4001), netip.AddrPortFrom(s.Addrs()[0], 1000)
}

// TestAttachedStacksTalk: the other side sees what the NAT makes of a packet, and
// its answer arrives as if there were no NAT. UDP and TCP have mappings of their
// own.
func TestAttachedStacksTalk(t *testing.T) {
	for _, make := range []func(src, dst netip.AddrPort) []byte{
		func(src, dst netip.AddrPort) []byte { return datagram(src, dst, "hello") },
		func(src, dst netip.AddrPort) []byte { return segment(src, dst, flagSYN, 1, 0, "hello") },
	} {
		Run(t, func(t *testing.T, lab *Lab) {
			r, inner, server, from, to := home(t, lab, RouterConfig{NAT: NAT{Mapping: AddressAndPortDependent, Ports: Sequential}})
			inner.send(make(from, to))
			seen := server.must()
			if want := netip.AddrPortFrom(r.External(), firstSequential); seen.src != want || seen.dst != to || !bytes.HasSuffix(seen.raw, []byte("hello")) {
				t.Errorf("the server sees %s to %s: %x", seen.src, seen.dst, seen.raw)
			}
			if lab.Elapsed() != 2*DefaultLatency {
				t.Errorf("after %s", lab.Elapsed())
			}
			server.send(make(to, seen.src))
			if back := inner.must(); back.src != to || back.dst != from {
				t.Errorf("answered from %s to %s", back.src, back.dst)
			}
		})
	}
}

// TestRefusalReachesTheSender: through its own NAT, and what is refused is not
// answered for ever.
func TestRefusalReachesTheSender(t *testing.T) {
	for policy, told := range map[Unsolicited]bool{Drop: false, Reject: true, Poison: true} {
		Run(t, func(t *testing.T, lab *Lab) {
			other := lab.Internet().Router("other", RouterConfig{NAT: NAT{Unsolicited: policy}})
			_, inner, _, from, _ := home(t, lab, RouterConfig{NAT: NAT{Filtering: AddressAndPortDependent, Ports: Random, Unsolicited: policy}})
			shut := netip.AddrPortFrom(other.External(), 1)
			inner.send(datagram(from, shut, "hello"))
			inner.send(segment(from, shut, flagSYN, 1, 0, ""))
			for _, proto := range []protocol{udp, tcp} {
				if !told {
					inner.silent("dropped in silence")
					continue
				}
				p := inner.must()
				if p.proto != proto || p.src != shut || p.dst != from || p.answerable() {
					t.Errorf("%s tells %+v", policy, p)
				}
			}
			inner.silent("everything is said")
		})
	}
}

// TestStrayReset: a reset that nobody asked for ends at the NAT.
func TestStrayReset(t *testing.T) {
	Run(t, func(t *testing.T, lab *Lab) {
		r, _, server, _, to := home(t, lab, RouterConfig{NAT: NAT{Unsolicited: Reject}})
		server.send(segment(to, netip.AddrPortFrom(r.External(), 1), flagRST, 1, 0, ""))
		server.silent("a reset is never refused")
	})
}

func TestBlockedUDPLetsTCPThrough(t *testing.T) {
	Run(t, func(t *testing.T, lab *Lab) {
		_, inner, server, from, to := home(t, lab, RouterConfig{BlockUDP: true})
		inner.send(datagram(from, to, "blocked"))
		server.silent("UDP is blocked")
		inner.send(segment(from, to, flagSYN, 1, 0, ""))
		server.send(segment(to, server.must().src, flagSYN|flagACK, 1, 2, ""))
		inner.must()
	})
}

// TestFirewallKeepsProtocolsApart: a UDP packet opens the firewall for UDP only.
func TestFirewallKeepsProtocolsApart(t *testing.T) {
	Run(t, func(t *testing.T, lab *Lab) {
		six := MachineConfig{Families: IPv6}
		a := lab.Internet().Router("home", RouterConfig{IPv6: &Firewall{}}).LAN().Machine("a", six)
		s := lab.Internet().Machine("server", six)
		inner, server := attach(t, a), attach(t, s)
		from, to := netip.AddrPortFrom(a.Addrs()[0], 4001), netip.AddrPortFrom(s.Addrs()[0], 1000)
		inner.send(datagram(from, to, "out"))
		if p := server.must(); p.src != from {
			t.Errorf("the server sees %s, not the machine's own %s", p.src, from)
		}
		server.send(segment(to, from, flagSYN, 1, 0, ""))
		inner.silent("nobody asked for TCP")
		server.send(datagram(to, from, "in"))
		inner.must()
	})
}

// TestStrangePackets: what cannot be carried is lost, and the trace says why.
func TestStrangePackets(t *testing.T) {
	Run(t, func(t *testing.T, lab *Lab) {
		_, inner, server, from, to := home(t, lab, RouterConfig{})
		inner.send([]byte("no packet"))
		inner.send(datagram(netip.AddrPortFrom(from.Addr().Next(), 1), to, "spoofed"))
		server.silent("neither is carried")
		for _, want := range []string{"a                invalid", "9 bytes that are no IP packet", "lost: not an address of this machine"} {
			if !strings.Contains(lab.Trace(), want) {
				t.Errorf("trace without %q:\n%s", want, lab.Trace())
			}
		}
	})
}

// TestStackBesideSockets: sockets hear nothing of what stacks send.
func TestStackBesideSockets(t *testing.T) {
	Run(t, func(t *testing.T, lab *Lab) {
		_, inner, _, from, _ := home(t, lab, RouterConfig{})
		other := lab.Internet().Machine("other", MachineConfig{})
		if _, err := other.ListenUDP("udp4", &net.UDPAddr{Port: 1000}); err != nil {
			t.Fatal(err)
		}
		inner.send(datagram(from, netip.AddrPortFrom(other.Addrs()[0], 1000), "raw"))
		inner.silent("nobody there")
		if !strings.Contains(lab.Trace(), "lost: no socket") {
			t.Errorf("trace:\n%s", lab.Trace())
		}
	})
}

// TestPoisonIsForUDP: a refused connection attempt moves no port later, a datagram
// does.
func TestPoisonIsForUDP(t *testing.T) {
	for proto, make := range map[protocol]func(src, dst netip.AddrPort) []byte{
		udp: func(src, dst netip.AddrPort) []byte { return datagram(src, dst, "hello") },
		tcp: func(src, dst netip.AddrPort) []byte { return segment(src, dst, flagSYN, 1, 0, "") },
	} {
		Run(t, func(t *testing.T, lab *Lab) {
			r, inner, server, from, to := home(t, lab, RouterConfig{NAT: NAT{Filtering: AddressAndPortDependent, Unsolicited: Poison}})
			server.send(make(to, netip.AddrPortFrom(r.External(), from.Port())))
			if p := server.must(); p.answerable() {
				t.Errorf("the intruder hears %s", p.kind())
			}
			inner.send(make(from, to))
			if moved := server.must().src.Port() != from.Port(); moved != (proto == udp) {
				t.Errorf("protocol %d: moved: %v", proto, moved)
			}
		})
	}
}
