package serve_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/dial"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/punch"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// events keeps what a server tells, in order.
type events struct {
	mu   sync.Mutex // guards all
	all  []serve.Event
	more chan struct{} // something was added
}

func (ev *events) add(e serve.Event) {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	ev.all = append(ev.all, e)
	select {
	case ev.more <- struct{}{}:
	default:
	}
}

// take removes the first event that fits.
func (ev *events) take(fits func(serve.Event) bool) bool {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	i := slices.IndexFunc(ev.all, fits)
	if i >= 0 {
		ev.all = slices.Delete(ev.all, i, i+1)
	}
	return i >= 0
}

// await returns when an event fits, and how long that took in virtual time.
func (ev *events) await(t *testing.T, what string, fits func(serve.Event) bool) time.Duration {
	t.Helper()
	began := time.Now()
	limit := time.After(5 * time.Minute)
	for !ev.take(fits) {
		select {
		case <-ev.more:
		case <-limit:
			t.Fatalf("no %s within 5 minutes", what)
		}
	}
	return time.Since(began)
}

func start(t *testing.T, n *host.Node, cfg serve.Config) *events {
	t.Helper()
	ev := &events{more: make(chan struct{}, 1)}
	cfg.On = ev.add
	s, err := serve.New(n, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return ev
}

func reservation(kind string) func(serve.Event) bool {
	return func(e serve.Event) bool { return e.Relay != nil && e.Relay.Kind == kind }
}

func registered(e serve.Event) bool {
	return e.Registration != nil && e.Registration.Kind == rendezvous.RegistrarRegistered
}

func info(n *host.Node) peer.AddrInfo { return peer.AddrInfo{ID: n.ID(), Addrs: n.ListenAddrs()} }

// public starts a relay and rendezvous point on the internet.
func public(t *testing.T, lab *natlab.Lab, name string) (*natlab.Machine, *host.Node) {
	t.Helper()
	m := lab.Internet().Machine(name, natlab.MachineConfig{})
	n := m.Host(host.Config{})
	start(t, n, serve.Config{Relay: &relay.Config{}, Rendezvous: &rendezvous.ServerConfig{}})
	return m, n
}

// behind puts a node behind a NAT of its own.
func behind(lab *natlab.Lab, name string, nat natlab.NAT) *host.Node {
	return lab.Internet().Router(name+"-router", natlab.RouterConfig{NAT: nat}).LAN().Machine(name, natlab.MachineConfig{}).Host(host.Config{})
}

// The story of the README behind real NATs: register through the relay, be found,
// be reached relayed, become direct.
func TestPeerBehindNATIsFoundAndPunched(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, server := public(t, lab, "server")
		cone := natlab.NAT{Filtering: natlab.AddressAndPortDependent}
		listener, dialler, asker := behind(lab, "listener", cone), behind(lab, "dialler", cone), behind(lab, "asker", cone)
		ev := start(t, listener, serve.Config{
			Relays:        []peer.AddrInfo{info(server)},
			Registrations: []serve.Registration{{Server: info(server), Namespace: "chat"}},
			Punch:         &punch.Config{},
		})
		ev.await(t, "reservation", reservation("reserved"))
		ev.await(t, "registration", registered)
		time.Sleep(20 * time.Second) // virtual: the registration with the circuit address is up

		// Another node asks: the dialler is as fresh as the command's.
		page, err := rendezvous.DiscoverAll(t.Context(), asker, info(server), rendezvous.DiscoverRequest{Namespace: "chat"})
		if err != nil || len(page.Entries) != 1 {
			t.Fatalf("discover: %v, %+v", err, page)
		}
		relayed := false
		for _, a := range page.Entries[0].Addrs {
			relayed = relayed || addr.IsRelayed(a)
		}
		if !relayed {
			t.Errorf("registered without the circuit: %v", page.Entries[0].Addrs)
		}
		defer punch.New(dialler, punch.Config{}).Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r, err := dial.Do(ctx, dialler, listener.ID(), page.Entries[0].Addrs, dial.Config{UntilDirect: true})
		if err != nil {
			t.Fatal(err)
		}
		if *r.Path != dial.Punched || !r.Upgrade.OK || *r.Upgrade.MS <= 0 || *r.Limited {
			t.Errorf("path %s, upgrade %+v", *r.Path, r.Upgrade)
		}
	})
}

