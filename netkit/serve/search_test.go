package serve_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/reach"
	"dibber/netkit/route"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// hubs are public full nodes that are servers of one hash table; the first is where others begin.
func hubs(t *testing.T, lab *natlab.Lab, count int) (out []stands) {
	t.Helper()
	for i := range count {
		cfg := serve.Config{Full: &serve.Full{Fixed: reach.Public}, Route: &route.Config{Mode: route.Server}}
		if i > 0 {
			cfg.Route.Boot = infos(out[0])
		}
		n := lab.Internet().Machine(fmt.Sprintf("hub%d", i), natlab.MachineConfig{}).Host(host.Config{})
		out = append(out, run(t, n, cfg))
	}
	return out
}

// relaysOf are those that a node has reserved on.
func relaysOf(n *host.Node) (out []peer.ID) {
	for _, c := range n.Circuits() {
		if id, err := c.ValueForProtocol(ma.P_P2P); err == nil {
			p, _ := peer.Decode(id)
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// A private node that knows one peer of the network finds relays there, and other ones when it loses one.
func TestRelaysFoundInTheNetwork(t *testing.T) {
	t.Parallel()
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		all := hubs(t, lab, 6)
		time.Sleep(3 * time.Minute) // they meet
		shut := run(t, behind(lab, "shut", natlab.NAT{Filtering: natlab.AddressAndPortDependent}), serve.Config{
			Full: &serve.Full{Fixed: reach.Private, FindRelays: true}, Route: &route.Config{Mode: route.Auto, Boot: infos(all[0])},
		})
		defer func() { end(t, append(slices.Clone(all), shut)...) }()
		for range serve.FullReservations {
			shut.await(t, "reservation", reservation("reserved"))
		}
		first := relaysOf(shut.n)
		if len(first) != serve.FullReservations {
			t.Fatalf("reserved on %v", first)
		}
		if m := shut.s.Route().Stats().Mode; m != route.Auto {
			t.Errorf("mode %s", m)
		}
		lost := slices.IndexFunc(all, func(h stands) bool { return h.n.ID() == first[0] })
		if err := all[lost].s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := all[lost].n.Close(); err != nil {
			t.Fatal(err)
		}
		all = slices.Delete(all, lost, lost+1)
		shut.await(t, "another reservation", reservation("reserved"))
		now := relaysOf(shut.n)
		if len(now) != serve.FullReservations || slices.Contains(now, first[0]) {
			t.Errorf("reserved on %v after the loss of %s", now, first[0])
		}
	})
}
