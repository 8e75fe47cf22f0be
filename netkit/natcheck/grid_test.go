package natcheck_test

import (
	"fmt"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/natcheck"
	"dibber/netkit/natlab"
	"dibber/netkit/vantage"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
)

// startVantage starts a vantage point with so many addresses and says how it is
// reached: at the first of them.
func startVantage(t *testing.T, m *natlab.Machine) peer.AddrInfo {
	t.Helper()
	n := m.Host(host.Config{})
	s, err := vantage.New(n, vantage.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return first(n)
}

// first is a node under the first of its addresses.
func first(n *host.Node) peer.AddrInfo {
	return peer.AddrInfo{ID: n.ID(), Addrs: n.ListenAddrs()[:1]}
}

// run checks from a machine.
func run(t *testing.T, m *natlab.Machine, cfg natcheck.Config) (natcheck.Result, error) {
	t.Helper()
	return natcheck.Do(t.Context(), m.Host(host.Config{}), cfg)
}

// mappings, filterings and patterns are natlab's words in those of nat.
func words(n natlab.NAT) (nat.Mapping, nat.Filtering, nat.Pattern) {
	m := map[natlab.Dependence]nat.Mapping{natlab.EndpointIndependent: nat.EIM, natlab.AddressDependent: nat.ADM, natlab.AddressAndPortDependent: nat.APDM}
	f := map[natlab.Dependence]nat.Filtering{natlab.EndpointIndependent: nat.EIF, natlab.AddressDependent: nat.ADF, natlab.AddressAndPortDependent: nat.APDF}
	p := map[natlab.Ports]nat.Pattern{natlab.Preserved: nat.Preserved, natlab.Sequential: nat.Sequential, natlab.Random: nat.Random}
	return m[n.Mapping], f[n.Filtering], p[n.Ports]
}

// verdictOf is what a NAT of these kinds makes of a node.
func verdictOf(m nat.Mapping, f nat.Filtering) nat.Verdict {
	switch {
	case m != nat.EIM:
		return nat.Hard
	case f == nat.APDF:
		return nat.PortRestricted
	default:
		return nat.Easy
	}
}

// TestEveryKindIsTold runs a check behind a NAT of every mapping, filtering, way of
// choosing ports and treatment of what comes unasked, with and without loss.
func TestEveryKindIsTold(t *testing.T) {
	const oneWay = 10 * time.Millisecond // of each link; two of them on the way
	for _, ports := range []natlab.Ports{natlab.Preserved, natlab.Sequential, natlab.Random} {
		for _, kind := range natlab.Kinds(ports) {
			for _, unasked := range []natlab.Unsolicited{natlab.Drop, natlab.Reject, natlab.Poison} {
				for _, loss := range []float64{0, 0.05} {
					kind.Unsolicited = unasked
					kind.Hairpin = ports == natlab.Sequential
					t.Run(fmt.Sprintf("%s %s %s loss %v", kind, ports, unasked, loss), func(t *testing.T) {
						natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
							link := natlab.LinkConfig{Latency: oneWay, Loss: loss}
							at := startVantage(t, lab.Internet().Machine("vantage", natlab.MachineConfig{Addresses: 2, Link: link}))
							lan := lab.Internet().Router("home", natlab.RouterConfig{NAT: kind, Link: link}).LAN()
							var took time.Duration
							r, err := run(t, lan.Machine("node", natlab.MachineConfig{}), natcheck.Config{
								Servers: []peer.AddrInfo{at},
								On: func(e natcheck.Event) {
									if e.Path != nil {
										took = time.Duration(e.Path.MS * float64(time.Millisecond))
									}
								},
							})
							if err != nil {
								t.Fatalf("%v: %s", err, failures(r))
							}
							m, f, p := words(kind)
							got := r.Families.IP4.UDP
							if diff := cmp.Diff([]any{new(true), new(true), &m, &f, &p}, []any{got.Works, got.NAT, got.Mapping, got.Filtering, got.PortPattern}); diff != "" {
								t.Error(diff)
							}
							if want := verdictOf(m, f); r.Verdict != want {
								t.Errorf("verdict %s, want %s", r.Verdict, want)
							}
							if m == nat.EIM && loss == 0 {
								if diff := cmp.Diff(hairpinOf(kind), got.Hairpin); diff != "" {
									t.Errorf("hairpin: %s", diff)
								}
							}
							if limit := 2*4*oneWay + 50*time.Millisecond; loss == 0 && took > limit {
								t.Errorf("took %s after the vantage point's answer, at most %s is allowed", took, limit)
							}
						})
					})
				}
			}
		}
	}
}

// hairpinOf is what can be known of a hairpin where the mapping is steady. With a
// filter that wants the endpoint itself, a NAT that remembers what came unasked moves
// the answer to another port, and looks like one without a hairpin.
func hairpinOf(n natlab.NAT) *bool {
	strict := n.Filtering == natlab.AddressAndPortDependent
	if strict && (!n.Hairpin || n.Unsolicited == natlab.Poison) {
		return nil
	}
	return new(n.Hairpin)
}

// failures are what the servers' errors say.
func failures(r natcheck.Result) (out []string) {
	for _, s := range r.Servers {
		if s.Error != nil {
			out = append(out, *s.Error)
		}
	}
	return out
}
