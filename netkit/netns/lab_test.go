//go:build linux

package netns_test

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dibber/netkit/natlab"
	"dibber/netkit/netns"
)

// TestLatency: no packet is faster than the links it crosses. (How much slower it
// is depends on the machine.)
func TestLatency(t *testing.T) {
	const far, near = 30 * time.Millisecond, 10 * time.Millisecond
	lab := netns.New(t, natlab.Config{})
	server := lab.Host(lab.Internet(), "server", natlab.MachineConfig{Link: natlab.LinkConfig{Latency: far}})
	alice := lab.Behind("alice", natlab.RouterConfig{Link: natlab.LinkConfig{Latency: near}})
	bob := lab.Router(lab.Internet(), "office", netns.RouterConfig{Link: natlab.LinkConfig{Latency: near}}).Inside("bob")
	outside := open(t, server, at(server, 0, 1000))
	peers := listen(t, server, at(server, 0, 1000))
	for _, h := range []*netns.Host{alice, bob} {
		inner := open(t, h, at(h, 0, 4001))
		start := time.Now()
		inner.send(at(server, 0, 1000), "ping")
		outside.send(outside.from(), "pong")
		inner.until("pong")
		udp := time.Since(start)
		start = time.Now()
		dialed(t, h, at(h, 0, 4002), at(server, 0, 1000), peers)
		tcp := time.Since(start)
		t.Logf("%s: there and back %s, connected over TCP in %s; the links alone take %s", h.Name(), udp, tcp, 2*(far+near))
		if least := 2 * (far + near); udp < least || tcp < least {
			t.Errorf("%s: %s and %s are faster than the links", h.Name(), udp, tcp)
		}
	}
}

// TestRate: a link carries no more than its rate; what waits too long is lost.
func TestRate(t *testing.T) {
	const payload, headers, sent = 972, 28, 10 // 1000 bytes on the wire: 8 ms at 1 Mbit/s
	lab := netns.New(t, natlab.Config{})
	server := lab.Host(lab.Internet(), "server", natlab.MachineConfig{})
	slow := natlab.LinkConfig{Latency: -1, Rate: 1_000_000, Queue: time.Minute}
	alice := lab.Host(lab.Internet(), "alice", natlab.MachineConfig{Link: slow})
	outside, inner := open(t, server, at(server, 0, 1000)), open(t, alice, at(alice, 0, 4001))
	start := time.Now()
	for range sent {
		inner.send(at(server, 0, 1000), string(make([]byte, payload)))
	}
	for range sent {
		outside.hear()
	}
	if took, least := time.Since(start), sent*(payload+headers)*8*time.Microsecond; took < least {
		t.Errorf("%d bytes in %s, the link takes %s", sent*(payload+headers), took, least)
	}
}

// TestLossBySeed: a link loses the same packets in every run.
func TestLossBySeed(t *testing.T) {
	const sent = 100
	pattern := func(seed uint64) string {
		lab := netns.New(t, natlab.Config{Seed: seed})
		server := lab.Host(lab.Internet(), "server", natlab.MachineConfig{})
		lossy := lab.Internet().Router("lossy", natlab.RouterConfig{})
		alice := lab.Host(lossy.LAN(), "alice", natlab.MachineConfig{})
		outside, inner := open(t, server, at(server, 0, 1000)), open(t, alice, at(alice, 0, 4001))
		lossy.Link().SetLoss(0.2)
		for i := range sent {
			inner.send(at(server, 0, 1000), strconv.Itoa(i))
		}
		for strings.Count(lab.Trace(), "out as") < sent {
			time.Sleep(time.Millisecond)
		}
		lossy.Link().SetLoss(0)
		inner.send(at(server, 0, 1000), "end")
		return strings.Join(outside.until("end"), " ")
	}
	first, again, other := pattern(1), pattern(1), pattern(2)
	if first != again || first == other {
		t.Errorf("arrived with seed 1: %s\nand again: %s\nwith seed 2: %s", first, again, other)
	}
	// 80 are expected; the standard deviation is 4 and the seed is fixed.
	if n := len(strings.Fields(first)); n < 60 || n > 95 {
		t.Errorf("%d of %d arrived, want about 80", n, sent)
	}
}

