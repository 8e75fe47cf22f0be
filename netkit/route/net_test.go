package route_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/route"

	"github.com/libp2p/go-libp2p/core/peer"
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
		t.Logf("%+v", l)
		for _, s := range steps {
			t.Logf("%+v", s)
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
