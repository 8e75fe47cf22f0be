package natcheck_test

import (
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natcheck"
	"dibber/netkit/natlab"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
)

// TestASecondLook: what the first look has written to is no stranger any more, and yet the
// second one says the same.
func TestASecondLook(t *testing.T) {
	for _, kind := range natlab.Grid() {
		t.Run(kind.String(), func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				at := startVantage(t, lab.Internet().Machine("vantage", twoAddresses()))
				n := lab.Internet().Router("home", natlab.RouterConfig{NAT: kind}).LAN().Machine("node", natlab.MachineConfig{}).Host(host.Config{})
				cfg := natcheck.Config{Servers: []peer.AddrInfo{at}}
				first, err := natcheck.Do(t.Context(), n, cfg)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				second, err := natcheck.Do(t.Context(), n, cfg)
				if err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(of(first.Families.IP4.UDP), of(second.Families.IP4.UDP)); diff != "" {
					t.Error(diff)
				}
				if second.Verdict != first.Verdict {
					t.Errorf("%s, at first %s", second.Verdict, first.Verdict)
				}
				if got := second.Families.IP4.UDP.Static; first.Families.IP4.UDP.Static != nil || got == nil || !*got {
					t.Errorf("static %v after one look, %v after two", first.Families.IP4.UDP.Static, got)
				}
			})
		})
	}
}