func TestManyClientsBehindOnePublicAddress(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, server := public(t, lab, "server")
		office := lab.Internet().Router("office", natlab.RouterConfig{NAT: natlab.NAT{Ports: natlab.Random}})
		for i := range 24 {
			n := office.LAN().Machine(fmt.Sprintf("desk%d", i), natlab.MachineConfig{}).Host(host.Config{})
			if _, err := relay.Reserve(t.Context(), n, info(server)); err != nil {
				t.Fatalf("client %d: %v", i+1, err)
			}
		}
	})
}

// A rendezvous point that can itself be reached through a relay only.
func TestRendezvousBehindNAT(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, relayNode := public(t, lab, "relay")
		shut := natlab.NAT{Filtering: natlab.AddressAndPortDependent, Mapping: natlab.AddressAndPortDependent}
		point, member, asker := behind(lab, "point", shut), behind(lab, "member", shut), behind(lab, "asker", shut)
		start(t, point, serve.Config{
			Rendezvous: &rendezvous.ServerConfig{}, Relays: []peer.AddrInfo{info(relayNode)},
		}).await(t, "reservation", reservation("reserved"))
		at := peer.AddrInfo{ID: point.ID(), Addrs: point.Circuits()}
		ev := start(t, member, serve.Config{
			Relays:        []peer.AddrInfo{info(relayNode)},
			Registrations: []serve.Registration{{Server: at, Namespace: "chat"}},
		})
		ev.await(t, "registration", registered)
		page, err := rendezvous.DiscoverAll(t.Context(), asker, at, rendezvous.DiscoverRequest{Namespace: "chat"})
		if err != nil || len(page.Entries) != 1 || page.Entries[0].Peer != member.ID() {
			t.Fatalf("discover through the relay: %v %+v", err, page)
		}
		if !addr.IsRelayed(asker.Conns(point.ID())[0].RemoteMultiaddr()) {
			t.Error("the point was reached directly; the test shows nothing")
		}
	})
}

func TestManyNamespacesAtOneServer(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, server := public(t, lab, "server")
		node := behind(lab, "node", natlab.NAT{})
		var cfg serve.Config
		for i := range 20 {
			cfg.Registrations = append(cfg.Registrations, serve.Registration{Server: info(server), Namespace: fmt.Sprintf("room%d", i)})
		}
		ev := start(t, node, cfg)
		for range cfg.Registrations {
			ev.await(t, "registration", registered)
		}
		if ev.take(func(e serve.Event) bool { return e.Registration != nil && e.Registration.Err != nil }) {
			t.Error("registrations of one host get in each other's way")
		}
	})
}

func TestDeadRelayIsNoticedSoon(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		machine, server := public(t, lab, "server")
		ev := start(t, behind(lab, "node", natlab.NAT{}), serve.Config{Relays: []peer.AddrInfo{info(server)}})
		ev.await(t, "reservation", reservation("reserved"))
		machine.Link().Cut()
		if took := ev.await(t, "loss", reservation("lost")); took > 7*time.Second {
			t.Errorf("noticed after %s", took)
		}
	})
}

func TestSeveralRelaysAndServersAtOnce(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, one := public(t, lab, "one")
		_, two := public(t, lab, "two")
		node := behind(lab, "node", natlab.NAT{Filtering: natlab.AddressAndPortDependent})
		var cfg serve.Config
		for _, s := range []*host.Node{one, two} {
			cfg.Relays = append(cfg.Relays, info(s))
			cfg.Registrations = append(cfg.Registrations, serve.Registration{Server: info(s), Namespace: "chat"})
		}
		ev := start(t, node, cfg)
		for range 2 {
			ev.await(t, "reservation", reservation("reserved"))
			ev.await(t, "registration", registered)
		}
		relays := map[string]bool{}
		for _, c := range node.Circuits() {
			before, _ := ma.SplitFunc(c, func(c ma.Component) bool { return c.Protocol().Code == ma.P_P2P })
			relays[before.String()] = true
		}
		if len(relays) != 2 {
			t.Errorf("circuits %v", node.Circuits())
		}
	})
}
