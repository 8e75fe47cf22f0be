package natcheck

import (
	"net/netip"
	"testing"

	"dibber/netkit/nat"

	"github.com/google/go-cmp/cmp"
)

func TestProvidersNAT(t *testing.T) {
	router := func(external string, double bool) *PortMap {
		return &PortMap{External: new(netip.MustParseAddrPort(external)), DoubleNAT: &double}
	}
	for _, tt := range []struct {
		name    string
		own     string
		nat     *bool
		portmap *PortMap
		want    *bool
	}{
		{"behind a router of which nothing is known", "192.168.0.2", new(true), nil, nil},
		{"no router gave a port", "192.168.0.2", new(true), &PortMap{}, nil},
		{"straight at the provider's NAT", "100.64.0.7", new(true), nil, new(true)},
		{"the router has a shared address", "192.168.0.2", new(true), router("100.127.3.4:9", true), new(true)},
		{"another NAT, but no provider's", "192.168.0.2", new(true), router("10.0.0.3:9", true), nil},
		{"the router is the outside", "192.168.0.2", new(true), router("17.0.0.1:9", false), new(false)},
		{"no NAT", "17.0.0.1", new(false), nil, new(false)},
		{"nothing seen", "192.168.0.2", nil, nil, nil},
	} {
		c := &check{own: []netip.Addr{netip.MustParseAddr(tt.own)}}
		c.r.Families.IP4.UDP, c.r.PortMap = nat.Path{NAT: tt.nat}, tt.portmap
		if diff := cmp.Diff(tt.want, c.cgnat()); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}
