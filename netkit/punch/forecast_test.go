package punch_test

import (
	"fmt"
	"testing"

	"dibber/netkit/nat"
	"dibber/netkit/natcheck"
	"dibber/netkit/natlab"
	"dibber/netkit/punch"

	"github.com/libp2p/go-libp2p/core/peer"
)

// TestForecastsComeTrue: for every pair of the grid it is known from the natchecks of both
// whether a punch will succeed: each yes is punched, and each no stays relayed.
func TestForecastsComeTrue(t *testing.T) {
	for _, a := range natlab.Grid() {
		for _, b := range natlab.Grid() {
			t.Run(fmt.Sprintf("%s calls %s", b, a), func(t *testing.T) {
				natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
					g := newVantageGrid(t, lab, a, b, 0)
					at := info(g.relay)
					at.Addrs = at.Addrs[:1]
					stands := func(s side) natcheck.Standing {
						r, err := natcheck.Do(t.Context(), s.Node, natcheck.Config{Servers: []peer.AddrInfo{at}, LookOnly: true})
						if err != nil {
							t.Fatal(err)
						}
						return r.Standing()
					}
					x := natcheck.Expect(stands(g.dialer), stands(g.target))
					g.call(t)
					there, here := g.target.next(t), g.dialer.next(t)
					want := map[nat.Direct]string{nat.Yes: punch.Direct, nat.No: punch.Failed}[x.Direct]
					if here.Outcome != want || there.Outcome != want {
						t.Errorf("forecast %s (%s), but %s here and %s there", x.Direct, x.Why, here.Outcome, there.Outcome)
					}
					if here.Plan == nil || (here.Plan.Method == nat.MethodNone) != (x.Direct == nat.No) {
						t.Errorf("forecast %s, plan %+v", x.Direct, here.Plan)
					}
				})
			})
		}
	}
}
