package natlab_test

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"dibber/netkit/natlab"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestTwoMachinesBehindOneNAT(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		home := lab.Internet().Router("home", natlab.RouterConfig{})
		a, b := home.LAN().Machine("a", natlab.MachineConfig{}), home.LAN().Machine("b", natlab.MachineConfig{})
		server := lab.Internet().Machine("server", natlab.MachineConfig{})
		s := open(t, server, 1000)
		fromA, fromB := open(t, a, 4001), open(t, b, 4001)
		fromA.send(at(server, 1000), "a")
		seenA := s.from()
		fromB.send(at(server, 1000), "b")
		seenB := s.from()
		want := []netip.AddrPort{netip.AddrPortFrom(home.External(), 4001), netip.AddrPortFrom(home.External(), 4002)}
		if diff := cmp.Diff(want, []netip.AddrPort{seenA, seenB}, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("seen by the server (-want +got):\n%s", diff)
		}
		s.send(seenB, "for b")
		if got, _ := fromB.hear(); got != "for b" {
			t.Errorf("b heard %q", got)
		}
		fromA.silent("a packet for b")
	})
}

func TestDoubleNAT(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		carrier := lab.Internet().Router("carrier", natlab.RouterConfig{
			NAT: natlab.NAT{Ports: natlab.Sequential}, LAN: netip.MustParsePrefix("100.64.0.0/24"),
		})
		home := carrier.LAN().Router("home", natlab.RouterConfig{})
		a, neighbour := home.LAN().Machine("a", natlab.MachineConfig{}), carrier.LAN().Machine("neighbour", natlab.MachineConfig{})
		server := lab.Internet().Machine("server", natlab.MachineConfig{})
		from, s, n := open(t, a, 4001), open(t, server, 1000), open(t, neighbour, 1000)

		from.send(at(server, 1000), "out")
		seen := s.from()
		if seen.Addr() != carrier.External() {
			t.Errorf("the server sees %s, not the carrier's %s", seen, carrier.External())
		}
		s.send(seen, "back")
		if got := from.from(); got != at(server, 1000) {
			t.Errorf("answer from %s", got)
		}
		from.send(at(neighbour, 1000), "next door")
		if got, want := n.from(), netip.AddrPortFrom(home.External(), 4001); got != want {
			t.Errorf("the neighbour sees %s, want %s", got, want)
		}
	})
}

func TestHairpin(t *testing.T) {
	for _, on := range []bool{true, false} {
		natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
			home := lab.Internet().Router("home", natlab.RouterConfig{NAT: natlab.NAT{Hairpin: on}})
			a, b := home.LAN().Machine("a", natlab.MachineConfig{}), home.LAN().Machine("b", natlab.MachineConfig{})
			server := lab.Internet().Machine("server", natlab.MachineConfig{})
			fromA, atB := open(t, a, 4001), open(t, b, 5001)
			atB.send(at(server, 1000), "open a mapping")
			fromA.send(netip.AddrPortFrom(home.External(), 5001), "by the outside address")
			if !on {
				atB.silent("no hairpin")
				return
			}
			if got, want := atB.from(), netip.AddrPortFrom(home.External(), 4001); got != want {
				t.Errorf("b sees %s, want the external %s", got, want)
			}
		})
	}
}

// TestFirewall looks at IPv6 behind one firewall and behind two.
func TestFirewall(t *testing.T) {
	six := natlab.MachineConfig{Families: natlab.IPv6}
	guarded := natlab.RouterConfig{IPv6: &natlab.Firewall{Filtering: natlab.AddressAndPortDependent}}
	for _, depth := range []int{1, 2} {
		natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
			network := lab.Internet()
			for range depth {
				network = network.Router("home", guarded).LAN()
			}
			a, server := network.Machine("a", six), lab.Internet().Machine("server", six)
			inside, s, other := open(t, a, 4001), open(t, server, 1000), open(t, server, 2000)
			s.send(at(a, 4001), "unsolicited")
			inside.silent("unsolicited packet")
			inside.send(at(server, 1000), "out")
			if got := s.from(); got != at(a, 4001) {
				t.Errorf("the server sees %s, not the machine's own %s", got, at(a, 4001))
			}
			s.send(at(a, 4001), "answer")
			inside.from()
			other.send(at(a, 4001), "from another port")
			inside.silent("packet of another port")
		})
	}
}

func TestBlockUDP(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		office := lab.Internet().Router("office", natlab.RouterConfig{BlockUDP: true})
		a, b := office.LAN().Machine("a", natlab.MachineConfig{}), office.LAN().Machine("b", natlab.MachineConfig{})
		server := lab.Internet().Machine("server", natlab.MachineConfig{})
		from, s, near := open(t, a, 4001), open(t, server, 1000), open(t, b, 1000)
		from.send(at(server, 1000), "out")
		s.silent("UDP is blocked")
		s.send(netip.AddrPortFrom(office.External(), 4001), "in")
		from.silent("UDP is blocked")
		from.send(at(b, 1000), "within the LAN")
		near.from()
	})
}

