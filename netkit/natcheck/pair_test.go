package natcheck_test

import (
	"testing"

	"dibber/netkit/nat"
	"dibber/netkit/natcheck"
	"dibber/netkit/natlab"

	"github.com/libp2p/go-libp2p/core/peer"
)

// TestPairsFromRealReports: what checks behind every kind of NAT of the grid report is
// enough to say of every pair whether it can be joined.
func TestPairsFromRealReports(t *testing.T) {
	var all []nat.Standing
	for range 2 { // so that two nodes of a kind are not one node
		for _, kind := range natlab.Grid() {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				at := startVantage(t, lab.Internet().Machine("vantage", natlab.MachineConfig{Addresses: 2}))
				for range len(all) { // each lab begins with the same addresses
					lab.Internet().Router("other", natlab.RouterConfig{})
				}
				lan := lab.Internet().Router("home", natlab.RouterConfig{NAT: kind}).LAN()
				r, err := run(t, lan.Machine("node", natlab.MachineConfig{}), natcheck.Config{Servers: []peer.AddrInfo{at}})
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, nat.Standing{Families: r.Families})
			})
		}
	}
	kinds := len(all) / 2
	yes := 0
	for i, a := range all[:kinds] {
		for j, b := range all[kinds:] {
			got := nat.Expect(a, b)
			hopeless := i == kinds-1 && j >= kinds-2 || j == kinds-1 && i >= kinds-2
			want := nat.Yes
			if hopeless {
				want = nat.No
			}
			if got.Direct != want {
				t.Errorf("%s and %s: %+v", natlab.Grid()[i], natlab.Grid()[j], got)
			}
			if got.Direct == nat.Yes {
				yes++
			}
		}
	}
	if yes != 33 {
		t.Errorf("%d of %d pairs", yes, kinds*kinds)
	}
}
