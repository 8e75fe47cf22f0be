package natcheck_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/natcheck"
	"dibber/netkit/natlab"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
)

// TestLifetimeOfMappings: it is found between two steps, or to be longer than was asked
// for, in every kind of NAT and with loss.
func TestLifetimeOfMappings(t *testing.T) {
	for _, kind := range natlab.Grid() {
		for _, tt := range []struct {
			lives, asked time.Duration
			loss         float64
			want         nat.Lifetime
		}{
			{25 * time.Second, 3 * time.Minute, 0, nat.Lifetime{AtLeastS: new(20.0), LessThanS: new(30.0)}},
			{100 * time.Second, natcheck.MaxLifetime, 0.05, nat.Lifetime{AtLeastS: new(90.0), LessThanS: new(120.0)}},
			{100 * time.Second, 50 * time.Second, 0, nat.Lifetime{AtLeastS: new(50.0)}},
			{7 * time.Second, 20 * time.Second, 0, nat.Lifetime{LessThanS: new(10.0)}},
		} {
			t.Run(fmt.Sprintf("%s for %s, asked %s", kind, tt.lives, tt.asked), func(t *testing.T) {
				natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
					kind.Timeout = tt.lives
					link := natlab.LinkConfig{Latency: 10 * time.Millisecond, Loss: tt.loss}
					at := startVantage(t, lab.Internet().Machine("vantage", natlab.MachineConfig{Addresses: 2, Link: link}))
					m := lab.Internet().Router("home", natlab.RouterConfig{NAT: kind}).LAN().Machine("node", natlab.MachineConfig{})
					began := time.Now()
					r, err := run(t, m, natcheck.Config{Servers: []peer.AddrInfo{at}, Lifetime: tt.asked})
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(&tt.want, r.Families.IP4.UDP.Lifetime); diff != "" {
						t.Error(diff)
					}
					if took := time.Since(began); took > tt.asked+natcheck.DefaultLimit {
						t.Errorf("the report came after %s", took)
					}
				})
			})
		}
	}
}

// TestLifetimeOfNothing: it is not looked for where it was not asked for, where there is
// no NAT, and where the time was cut short.
func TestLifetimeOfNothing(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		at := []peer.AddrInfo{startVantage(t, lab.Internet().Machine("vantage", twoAddresses()))}
		home := lab.Internet().Router("home", natlab.RouterConfig{}).LAN()
		r, _ := run(t, home.Machine("unasked", natlab.MachineConfig{}), natcheck.Config{Servers: at})
		if got := r.Families.IP4.UDP.Lifetime; got != nil {
			t.Errorf("%+v, but nobody asked", *got)
		}
		began := time.Now()
		r, _ = run(t, lab.Internet().Machine("open", natlab.MachineConfig{}), natcheck.Config{Servers: at, Lifetime: time.Minute})
		if got := r.Families.IP4.UDP.Lifetime; got != nil || time.Since(began) > natcheck.DefaultLimit {
			t.Errorf("%+v after %s without a NAT", got, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		began = time.Now()
		r, err := natcheck.Do(ctx, home.Machine("hasty", natlab.MachineConfig{}).Host(host.Config{}), natcheck.Config{Servers: at, Lifetime: time.Minute})
		if got := r.Families.IP4.UDP.Lifetime; got != nil || err == nil || time.Since(began) > 16*time.Second {
			t.Errorf("%+v, %v after %s", got, err, time.Since(began))
		}
	})
}
