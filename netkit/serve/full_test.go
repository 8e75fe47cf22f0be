package serve_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/dial"
	"dibber/netkit/dialback"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/reach"
	"dibber/netkit/relay"
	"dibber/netkit/serve"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// stands is a node with its roles, and what they tell.
type stands struct {
	*events
	n *host.Node
	s *serve.Server
}

// run starts a node's roles. Dial-backs under way are sat out before it closes.
func run(t *testing.T, n *host.Node, cfg serve.Config) stands {
	t.Helper()
	ev := &events{more: make(chan struct{}, 1)}
	cfg.On = ev.add
	s, err := serve.New(n, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return stands{ev, n, s}
}

// end closes nodes together: first nobody asks any more, then the last dial-back of
// v1 is sat out.
func end(t *testing.T, all ...stands) {
	t.Helper()
	for _, at := range all {
		for _, p := range at.n.Network().Peers() {
			_ = at.n.Network().ClosePeer(p)
		}
	}
	time.Sleep(time.Minute)
	for _, at := range all {
		if err := at.s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func state(is reach.State) func(serve.Event) bool {
	return func(e serve.Event) bool { return e.State != nil && e.State.Is == is }
}

func role(kind, name string) func(serve.Event) bool {
	return func(e serve.Event) bool { return e.Role != nil && e.Role.Kind == kind && e.Role.Role == name }
}

// vantage starts dial-back servers on the internet.
func vantage(t *testing.T, lab *natlab.Lab, names ...string) (out []stands) {
	t.Helper()
	for _, name := range names {
		n := lab.Internet().Machine(name, natlab.MachineConfig{}).Host(host.Config{})
		out = append(out, run(t, n, serve.Config{DialBack: &dialback.Config{}}))
	}
	return out
}

func infos(of ...stands) (out []peer.AddrInfo) {
	for _, at := range of {
		out = append(out, info(at.n))
	}
	return out
}

// A node without roles that others can reach relays for one that they cannot, which
// finds it among its peers.
func TestFullNodes(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		servers := vantage(t, lab, "one", "two")
		open := run(t, lab.Internet().Machine("open", natlab.MachineConfig{}).Host(host.Config{}),
			serve.Config{Full: &serve.Full{}, DialBack: &dialback.Config{}, Peers: infos(servers...)})
		shut := run(t, behind(lab, "shut", natlab.NAT{Filtering: natlab.AddressAndPortDependent}),
			serve.Config{Full: &serve.Full{}, DialBack: &dialback.Config{}, Peers: infos(append(servers, open)...)})
		defer func() { end(t, append(servers, open, shut)...) }()

		open.await(t, "verdict", state(reach.Public))
		open.await(t, "relay", role("started", serve.RoleRelay))
		if l := open.s.Limits().Relay; l == nil || l.Duration != 2*time.Minute || l.Bytes != 128<<10 {
			t.Errorf("limits %+v", l)
		}
		if !slices.Equal(open.s.Roles(), []string{serve.RoleAutoNAT, serve.RoleKeeper, serve.RoleRelay}) {
			t.Errorf("roles %v", open.s.Roles())
		}
		shut.await(t, "verdict", state(reach.Private))
		shut.await(t, "role", role("started", serve.RoleRelayed))
		shut.await(t, "reservation", reservation("reserved"))
		if shut.s.Limits().Relay != nil {
			t.Error("a private node relays")
		}
		asker := lab.Internet().Machine("asker", natlab.MachineConfig{}).Host(host.Config{})
		r, err := dial.Do(t.Context(), asker, shut.n.ID(), shut.n.Circuits(), dial.Config{})
		if err != nil || *r.Path != dial.Relayed {
			t.Fatalf("dial through the node that became a relay: %v %+v", err, r)
		}
	})
}

// The same node in the course of time: open, behind a firewall, open again.
func TestFullNodeTurns(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		servers := vantage(t, lab, "one", "two")
		fallback := run(t, lab.Internet().Machine("fallback", natlab.MachineConfig{}).Host(host.Config{}), serve.Config{Relay: &relay.Config{}})
		home := lab.Internet().Router("home", natlab.RouterConfig{})
		node := run(t, home.LAN().Machine("node", natlab.MachineConfig{}).Host(host.Config{}),
			serve.Config{Full: &serve.Full{}, Peers: infos(append(servers, fallback)...)})
		node.await(t, "verdict", state(reach.Public))
		node.await(t, "relay", role("started", serve.RoleRelay))
		mapped := peer.AddrInfo{ID: node.n.ID(), Addrs: node.n.AddrsFor(servers[0].n.ID())}
		client := run(t, behind(lab, "client", natlab.NAT{Filtering: natlab.AddressAndPortDependent}),
			serve.Config{Full: &serve.Full{}, Peers: append(infos(append(servers, fallback)...), mapped)})
		defer func() { end(t, append(servers, fallback, node, client)...) }()
		for range 2 { // on the node and on the fallback: there are no others
			client.await(t, "reservation", reservation("reserved"))
		}

		home.SetNAT(natlab.NAT{Filtering: natlab.AddressAndPortDependent})
		t.Logf("private after %s", node.await(t, "verdict", state(reach.Private)))
		node.await(t, "end of the relay", role("stopped", serve.RoleRelay))
		if node.s.Limits().Relay != nil || slices.Contains(node.s.Roles(), serve.RoleRelay) {
			t.Error("the relay is still there")
		}
		node.await(t, "reservation", reservation("reserved"))
		if c := node.n.Circuits(); len(c) == 0 || !addr.IsRelayed(c[0]) {
			t.Errorf("circuits %v", c)
		}

		home.SetNAT(natlab.NAT{})
		t.Logf("public after %s", node.await(t, "verdict", state(reach.Public)))
		node.await(t, "release", role("stopped", serve.RoleRelayed))
		node.await(t, "relay, again", role("started", serve.RoleRelay))
		if c := node.n.Circuits(); len(c) != 0 {
			t.Errorf("still announces %v", c)
		}
	})
}

