package route_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/route"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// node is a host with its part in the network.
type node struct {
	*host.Node
	r *route.Service
}

// start gives a host its part until the test ends.
func start(t *testing.T, n *host.Node, cfg route.Config) node {
	t.Helper()
	r, err := route.New(n, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return node{n, r}
}

func infoOf(n *host.Node) peer.AddrInfo { return peer.AddrInfo{ID: n.ID(), Addrs: n.Addrs()} }

// servers are so many public servers that began with the first of them and know each other.
func servers(t *testing.T, lab *natlab.Lab, count int, cfg route.Config) (out []node) {
	t.Helper()
	cfg.Mode = route.Server
	for i := range count {
		at := lab.Internet().Machine(fmt.Sprintf("server%d", i), natlab.MachineConfig{Link: natlab.LinkConfig{Latency: 5 * time.Millisecond}})
		if i > 0 {
			cfg.Boot = []peer.AddrInfo{infoOf(out[0].Node)}
		}
		n := start(t, at.Host(host.Config{}), cfg)
		if i > 0 {
			if err := n.r.Join(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, _, err := n.r.Walk(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, n)
	}
	return out
}

// client is a host that asks the servers.
func client(t *testing.T, lab *natlab.Lab, cfg route.Config, boot ...node) node {
	t.Helper()
	for _, b := range boot {
		cfg.Boot = append(cfg.Boot, infoOf(b.Node))
	}
	n := start(t, lab.Internet().Machine("client", natlab.MachineConfig{Link: natlab.LinkConfig{Latency: 5 * time.Millisecond}}).Host(host.Config{}), cfg)
	if err := n.r.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFindPeerOverOthers(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		all := servers(t, lab, 6, route.Config{})
		asker := client(t, lab, route.Config{}, all[0])
		var steps []route.Step
		found, l, err := asker.r.FindPeer(t.Context(), all[5].ID(), func(s route.Step) { steps = append(steps, s) })
		if err != nil {
			t.Fatal(err)
		}
		if len(found.Addrs) == 0 || found.ID != all[5].ID() {
			t.Errorf("found %v", found)
		}
		if l.Failed > 0 || l.Hops != 2 || l.Answered < 2 || len(steps) != len(l.Steps) {
			t.Errorf("lookup %+v", l)
		}
		// A round trip takes 20 ms: a dial is one, a question another.
		for _, s := range steps {
			switch {
			case s.Peer == all[5].ID():
				t.Error("who is looked for was dialled")
			case *s.QueryMS != 20 || *s.RTTms != 20 || s.Outcome != route.Answered || *s.Request != "find_node":
				t.Errorf("step %+v", s)
			case s.Peer == all[0].ID() && (s.Hop != 1 || s.ToldBy != nil || s.DialMS != nil):
				t.Errorf("the peer that was known: %+v", s)
			case s.Peer != all[0].ID() && (s.Hop != 2 || *s.ToldBy != all[0].ID() || *s.DialMS != 20):
				t.Errorf("a peer that was named: %+v", s)
			}
		}
	})
}

func TestJoinFails(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		stranger := lab.Internet().Machine("stranger", natlab.MachineConfig{}).Host(host.Config{})
		n := start(t, lab.Internet().Machine("client", natlab.MachineConfig{}).Host(host.Config{}), route.Config{Boot: []peer.AddrInfo{infoOf(stranger)}})
		var failed *route.JoinError
		if err := n.r.Join(t.Context()); !errors.As(err, &failed) || !errors.Is(err, route.ErrNoDHT) {
			t.Errorf("join a peer without the protocol: %v", err)
		}
		other := start(t, lab.Internet().Machine("other", natlab.MachineConfig{}).Host(host.Config{}), route.Config{})
		if err := other.r.Join(t.Context()); !errors.Is(err, route.ErrNoBoot) {
			t.Errorf("join nobody: %v", err)
		}
	})
}

