package natcheck_test

import (
	"errors"
	"slices"
	"testing"

	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/natcheck"
	"dibber/netkit/natlab"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// TestNoAddressOfTheFamily: where the only family in question is one that the machine has
// no address of, that is said, and nothing of the network.
func TestNoAddressOfTheFamily(t *testing.T) {
	for _, tt := range []struct {
		name   string
		node   natlab.MachineConfig
		keeps  host.Family
		server string
		lacks  string
		advice nat.Advice
	}{
		{"IPv6 by choice", natlab.MachineConfig{}, host.IPv6Only, "/ip4/17.0.9.9/udp/4001/quic-v1", natcheck.IP6, nat.NoIPv6},
		{"IPv6 by the server", natlab.MachineConfig{}, host.BothFamilies, "/ip6/2a00::9/udp/4001/quic-v1", natcheck.IP6, nat.NoIPv6},
		{"IPv4 by the server", natlab.MachineConfig{Families: natlab.IPv6}, host.BothFamilies, "/ip4/17.0.9.9/udp/4001/quic-v1", natcheck.IP4, nat.NoIPv4},
		{"no address in use", natlab.MachineConfig{Families: natlab.DualStack}, host.IPv6Only, "/ip4/17.0.9.9/udp/4001/quic-v1", "", nat.MoreServers},
		{"a silent server", natlab.MachineConfig{}, host.BothFamilies, "/ip4/17.0.9.9/udp/4001/quic-v1", "", nat.MoreServers},
	} {
		t.Run(tt.name, func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				other := lab.Internet().Machine("other", natlab.MachineConfig{}).Host(host.Config{})
				n := lab.Internet().Machine("node", tt.node).Host(host.Config{Family: tt.keeps})
				r, err := natcheck.Do(t.Context(), n, natcheck.Config{Servers: []peer.AddrInfo{{ID: other.ID(), Addrs: []ma.Multiaddr{ma.StringCast(tt.server)}}}})
				var family *natcheck.FamilyError
				if errors.As(err, &family) != (tt.lacks != "") || family != nil && family.Family != tt.lacks {
					t.Errorf("%v, want that %q lacks", err, tt.lacks)
				}
				if errors.Is(err, natcheck.ErrNoAddress) != (tt.name == "no address in use") {
					t.Errorf("%v", err)
				}
				if r.Verdict != nat.Inconclusive || !slices.Equal(r.Advice, []nat.Advice{tt.advice}) {
					t.Errorf("verdict %s, advice %v", r.Verdict, r.Advice)
				}
			})
		})
	}
}