// Five peers see the same public address of a node behind a NAT, which is more than
// libp2p asks for to announce it. While nobody gets in there, nobody is told of it.
func TestPrivateNodeAnnouncesNoPublicAddress(t *testing.T) {
	t.Parallel()
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		servers := vantage(t, lab, "one", "two", "three", "four", "five")
		home := lab.Internet().Router("home", natlab.RouterConfig{NAT: natlab.NAT{Filtering: natlab.AddressAndPortDependent}})
		node := run(t, home.LAN().Machine("node", natlab.MachineConfig{}).Host(host.Config{}),
			serve.Config{Full: &serve.Full{}, Peers: infos(servers...)})
		defer func() { end(t, append(servers, node)...) }()
		public := func() (own, told int) {
			count := func(list []ma.Multiaddr) (n int) {
				for _, a := range list {
					if !addr.IsRelayed(a) && addr.ScopeOf(a) == addr.ScopePublic {
						n++
					}
				}
				return n
			}
			return count(node.n.Addrs()), count(servers[0].n.Peerstore().Addrs(node.n.ID()))
		}
		node.await(t, "verdict", state(reach.Private))
		time.Sleep(20 * time.Minute) // virtual: what identify told before has run out
		if own, told := public(); own+told > 0 {
			t.Errorf("announces %d public addresses, %d of them known to a peer", own, told)
		}
		home.SetNAT(natlab.NAT{})
		time.Sleep(time.Hour) // virtual: what stood for long is asked about every half hour
		node.await(t, "verdict", state(reach.Public))
		if own, told := public(); own == 0 || told == 0 {
			t.Errorf("announces %d public addresses, %d of them known to a peer", own, told)
		}
	})
}

// Behind a symmetric NAT libp2p's own AutoNAT v2 gives no signal.
func TestFullNodeBehindSymmetricNAT(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		servers := vantage(t, lab, "one", "two", "three")
		fallback := run(t, lab.Internet().Machine("relay", natlab.MachineConfig{}).Host(host.Config{}), serve.Config{Relay: &relay.Config{}})
		hard := natlab.NAT{Mapping: natlab.AddressAndPortDependent, Filtering: natlab.AddressAndPortDependent, Ports: natlab.Random}
		node := run(t, behind(lab, "node", hard), serve.Config{Full: &serve.Full{}, Peers: infos(append(servers, fallback)...)})
		defer func() { end(t, append(servers, fallback, node)...) }()
		node.await(t, "verdict", func(e serve.Event) bool {
			return e.State != nil && e.State.Is == reach.Private && e.State.Cause == reach.CauseUnreachable
		})
		node.await(t, "reservation", reservation("reserved"))
	})
}