// A network of another kind: the protocol's whole name, no records, as ParallelChain's.
func TestBareProtocolWithoutRecords(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		cfg := route.Config{Protocol: "/pchain_p2p/1.0.0", NoRecords: true, Walk: 10 * time.Second}
		all := servers(t, lab, 3, cfg)
		asker := client(t, lab, cfg, all[0])
		if asker.r.Protocol() != "/pchain_p2p/1.0.0" {
			t.Errorf("protocol %s", asker.r.Protocol())
		}
		if _, _, err := asker.r.FindPeer(t.Context(), all[2].ID(), nil); err != nil {
			t.Error(err)
		}
		if _, _, err := asker.r.Get(t.Context(), "/dibber/x/y", nil); !errors.Is(err, route.ErrOff) {
			t.Errorf("get: %v", err)
		}
		before := all[0].r.Stats().Walks
		time.Sleep(time.Minute)
		if walks := all[0].r.Stats().Walks - before; walks < 5 || walks > 7 {
			t.Errorf("%d walks in a minute at one every 10 s", walks)
		}
	})
}

// A node in mode auto is in others' tables until it learns that it cannot be reached.
func TestAutoMode(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		all := servers(t, lab, 2, route.Config{})
		n := lab.Internet().Machine("auto", natlab.MachineConfig{}).Host(host.Config{})
		auto := start(t, n, route.Config{Mode: route.Auto, Boot: []peer.AddrInfo{infoOf(all[0].Node)}})
		time.Sleep(time.Minute)
		in := func() bool {
			for _, e := range all[0].r.Table() {
				if e.Peer == auto.ID() {
					return true
				}
			}
			return false
		}
		if !in() {
			t.Error("a server is in no table")
		}
		auto.r.Reachable(false)
		time.Sleep(time.Minute)
		if in() {
			t.Error("a client is in the table")
		}
		auto.r.Reachable(true)
		time.Sleep(time.Minute)
		if !in() {
			t.Error("a server again is in no table")
		}
	})
}

// Peers that offer something are found in the network, one of each part of the internet if that is wanted.
func TestOffering(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		const service = "/test/1.0.0"
		all := servers(t, lab, 5, route.Config{})
		for _, n := range all[:4] {
			n.SetStreamHandler(service, func(st network.Stream) { _ = st.Reset() })
		}
		asker := client(t, lab, route.Config{}, all[4])
		found, err := asker.r.Offering(t.Context(), route.Wanted{Protocols: []protocol.ID{service}, Count: 3, Spread: true, Public: true})
		if err != nil || len(found) != 3 {
			t.Fatalf("found %v, %v", found, err)
		}
		for _, p := range found {
			if p.ID == all[4].ID() {
				t.Error("one that does not offer it")
			}
		}
		if _, err := asker.r.Offering(t.Context(), route.Wanted{Protocols: []protocol.ID{"/nobody/1.0.0"}, Count: 1}); !errors.Is(err, route.ErrNotFound) {
			t.Errorf("what nobody offers: %v", err)
		}
	})
}

// When the only peer of the table is gone, the node is told that it is alone, and joins when the peer is back.
func TestJoinsAgain(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		key, _ := newKey(t)
		at := lab.Internet().Machine("boot", natlab.MachineConfig{})
		boot := start(t, at.Host(host.Config{Identity: key}), route.Config{Mode: route.Server})
		var mu sync.Mutex
		var told []route.EventKind
		n := client(t, lab, route.Config{Walk: 10 * time.Second, On: func(e route.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind == route.Joined || e.Kind == route.Alone {
				told = append(told, e.Kind)
			}
		}}, boot)
		time.Sleep(time.Minute)
		if err := errors.Join(boot.r.Close(), boot.Close()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if _, _, err := n.r.Walk(t.Context(), nil); !errors.Is(err, route.ErrNoBoot) {
			t.Errorf("walk among nobody: %v", err)
		}
		start(t, at.Host(host.Config{Identity: key}), route.Config{Mode: route.Server})
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(told, []route.EventKind{route.Joined, route.Alone, route.Joined}) {
			t.Errorf("told %v", told)
		}
	})
}