// TestBlockedUDP: TCP goes through a network that lets no UDP out.
func TestBlockedUDP(t *testing.T) {
	lab := netns.New(t, natlab.Config{})
	server := lab.Host(lab.Internet(), "server", natlab.MachineConfig{})
	office := lab.Internet().Router("office", natlab.RouterConfig{BlockUDP: true})
	alice := lab.Host(office.LAN(), "alice", natlab.MachineConfig{})
	outside := open(t, server, at(server, 0, 1000))
	open(t, alice, at(alice, 0, 4001)).send(at(server, 0, 1000), "lost")
	// The connection is behind the packet on every link.
	seen := dialed(t, alice, at(alice, 0, 4001), at(server, 0, 1000), listen(t, server, at(server, 0, 1000)))
	if seen.Addr() != office.External() {
		t.Errorf("seen from %s, the router is %s", seen, office.External())
	}
	open(t, server, at(server, 0, 2000)).send(at(server, 0, 1000), "end")
	if got := outside.until("end"); got != nil {
		t.Errorf("heard %q", got)
	}
}

// TestDoubleNAT: a kernel router behind a carrier's NAT, which gives out ports one
// after the other.
func TestDoubleNAT(t *testing.T) {
	lab := netns.New(t, natlab.Config{})
	server := lab.Host(lab.Internet(), "server", natlab.MachineConfig{})
	carrier := lab.Internet().Router("carrier", natlab.RouterConfig{
		NAT: natlab.NAT{Ports: natlab.Sequential}, LAN: netip.MustParsePrefix("100.64.0.0/24"),
	})
	home := lab.Router(carrier.LAN(), "home", netns.RouterConfig{})
	alice := home.Inside("alice")
	neighbour := lab.Host(carrier.LAN(), "neighbour", natlab.MachineConfig{})
	outside, next := open(t, server, at(server, 0, 1000)), open(t, neighbour, at(neighbour, 0, 1000))
	inner := open(t, alice, at(alice, 0, 4001))

	inner.send(at(server, 0, 1000), "out")
	seen := outside.from()
	if seen.Addr() != carrier.External() || seen.Port() == 4001 {
		t.Errorf("the server sees %s, the carrier is %s", seen, carrier.External())
	}
	outside.send(seen, "back")
	if content, from := inner.hear(); content != "back" || from != at(server, 0, 1000) {
		t.Errorf("heard %q from %s", content, from)
	}
	inner.send(at(neighbour, 0, 1000), "next door")
	if got, want := next.from(), netip.AddrPortFrom(home.External(), 4001); got != want {
		t.Errorf("the neighbour sees %s, want %s", got, want)
	}
}

// TestIPv6Firewall: a host with both families has a public IPv6 address that
// answers only those it has asked.
func TestIPv6Firewall(t *testing.T) {
	both := natlab.MachineConfig{Families: natlab.DualStack}
	lab := netns.New(t, natlab.Config{})
	server := lab.Host(lab.Internet(), "server", both)
	home := lab.Internet().Router("home", natlab.RouterConfig{IPv6: &natlab.Firewall{Filtering: natlab.AddressAndPortDependent}})
	alice := lab.Host(home.LAN(), "alice", both)
	const six = 1 // index of the IPv6 address
	outside, inner := open(t, server, at(server, six, 1000)), open(t, alice, at(alice, six, 4001))
	other := open(t, server, at(server, six, 2000))

	outside.send(at(alice, six, 4001), "unsolicited")
	inner.send(at(server, six, 1000), "open")
	if content, from := outside.hear(); content != "open" || from != at(alice, six, 4001) {
		t.Errorf("the server heard %q from %s", content, from)
	}
	other.send(at(alice, six, 4001), "other port")
	outside.send(at(alice, six, 4001), "answer")
	// What came before the way was open may have crossed its opening.
	if got := inner.until("answer"); slices.Contains(got, "other port") {
		t.Errorf("heard %q", got)
	}
	peers := listen(t, alice, at(alice, six, 4001))
	if err := dial(t, server, at(server, six, 3000), at(alice, six, 4001), silence); err == nil {
		t.Errorf("a stranger connected: %s", <-peers)
	}
	if got := dialed(t, alice, at(alice, six, 4001), at(server, six, 1000), listen(t, server, at(server, six, 1000))); got != at(alice, six, 4001) {
		t.Errorf("over TCP the server sees %s", got)
	}
}
