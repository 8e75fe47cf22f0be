package serve_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"dibber/netkit/dial"
	"dibber/netkit/dialback"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/reach"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
)

// TestAddressesSayWhoConfirmedThem: a node behind a NAT that lets everybody in knows its
// own address and the NAT's, and of that who sees it there and who has reached it.
func TestAddressesSayWhoConfirmedThem(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		servers := vantage(t, lab, "one", "two")
		node := run(t, behind(lab, "node", natlab.NAT{}), serve.Config{Full: &serve.Full{}, Peers: infos(servers...)})
		defer func() { end(t, append(servers, node)...) }()
		node.await(t, "verdict", state(reach.Public))
		for _, s := range servers {
			for _, mapped := range node.n.AddrsFor(s.n.ID()) {
				i := slices.IndexFunc(node.s.Addresses(), func(a serve.Address) bool { return a.Addr == mapped.String() })
				if i < 0 {
					t.Fatalf("%s is missing", mapped)
				}
				a := node.s.Addresses()[i]
				if a.Kind == serve.Listening {
					continue
				}
				// Those who dial back may tell what they see, too.
				if a.Kind != serve.Observed || a.SeenBy < 2 || a.Reachability == nil || *a.Reachability != string(reach.Reachable) || a.Asked != 2 || len(a.ConfirmedBy) != 2 {
					t.Errorf("%+v", a)
				}
			}
		}
		i := slices.IndexFunc(node.s.Addresses(), func(a serve.Address) bool { return a.Kind == serve.Listening })
		if i < 0 || node.s.Addresses()[i].Reachability != nil {
			t.Errorf("the address of its own: %+v", node.s.Addresses())
		}
	})
}

// TestOperatorEnds: circuits and peers end by the operator's word, on both sides, and a
// node without the role says so.
func TestOperatorEnds(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		at := run(t, lab.Internet().Machine("relay", natlab.MachineConfig{}).Host(host.Config{}),
			serve.Config{Relay: &relay.Config{}, Rendezvous: &rendezvous.ServerConfig{}})
		far := run(t, behind(lab, "far", natlab.NAT{}), serve.Config{Relays: []peer.AddrInfo{info(at.n)}})
		near := behind(lab, "near", natlab.NAT{})
		defer func() { end(t, at, far) }()
		far.await(t, "reservation", reservation("reserved"))
		held := func(how func(id uint64)) {
			t.Helper()
			_, err := dial.Do(t.Context(), near, far.n.ID(), far.n.Circuits(), dial.Config{RelayOnly: true, Hold: time.Hour, On: func(e dial.Event) {
				if e.Identify == nil {
					return
				}
				list, err := at.s.Circuits()
				if err != nil || len(list) != 1 || list[0].Source != near.ID() || list[0].Destination != far.n.ID() {
					t.Errorf("circuits %+v, %v", list, err)
					return
				}
				how(list[0].ID)
			}})
			if !errors.Is(err, host.ErrCircuitEnded) {
				t.Errorf("the connection ended with %v", err)
			}
		}
		held(func(id uint64) {
			if ok, err := at.s.EndCircuit(id + 1); ok || err != nil {
				t.Errorf("a circuit that is not there: %v, %v", ok, err)
			}
			if ok, err := at.s.EndCircuit(id); !ok || err != nil {
				t.Errorf("%v, %v", ok, err)
			}
		})
		held(func(uint64) {
			if k := at.s.Kick(far.n.ID()); k != (serve.Kicked{Connections: 1, Circuits: 1, Reservation: true}) {
				t.Errorf("%+v", k)
			}
		})
		far.await(t, "loss", reservation("lost"))
		far.await(t, "return", reservation("reserved"))
		if k := at.s.Kick("nobody"); k != (serve.Kicked{}) {
			t.Errorf("%+v", k)
		}
		if got := at.s.Relayed(); got.Closed[relay.ReasonOperator] != 2 || got.Reserved != 2 {
			t.Errorf("%+v", got)
		}
		if list, err := at.s.Reservations(); err != nil || len(list) != 1 || list[0].Peer != far.n.ID() {
			t.Errorf("reservations %+v, %v", list, err)
		}
		peers := at.s.Peers()
		i := slices.IndexFunc(peers, func(p serve.Peer) bool { return p.Peer == far.n.ID() })
		if i < 0 || len(peers[i].Conns) != 1 || peers[i].Conns[0].Direction != "in" || peers[i].Conns[0].Path != "direct" || peers[i].Agent == nil {
			t.Errorf("%+v", peers)
		}

		_, circuits := far.s.Circuits()
		_, reservations := far.s.Reservations()
		_, ending := far.s.EndCircuit(1)
		_, registrations := far.s.Registrations("", 1)
		for _, err := range []error{circuits, reservations, ending} {
			if !errors.Is(err, serve.ErrNoRelay) {
				t.Errorf("of a node that is no relay: %v", err)
			}
		}
		if !errors.Is(registrations, serve.ErrNoRendezvous) || far.s.Relayed() != nil {
			t.Errorf("of a node that is no rendezvous point: %v, %v", registrations, far.s.Relayed())
		}
	})
}

// TestRelayedOutlivesTheRelay: what a full node has relayed counts when it relays no
// more, and when it does again.
func TestRelayedOutlivesTheRelay(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		servers := vantage(t, lab, "one", "two")
		home := lab.Internet().Router("home", natlab.RouterConfig{})
		node := run(t, home.LAN().Machine("node", natlab.MachineConfig{}).Host(host.Config{}),
			serve.Config{Full: &serve.Full{}, DialBack: &dialback.Config{}, Peers: infos(servers...)})
		node.await(t, "relay", role("started", serve.RoleRelay))
		mapped := peer.AddrInfo{ID: node.n.ID(), Addrs: node.n.AddrsFor(servers[0].n.ID())}
		client := run(t, behind(lab, "client", natlab.NAT{}), serve.Config{Relays: []peer.AddrInfo{mapped}})
		defer func() { end(t, append(servers, node, client)...) }()
		client.await(t, "reservation", reservation("reserved"))
		home.SetNAT(natlab.NAT{Filtering: natlab.AddressAndPortDependent})
		node.await(t, "end of the relay", role("stopped", serve.RoleRelay))
		if got := node.s.Relayed(); got == nil || got.Reserved != 1 || got.Reservations != 0 {
			t.Errorf("while it relays no more: %+v", got)
		}
		home.SetNAT(natlab.NAT{})
		node.await(t, "relay, again", role("started", serve.RoleRelay))
		client.await(t, "reservation, again", reservation("reserved"))
		if got := node.s.Relayed(); got == nil || got.Reserved != 2 || got.Reservations != 1 {
			t.Errorf("when it relays again: %+v", got)
		}
	})
}
