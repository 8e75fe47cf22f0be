//go:build linux

package netns_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"dibber/netkit/natlab"
	"dibber/netkit/netns"
)

// nat is a router of either sort, as the tests see it.
type nat struct {
	name string
	// is what the router should be found to be.
	is       natlab.NAT
	external func() netip.Addr
	inside   func(name string) *netns.Host
}

// nats puts one router of every sort into a lab: natlab's of the six kinds and
// three policies, and the kernel's two kinds with the three policies.
func nats(lab *netns.Lab) []nat {
	var all []nat
	simulated := natlab.Grid()
	wary := natlab.NAT{Filtering: natlab.AddressAndPortDependent}
	for _, policy := range []natlab.Unsolicited{natlab.Reject, natlab.Poison} {
		wary.Unsolicited = policy
		simulated = append(simulated, wary)
	}
	simulated = append(simulated, natlab.NAT{Hairpin: true})
	for _, n := range simulated {
		name := fmt.Sprintf("natlab %s %s", n, n.Unsolicited)
		if n.Hairpin {
			name += " hairpin"
		}
		r := lab.Internet().Router(name, natlab.RouterConfig{NAT: n})
		all = append(all, nat{name, n, r.External, func(name string) *netns.Host {
			return lab.Host(r.LAN(), name, natlab.MachineConfig{})
		}})
	}
	for _, random := range []bool{false, true} {
		n := natlab.NAT{Filtering: natlab.AddressAndPortDependent}
		if random {
			n.Mapping, n.Ports = natlab.AddressAndPortDependent, natlab.Random
		}
		for _, n.Unsolicited = range []natlab.Unsolicited{natlab.Drop, natlab.Reject, natlab.Poison} {
			name := fmt.Sprintf("kernel %s %s", n, n.Unsolicited)
			r := lab.Router(lab.Internet(), name, netns.RouterConfig{RandomPorts: random, Unsolicited: n.Unsolicited})
			all = append(all, nat{name, n, r.External, r.Inside})
		}
	}
	return all
}

// TestNATs finds out by sockets alone what each router is, and compares.
func TestNATs(t *testing.T) {
	lab := netns.New(t, natlab.Config{})
	server := lab.Host(lab.Internet(), "server", natlab.MachineConfig{Addresses: 2})
	accepted := [3]<-chan netip.AddrPort{}
	for i, at := range remotes(server) {
		accepted[i] = listen(t, server, at)
	}
	for _, n := range nats(lab) {
		t.Run(n.name, func(t *testing.T) {
			s := &scene{nat: n, t: t, server: server, accepted: accepted}
			s.alice, s.carol = n.inside("alice"), n.inside("carol")
			for i, at := range remotes(server) {
				s.udp[i] = open(t, server, at)
			}
			t.Run("UDP mapping", s.udpMapping)
			t.Run("UDP filtering", s.udpFiltering)
			t.Run("UDP unsolicited", s.udpUnsolicited)
			t.Run("hairpin", s.hairpin)
			t.Run("TCP mapping", s.tcpMapping)
			t.Run("TCP filtering", s.tcpFiltering)
			t.Run("TCP unsolicited", s.tcpUnsolicited)
		})
	}
}

// remotes are an endpoint, another port of its address, and another address.
func remotes(server *netns.Host) [3]netip.AddrPort {
	return [3]netip.AddrPort{at(server, 0, 1000), at(server, 0, 2000), at(server, 1, 1000)}
}

// scene is one router with two hosts behind it and a server outside.
type scene struct {
	nat
	t                    *testing.T
	alice, carol, server *netns.Host
	udp                  [3]station // on remotes
	accepted             [3]<-chan netip.AddrPort
}

func (s *scene) want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

func (s *scene) udpMapping(t *testing.T) {
	inner := open(t, s.alice, at(s.alice, 0, 4001))
	var seen [3]netip.AddrPort
	for i, to := range remotes(s.server) {
		inner.send(to, "who am I?")
		seen[i] = s.udp[i].from()
		if seen[i].Addr() != s.external() {
			t.Errorf("seen from %s, the router is %s", seen[i], s.external())
		}
	}
	s.want(t, "mapping", mapping(seen[0], seen[1], seen[2]), s.is.Mapping.String()+"M")
	s.wantPorts(t, 4001, seen)
}

// wantPorts looks at ports as far as they show: an address-dependent mapping has
// given out two.
func (s *scene) wantPorts(t *testing.T, inside uint16, seen [3]netip.AddrPort) {
	t.Helper()
	shown := seen[:]
	if s.is.Mapping == natlab.AddressDependent {
		shown = []netip.AddrPort{seen[0], seen[2]}
	}
	s.want(t, "ports", ports(inside, shown...), s.is.Ports.String())
}

func (s *scene) udpFiltering(t *testing.T) {
	inner := open(t, s.alice, at(s.alice, 0, 4002))
	inner.send(remotes(s.server)[0], "open")
	seen := s.udp[0].from()
	s.udp[1].send(seen, "other port")
	s.udp[2].send(seen, "other address")
	s.udp[0].send(seen, "answer")
	s.want(t, "filtering", filtering(inner.until("answer")), s.is.Filtering.String()+"F")
}