func TestNoRoute(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		home := lab.Internet().Router("home", natlab.RouterConfig{})
		inside := home.LAN().Machine("inside", natlab.MachineConfig{})
		server := lab.Internet().Machine("server", natlab.MachineConfig{Families: natlab.DualStack})
		s, in := open(t, server, 1000), open(t, inside, 4001)
		s.send(at(inside, 4001), "to a private address")
		in.silent("private addresses lead nowhere")

		v6 := net.UDPAddrFromAddrPort(netip.AddrPortFrom(server.Addrs()[1], 1000))
		if _, err := in.conn.WriteTo([]byte("x"), v6); !cmp.Equal(err, syscall.ENETUNREACH, cmpopts.EquateErrors()) {
			t.Errorf("IPv6 from a machine without: %v", err)
		}
		if _, err := inside.SourceIP(v6); !cmp.Equal(err, syscall.ENETUNREACH, cmpopts.EquateErrors()) {
			t.Errorf("source address for IPv6: %v", err)
		}
	})
}

func TestReconnect(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		home := lab.Internet().Router("home", natlab.RouterConfig{})
		server := lab.Internet().Machine("server", natlab.MachineConfig{})
		from, s := open(t, home.LAN().Machine("a", natlab.MachineConfig{}), 4001), open(t, server, 1000)
		from.send(at(server, 1000), "before")
		before := s.from()
		home.Reconnect()
		s.send(before, "to the old address")
		from.silent("the old address")
		from.send(at(server, 1000), "after")
		after := s.from()
		if after.Addr() == before.Addr() || after.Addr() != home.External() {
			t.Errorf("seen as %s, then as %s; the router has %s", before, after, home.External())
		}
		s.send(after, "to the new address")
		from.from()
	})
}

func TestMove(t *testing.T) {
	const slow = 10 * time.Millisecond
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		home := lab.Internet().Router("home", natlab.RouterConfig{})
		mobile := lab.Internet().Router("mobile", natlab.RouterConfig{})
		a := home.LAN().Machine("a", natlab.MachineConfig{Link: natlab.LinkConfig{Latency: slow}})
		server := lab.Internet().Machine("server", natlab.MachineConfig{})
		old := at(a, 5001)
		bound, err := a.ListenUDP("udp4", net.UDPAddrFromAddrPort(old))
		if err != nil {
			t.Fatal(err)
		}
		every, one, s := open(t, a, 4001), station{t, bound}, open(t, server, 1000)
		one.send(at(server, 1000), "from the old address")
		s.from()

		fromB := open(t, home.LAN().Machine("b", natlab.MachineConfig{}), 1000)
		fromB.send(netip.AddrPortFrom(old.Addr(), 4001), "under way")
		time.Sleep(slow / 2)
		a.Move(mobile.LAN())
		every.silent("a packet that was under way to the old address")
		if at(a, 5001) == old {
			t.Fatal("the address is still the same")
		}
		one.send(at(server, 1000), "from an address that is gone")
		s.silent("a socket bound to the old address")
		every.send(at(server, 1000), "from the new address")
		seen := s.from()
		if seen.Addr() != mobile.External() {
			t.Errorf("the server sees %s, want %s", seen, mobile.External())
		}
		s.send(seen, "back")
		every.from()
	})
}

func TestMappingExpires(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		home := lab.Internet().Router("home", natlab.RouterConfig{NAT: natlab.NAT{Timeout: 30 * time.Second}})
		server := lab.Internet().Machine("server", natlab.MachineConfig{})
		from, s := open(t, home.LAN().Machine("a", natlab.MachineConfig{}), 4001), open(t, server, 1000)
		from.send(at(server, 1000), "out")
		seen := s.from()
		time.Sleep(20 * time.Second)
		s.send(seen, "in time")
		from.from()
		time.Sleep(10 * time.Second)
		s.send(seen, "too late")
		from.silent("the mapping has expired")
	})
}

// TestPoison: two peers behind NATs that remember unsolicited packets. When one
// opens early its packet arrives before the other has sent, and moves the other's
// port; when both packets cross in flight they meet open doors.
func TestPoison(t *testing.T) {
	wary := natlab.RouterConfig{NAT: natlab.NAT{Filtering: natlab.AddressAndPortDependent, Unsolicited: natlab.Poison}}
	for _, crossing := range []bool{true, false} {
		natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
			left, right := lab.Internet().Router("left", wary), lab.Internet().Router("right", wary)
			a, b := open(t, left.LAN().Machine("a", natlab.MachineConfig{}), 4001), open(t, right.LAN().Machine("b", natlab.MachineConfig{}), 4001)
			seenA, seenB := netip.AddrPortFrom(left.External(), 4001), netip.AddrPortFrom(right.External(), 4001)
			a.send(seenB, "open")
			if !crossing {
				time.Sleep(time.Second)
			}
			b.send(seenA, "open")
			if !crossing {
				a.silent("it comes from another port than a sent to")
				return
			}
			if got := a.from(); got != seenB {
				t.Errorf("a hears %s, want %s", got, seenB)
			}
			if got := b.from(); got != seenA {
				t.Errorf("b hears %s, want %s", got, seenA)
			}
		})
	}
}
