package natcheck_test

import (
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/natcheck"
	"dibber/netkit/natlab"

	"github.com/libp2p/go-libp2p/core/peer"
)

// TestUDPOnly: nothing is waited for but the look at UDP, and that says the same.
func TestUDPOnly(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		const oneWay = 10 * time.Millisecond
		link := natlab.LinkConfig{Latency: oneWay}
		at := startVantage(t, lab.Internet().Machine("vantage", natlab.MachineConfig{Addresses: 2, Link: link}))
		n := lab.Internet().Router("home", natlab.RouterConfig{NAT: natlab.Grid()[3], Link: link}).LAN().Machine("node", natlab.MachineConfig{}).Host(host.Config{})
		began := time.Now()
		r, err := natcheck.Do(t.Context(), n, natcheck.Config{Servers: []peer.AddrInfo{at}, UDPOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		kind, known := r.Families.IP4.UDP.Kind()
		if want := (nat.Kind{NAT: true, Mapping: nat.ADM, Filtering: nat.ADF, Pattern: nat.Random}); !known || kind != want {
			t.Errorf("%+v, want %+v", kind, want)
		}
		if took, limit := time.Since(began), 4*4*oneWay+50*time.Millisecond; took > limit {
			t.Errorf("took %s, at most %s is allowed", took, limit)
		}
		if len(r.Addresses) > 0 || len(r.Relays) > 0 {
			t.Errorf("more than a look: %+v %+v", r.Addresses, r.Relays)
		}
	})
}
