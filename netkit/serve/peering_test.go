package serve_test

import (
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/peering"
	"dibber/netkit/punch"
	"dibber/netkit/rendezvous"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
)

// about fits events of a found peer.
func about(kind peering.EventKind, n *host.Node) func(serve.Event) bool {
	return func(e serve.Event) bool { return e.Found != nil && e.Found.Kind == kind && e.Found.Peer == n.ID() }
}

// Two nodes behind NATs that know nothing but a server: they find each other, become
// direct, and get each other back after an outage.
func TestNodesBehindNATsJoinByThemselves(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, server := public(t, lab, "server")
		var nodes []*host.Node
		var evs []*events
		var routers []*natlab.Router
		for _, name := range []string{"a", "b"} {
			r := lab.Internet().Router(name+"-router", natlab.RouterConfig{NAT: natlab.NAT{Filtering: natlab.AddressAndPortDependent}})
			n := r.LAN().Machine(name, natlab.MachineConfig{}).Host(host.Config{})
			nodes, routers = append(nodes, n), append(routers, r)
			evs = append(evs, start(t, n, serve.Config{
				Relays:        []peer.AddrInfo{info(server)},
				Registrations: []serve.Registration{{Server: info(server), Namespace: "chat"}},
				Punch:         &punch.Config{},
				Peering:       &peering.Config{},
			}))
		}
		direct := func(e serve.Event) bool {
			return e.Found != nil && e.Found.Kind == peering.Connected && e.Found.Path == addr.PathDirect
		}
		evs[0].await(t, "direct connection", direct)
		evs[1].await(t, "direct connection", direct)
		time.Sleep(time.Minute) // virtual: the relayed connection is closed, if there was one
		if conns := nodes[0].Conns(nodes[1].ID()); len(conns) != 1 {
			t.Errorf("connections %v", conns)
		}
		routers[0].Link().Cut()
		for i, other := range []*host.Node{nodes[1], nodes[0]} {
			if took := evs[i].await(t, "loss", about(peering.Lost, other)); took > 10*time.Second {
				t.Errorf("noticed after %s", took)
			}
		}
		time.Sleep(2 * time.Minute) // virtual
		routers[0].Link().Restore()
		for i, other := range []*host.Node{nodes[1], nodes[0]} {
			if took := evs[i].await(t, "connection", about(peering.Connected, other)); took > 10*time.Second {
				t.Errorf("connected %s after the outage", took)
			}
		}
	})
}

// The servers of a node and the peers that it is told to stay connected to are not also
// found and dialled.
func TestPeersKeptOtherwiseAreNotFound(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, server := public(t, lab, "server")
		_, relayNode := public(t, lab, "relay")
		_, told := public(t, lab, "told")
		_, met := public(t, lab, "met")
		chat := func(at *host.Node) []serve.Registration {
			return []serve.Registration{{Server: info(at), Namespace: "chat"}}
		}
		for _, n := range []*host.Node{relayNode, told, met} {
			start(t, n, serve.Config{Registrations: chat(server)})
		}
		time.Sleep(time.Second) // virtual: they are registered
		ev := start(t, behind(lab, "node", natlab.NAT{}), serve.Config{
			Relays: []peer.AddrInfo{info(relayNode)}, Peers: []peer.AddrInfo{info(told)}, Registrations: chat(server), Peering: &peering.Config{},
		})
		ev.await(t, "connection", about(peering.Connected, met))
		time.Sleep(time.Minute) // virtual
		if ev.take(func(e serve.Event) bool { return e.Found != nil && e.Found.Peer != met.ID() }) {
			t.Error("found one that is kept otherwise")
		}
	})
}

// One that only registers looks for nobody, but those who find it keep it.
func TestRegisteredNodeThatDoesNotConnect(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, server := public(t, lab, "server")
		at := []serve.Registration{{Server: info(server), Namespace: "chat", Format: rendezvous.FormatAuto}}
		still := lab.Internet().Machine("still", natlab.MachineConfig{}).Host(host.Config{})
		evStill := start(t, still, serve.Config{Registrations: at})
		evStill.await(t, "registration", registered)
		seeker := lab.Internet().Machine("seeker", natlab.MachineConfig{}).Host(host.Config{})
		start(t, seeker, serve.Config{Registrations: at, Peering: &peering.Config{}}).await(t, "connection", about(peering.Connected, still))
		if evStill.take(func(e serve.Event) bool { return e.Found != nil }) {
			t.Error("looked for peers")
		}
	})
}