func TestFixedNodes(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		public := run(t, lab.Internet().Machine("public", natlab.MachineConfig{}).Host(host.Config{}),
			serve.Config{Full: &serve.Full{Fixed: reach.Public}, DialBack: &dialback.Config{}})
		if !slices.Contains(public.s.Roles(), serve.RoleRelay) || public.s.Reachability() != reach.Public {
			t.Errorf("roles %v, %s", public.s.Roles(), public.s.Reachability())
		}
		// It could be reached, but its operator knows better, and has a table of peers.
		private := run(t, lab.Internet().Machine("private", natlab.MachineConfig{}).Host(host.Config{Known: infos(public)}),
			serve.Config{Full: &serve.Full{Fixed: reach.Private}})
		defer func() { end(t, public, private) }()
		private.await(t, "reservation on a peer of the table", reservation("reserved"))
		time.Sleep(10 * time.Minute)
		if public.take(state(reach.Private)) || private.take(state(reach.Public)) || private.s.Reachability() != reach.Private {
			t.Error("what is fixed was changed")
		}
		if len(private.n.Circuits()) == 0 {
			t.Error("the reservation is gone")
		}
	})
}

func TestPartsOfAFullNodeAreOff(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		relayNode := run(t, lab.Internet().Machine("relay", natlab.MachineConfig{}).Host(host.Config{}), serve.Config{Relay: &relay.Config{}})
		public := run(t, lab.Internet().Machine("public", natlab.MachineConfig{}).Host(host.Config{}),
			serve.Config{Full: &serve.Full{Fixed: reach.Public, NoRelay: true}})
		private := run(t, lab.Internet().Machine("private", natlab.MachineConfig{}).Host(host.Config{}),
			serve.Config{Full: &serve.Full{Fixed: reach.Private, NoReserve: true}, Peers: infos(relayNode)})
		defer func() { end(t, relayNode, public, private) }()
		time.Sleep(time.Minute)
		if r := public.s.Roles(); len(r) != 0 {
			t.Errorf("public: %v", r)
		}
		if r := private.s.Roles(); !slices.Equal(r, []string{serve.RoleKeeper}) || len(private.n.Circuits()) != 0 {
			t.Errorf("private: %v, %v", r, private.n.Circuits())
		}
	})
}

// A reservation whose relay went away is replaced by one on another.
func TestLostRelayIsReplaced(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		var all []stands
		machines := map[peer.ID]*natlab.Machine{}
		for _, name := range []string{"r1", "r2", "r3"} {
			m := lab.Internet().Machine(name, natlab.MachineConfig{})
			all = append(all, run(t, m.Host(host.Config{}), serve.Config{Relay: &relay.Config{}}))
			machines[all[len(all)-1].n.ID()] = m
		}
		node := run(t, behind(lab, "node", natlab.NAT{}), serve.Config{Full: &serve.Full{Fixed: reach.Private}, Peers: infos(all...)})
		defer func() { end(t, append(all, node)...) }()
		var first peer.ID
		on := func(e serve.Event) bool {
			if !reservation("reserved")(e) {
				return false
			}
			first = e.Relay.Relay
			return true
		}
		node.await(t, "first reservation", on)
		node.await(t, "second reservation", on)
		lost := first
		machines[lost].Link().Cut()
		node.await(t, "loss", reservation("lost"))
		took := node.await(t, "third reservation", on)
		if first == lost || took > 10*time.Second {
			t.Errorf("reserved on %s after %s, lost %s", first, took, lost)
		}
	})
}

// TestRelaysAreChosen: a private node reserves on those relays that are near and whose
// circuits carry something, as long as there are enough of them.
func TestRelaysAreChosen(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		var all []stands
		start := func(name string, latency time.Duration, limits relay.Limits) peer.ID {
			m := lab.Internet().Machine(name, natlab.MachineConfig{Link: natlab.LinkConfig{Latency: latency}})
			all = append(all, run(t, m.Host(host.Config{}), serve.Config{Relay: &relay.Config{Limits: limits}}))
			return all[len(all)-1].n.ID()
		}
		const near, far = 5 * time.Millisecond, 100 * time.Millisecond
		good := map[peer.ID]bool{start("near 1", near, relay.Limits{}): true, start("near 2", near, relay.Limits{}): true}
		for i := range 3 {
			start(fmt.Sprint("far ", i), far, relay.Limits{})
			start(fmt.Sprint("short ", i), near, relay.Limits{Duration: 10 * time.Second})
		}
		node := run(t, behind(lab, "node", natlab.NAT{}), serve.Config{Full: &serve.Full{Fixed: reach.Private}, Peers: infos(all...)})
		defer func() { end(t, append(all, node)...) }()
		time.Sleep(time.Minute)
		held := make(map[peer.ID]bool)
		for _, c := range node.n.Circuits() {
			at, _ := addr.RelayOf(c)
			held[at.ID] = true
		}
		if diff := cmp.Diff(good, held); diff != "" {
			t.Error(diff)
		}
	})
}