// udpUnsolicited: is the sender told, and does the packet move the port of what
// leaves later?
func (s *scene) udpUnsolicited(t *testing.T) {
	speaks := s.is.Unsolicited != natlab.Drop
	if got := told(t, s.server, netip.AddrPortFrom(s.external(), 4999), speaks); got != speaks {
		t.Errorf("the sender is told: %v, want %v", got, speaks)
	}
	if s.is.Ports != natlab.Preserved || s.is.Filtering == natlab.EndpointIndependent {
		return // an intruder cannot know the port, or gets in
	}
	inner, other := open(t, s.alice, at(s.alice, 0, 4003)), open(t, s.alice, at(s.alice, 0, 4004))
	other.send(remotes(s.server)[0], "open")
	seen := s.udp[0].from()
	s.udp[2].send(netip.AddrPortFrom(s.external(), 4003), "intruder")
	s.udp[2].send(seen, "refused or not, behind the intruder")
	s.udp[0].send(seen, "the intruder has been there")
	other.until("the intruder has been there")
	var moved [2]bool
	for i, r := range []int{0, 2} {
		inner.send(remotes(s.server)[r], "out")
		moved[i] = s.udp[r].from().Port() != 4003
	}
	if want := [2]bool{false, s.is.Unsolicited == natlab.Poison}; moved != want {
		t.Errorf("moved towards the server and the intruder: %v, want %v", moved, want)
	}
}

func (s *scene) hairpin(t *testing.T) {
	alice, carol := open(t, s.alice, at(s.alice, 0, 4005)), open(t, s.carol, at(s.carol, 0, 4006))
	carol.send(remotes(s.server)[0], "open")
	seen := s.udp[0].from()
	alice.send(seen, "hairpin")
	alice.send(remotes(s.server)[1], "sent")
	s.udp[1].from()
	s.udp[0].send(seen, "answer")
	if got := slices.Contains(carol.until("answer"), "hairpin"); got != s.is.Hairpin {
		t.Errorf("hairpin: %v, want %v", got, s.is.Hairpin)
	}
}

func (s *scene) tcpMapping(t *testing.T) {
	var seen [3]netip.AddrPort
	for i, to := range remotes(s.server) {
		seen[i] = dialed(t, s.alice, at(s.alice, 0, 4001), to, s.accepted[i])
	}
	s.want(t, "mapping", mapping(seen[0], seen[1], seen[2]), s.is.Mapping.String()+"M")
	s.wantPorts(t, 4001, seen)
}

// tcpFiltering: a listener behind the NAT has spoken with one remote; who else
// can connect to it, and what do the others hear?
func (s *scene) tcpFiltering(t *testing.T) {
	listen(t, s.alice, at(s.alice, 0, 4002))
	seen := dialed(t, s.alice, at(s.alice, 0, 4002), remotes(s.server)[0], s.accepted[0])
	var strangers sync.WaitGroup
	for _, c := range []struct {
		name     string
		from, to netip.AddrPort
		in       bool
	}{
		{"other port", at(s.server, 0, 3000), seen, s.is.Filtering != natlab.AddressAndPortDependent},
		{"other address", at(s.server, 1, 3000), seen, s.is.Filtering == natlab.EndpointIndependent},
		{"port that nobody opened", at(s.server, 1, 3001), netip.AddrPortFrom(s.external(), 4999), false},
	} {
		strangers.Go(func() {
			refused := !c.in && s.is.Unsolicited != natlab.Drop
			err := dial(t, s.server, c.from, c.to, wait(c.in || refused))
			if (err == nil) != c.in || errors.Is(err, syscall.ECONNREFUSED) != refused {
				t.Errorf("%s: %v, want a connection: %v, a refusal: %v", c.name, err, c.in, refused)
			}
		})
	}
	strangers.Wait()
}

// tcpUnsolicited: a connection attempt from outside moves nothing, whatever became
// of it.
func (s *scene) tcpUnsolicited(t *testing.T) {
	if s.is.Ports != natlab.Preserved || s.is.Filtering == natlab.EndpointIndependent {
		return // an intruder cannot know the port, or gets in
	}
	speaks := s.is.Unsolicited != natlab.Drop
	intruder := at(s.server, 1, 3002)
	if err := dial(t, s.server, intruder, netip.AddrPortFrom(s.external(), 4003), wait(speaks)); err == nil {
		t.Fatal("the intruder got in")
	}
	peers := listen(t, s.server, intruder)
	if got := dialed(t, s.alice, at(s.alice, 0, 4003), intruder, peers).Port(); got != 4003 {
		t.Errorf("towards the intruder from port %d", got)
	}
}

// TestMappingsExpire: a packet from outside that comes after the time-out is not
// let in, behind natlab's router and the kernel's.
func TestMappingsExpire(t *testing.T) {
	const timeout = time.Second
	lab := netns.New(t, natlab.Config{})
	server := lab.Host(lab.Internet(), "server", natlab.MachineConfig{})
	guarded := natlab.NAT{Filtering: natlab.AddressAndPortDependent, Timeout: timeout}
	hosts := []*netns.Host{
		lab.Behind("alice", natlab.RouterConfig{NAT: guarded}),
		lab.Router(lab.Internet(), "office", netns.RouterConfig{Timeout: timeout}).Inside("bob"),
	}
	outside := open(t, server, at(server, 0, 1000))
	var inner []station
	var seen []netip.AddrPort
	for _, h := range hosts {
		s := open(t, h, at(h, 0, 4001))
		s.send(at(server, 0, 1000), "open")
		inner, seen = append(inner, s), append(seen, outside.from())
	}
	time.Sleep(timeout * 3 / 2)
	for i, s := range inner {
		fresh := open(t, hosts[i], at(hosts[i], 0, 4002))
		fresh.send(at(server, 0, 1000), "open another")
		open := outside.from()
		outside.send(seen[i], "too late")
		outside.send(open, "behind it")
		fresh.until("behind it")
		s.send(at(server, 0, 1000), "open again")
		outside.send(outside.from(), "answer")
		if heard := s.until("answer"); heard != nil {
			t.Errorf("%s heard %q", hosts[i].Name(), heard)
		}
	}
}
