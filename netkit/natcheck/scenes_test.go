package natcheck_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"dibber/netkit/dialback"
	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/natcheck"
	"dibber/netkit/natlab"
	"dibber/netkit/relay"
	"dibber/netkit/vantage"

	"github.com/google/go-cmp/cmp"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// known is what a test expects of a path; nil is unknown.
type known struct {
	NAT, OtherPort, Anybody *bool
	Mapping                 *nat.Mapping
	Filtering               *nat.Filtering
}

func of(p nat.Path) known {
	return known{p.NAT, p.LetsOtherPort, p.LetsAnybody, p.Mapping, p.Filtering}
}

// twoAddresses is the machine of a vantage point that can tell everything.
func twoAddresses() natlab.MachineConfig {
	return natlab.MachineConfig{Addresses: 2, Families: natlab.DualStack}
}

func TestAPublicHost(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		at := startVantage(t, lab.Internet().Machine("vantage", twoAddresses()))
		r, err := run(t, lab.Internet().Machine("node", natlab.MachineConfig{}), natcheck.Config{Servers: []peer.AddrInfo{at}})
		if err != nil || r.Verdict != nat.Public {
			t.Errorf("verdict %s, %v", r.Verdict, err)
		}
		if diff := cmp.Diff(known{new(false), new(true), new(true), new(nat.EIM), new(nat.EIF)}, of(r.Families.IP4.UDP)); diff != "" {
			t.Error(diff)
		}
	})
}

// TestBehindTwoNATs: what is seen is the stricter of each.
func TestBehindTwoNATs(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		at := startVantage(t, lab.Internet().Machine("vantage", twoAddresses()))
		carrier := lab.Internet().Router("carrier", natlab.RouterConfig{NAT: natlab.NAT{
			Mapping: natlab.AddressDependent, Filtering: natlab.EndpointIndependent, Ports: natlab.Random,
		}})
		home := carrier.LAN().Router("home", natlab.RouterConfig{NAT: natlab.NAT{Filtering: natlab.AddressAndPortDependent}})
		r, err := run(t, home.LAN().Machine("node", natlab.MachineConfig{}), natcheck.Config{Servers: []peer.AddrInfo{at}})
		if err != nil || r.Verdict != nat.Hard {
			t.Errorf("verdict %s, %v", r.Verdict, err)
		}
		if diff := cmp.Diff(known{new(true), new(false), new(false), new(nat.ADM), new(nat.APDF)}, of(r.Families.IP4.UDP)); diff != "" {
			t.Error(diff)
		}
	})
}

// TestIPv6BehindAFirewall: no translation, and each kind of filter; IPv4 behind a NAT
// is worse, so the verdict is IPv6's.
func TestIPv6BehindAFirewall(t *testing.T) {
	for kind, want := range map[natlab.Dependence]nat.Filtering{
		natlab.EndpointIndependent: nat.EIF, natlab.AddressDependent: nat.ADF, natlab.AddressAndPortDependent: nat.APDF,
	} {
		t.Run(string(want), func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				at := startVantage(t, lab.Internet().Machine("vantage", twoAddresses()))
				home := lab.Internet().Router("home", natlab.RouterConfig{
					NAT: natlab.NAT{Mapping: natlab.AddressAndPortDependent}, IPv6: &natlab.Firewall{Filtering: kind},
				})
				r, err := run(t, home.LAN().Machine("node", natlab.MachineConfig{Families: natlab.DualStack}), natcheck.Config{Servers: []peer.AddrInfo{at}})
				if err != nil {
					t.Fatalf("%v: %s", err, failures(r))
				}
				if got := r.Families.IP6.UDP; got.NAT == nil || *got.NAT || got.Filtering == nil || *got.Filtering != want {
					t.Errorf("nat %v, filtering %v, want none and %s", got.NAT, got.Filtering, want)
				}
				verdict := nat.Firewalled
				if want == nat.EIF {
					verdict = nat.Public
				}
				if r.Verdict != verdict {
					t.Errorf("verdict %s, want %s", r.Verdict, verdict)
				}
				if got := r.Families.IP4.UDP.Mapping; got == nil || *got != nat.APDM {
					t.Errorf("IPv4 mapping %v, want APDM", got)
				}
			})
		})
	}
}

// TestOneAddressTellsLess: what a vantage point with one address cannot know is nil,
// and what it can is not.
func TestOneAddressTellsLess(t *testing.T) {
	tests := []struct {
		nat     natlab.NAT
		want    known
		verdict nat.Verdict
	}{
		{natlab.NAT{}, known{NAT: new(true), OtherPort: new(true)}, nat.Inconclusive},
		{natlab.NAT{Filtering: natlab.AddressDependent}, known{NAT: new(true), OtherPort: new(true)}, nat.Inconclusive},
		{natlab.NAT{Filtering: natlab.AddressAndPortDependent}, known{NAT: new(true), OtherPort: new(false), Anybody: new(false), Filtering: new(nat.APDF)}, nat.Inconclusive},
		{natlab.NAT{Mapping: natlab.AddressAndPortDependent}, known{NAT: new(true), OtherPort: new(true), Mapping: new(nat.APDM)}, nat.Hard},
	}
	for _, tt := range tests {
		t.Run(tt.nat.String(), func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				at := startVantage(t, lab.Internet().Machine("vantage", natlab.MachineConfig{}))
				lan := lab.Internet().Router("home", natlab.RouterConfig{NAT: tt.nat}).LAN()
				r, err := run(t, lan.Machine("node", natlab.MachineConfig{}), natcheck.Config{Servers: []peer.AddrInfo{at}})
				if r.Verdict != tt.verdict || errors.Is(err, natcheck.ErrInconclusive) != (tt.verdict == nat.Inconclusive) {
					t.Errorf("verdict %s, %v; want %s", r.Verdict, err, tt.verdict)
				}
				if diff := cmp.Diff(tt.want, of(r.Families.IP4.UDP)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestAnyPeersTellTheMapping: three of libp2p's own hosts show where they see the
// node; who gets in they do not tell.
func TestAnyPeersTellTheMapping(t *testing.T) {
	for kind, varies := range map[natlab.Dependence]bool{natlab.EndpointIndependent: false, natlab.AddressDependent: true} {
		t.Run(kind.String(), func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				var servers []peer.AddrInfo
				for _, name := range []string{"a", "b", "c"} {
					h := lab.Internet().Machine(name, natlab.MachineConfig{}).Stock()
					servers = append(servers, peer.AddrInfo{ID: h.ID(), Addrs: h.Network().ListenAddresses()})
				}
				lan := lab.Internet().Router("home", natlab.RouterConfig{NAT: natlab.NAT{Mapping: kind, Ports: natlab.Random}}).LAN()
				r, _ := run(t, lan.Machine("node", natlab.MachineConfig{}), natcheck.Config{Servers: servers})
				got := r.Families.IP4.UDP
				if got.MappingVaries == nil || *got.MappingVaries != varies || got.Filtering != nil {
					t.Errorf("mapping varies %v, want %v; filtering %v, want unknown", got.MappingVaries, varies, got.Filtering)
				}
				if (got.Mapping != nil) == varies {
					t.Errorf("mapping %v: one port at each of three addresses tells EIM from the rest, and no more", got.Mapping)
				}
			})
		})
	}
}

// TestWhereUDPIsBlocked: nothing answers, and after the time allowed the report says
// so. With one server it could be the server's fault.
func TestWhereUDPIsBlocked(t *testing.T) {
	for _, servers := range []int{1, 2} {
		natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
			var list []peer.AddrInfo
			for range servers {
				list = append(list, startVantage(t, lab.Internet().Machine("vantage", twoAddresses())))
			}
			lan := lab.Internet().Router("hotel", natlab.RouterConfig{BlockUDP: true}).LAN()
			began := time.Now()
			r, err := run(t, lan.Machine("node", natlab.MachineConfig{}), natcheck.Config{Servers: list})
			want := nat.Inconclusive
			if servers > 1 {
				want = nat.Offline
			}
			if r.Verdict != want || !errors.Is(err, natcheck.ErrUnreachable) {
				t.Errorf("%d servers: verdict %s, %v; want %s", servers, r.Verdict, err, want)
			}
			if took := time.Since(began); took > natcheck.DefaultLimit {
				t.Errorf("report after %s, at most %s is allowed", took, natcheck.DefaultLimit)
			}
			if r.Families.IP4.UDP.NAT != nil {
				t.Error("something is said about the NAT")
			}
		})
	}
}

// TestDialBacksAndRelays: a stock relay and AutoNAT v2 server is asked for both.
func TestDialBacksAndRelays(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		n := lab.Internet().Machine("server", natlab.MachineConfig{}).Host(host.Config{})
		back, err := dialback.New(n, dialback.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = back.Close() })
		serving, err := relay.New(n, relay.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = serving.Close() })
		check := func(m *natlab.Machine) natcheck.Result {
			// A server's dial takes 10 s to fail, and more than a report has time for.
			r, _ := run(t, m, natcheck.Config{Servers: []peer.AddrInfo{first(n)}, Limit: 20 * time.Second})
			return r
		}
		open := check(lab.Internet().Machine("open", natlab.MachineConfig{}))
		i := slices.IndexFunc(open.Addresses, func(a natcheck.Address) bool { return a.Kind == "public" })
		if i < 0 || open.Addresses[i].Reachability != natcheck.Reachable || !slices.Equal(open.Addresses[i].ConfirmedBy, []peer.ID{n.ID()}) {
			t.Errorf("addresses %+v: the public one is not confirmed", open.Addresses)
		}
		if got := open.Families.IP4.UDP.LetsOtherPort; got == nil || !*got {
			t.Error("a dial-back got in, but another port is not known to")
		}
		if len(open.Relays) != 1 || open.Relays[0].Reservation == nil || !*open.Relays[0].Reservation || open.Relays[0].Limits == nil {
			t.Errorf("relays %+v: no reservation", open.Relays)
		}
		closed := check(lab.Internet().Router("home", natlab.RouterConfig{NAT: natlab.NAT{Filtering: natlab.AddressAndPortDependent}}).LAN().
			Machine("closed", natlab.MachineConfig{}))
		i = slices.IndexFunc(closed.Addresses, func(a natcheck.Address) bool { return a.Observed })
		if i < 0 || closed.Addresses[i].Reachability != natcheck.Unreachable || closed.Addresses[i].Asked == nil || *closed.Addresses[i].Asked != 1 || !slices.Equal(closed.Addresses[i].KeptOut, []peer.ID{n.ID()}) {
			t.Errorf("addresses %+v: the observed one is not known to be unreachable", closed.Addresses)
		}
		if got := closed.Families.IP4.UDP.LetsOtherPort; got != nil {
			t.Error("that a server's dial failed may be its own fault, but was taken for a filter")
		}
		for _, a := range closed.Addresses {
			if a.Kind == "private" && (a.Asked != nil || a.Reachability != natcheck.Unknown) {
				t.Errorf("%s was asked about: %+v", a.Addr, a)
			}
		}
	})
}

// TestALiarAmongSeveral: one vantage point that shows wrong endpoints and sends no
// probes changes nothing that two others agree on.
func TestALiarAmongSeveral(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		servers := []peer.AddrInfo{
			startVantage(t, lab.Internet().Machine("a", twoAddresses())),
			startVantage(t, lab.Internet().Machine("b", twoAddresses())),
		}
		liar := startLiar(t, lab.Internet().Machine("liar", twoAddresses()))
		servers = append(servers, liar)
		lan := lab.Internet().Router("home", natlab.RouterConfig{NAT: natlab.NAT{Filtering: natlab.AddressDependent}}).LAN()
		r, err := run(t, lan.Machine("node", natlab.MachineConfig{}), natcheck.Config{Servers: servers})
		if err != nil || r.Verdict != nat.Easy {
			t.Errorf("verdict %s, %v", r.Verdict, err)
		}
		got := r.Families.IP4.UDP
		if diff := cmp.Diff(known{new(true), new(true), new(false), new(nat.EIM), new(nat.ADF)}, of(got)); diff != "" {
			t.Error(diff)
		}
		if len(got.Observed) != 1 || !slices.Equal(got.Disputed, []string{liar.ID.String()}) || !slices.Contains(r.Advice, nat.ServerDisputed) {
			t.Errorf("observed %v, disputed %v, advice %v", got.Observed, got.Disputed, r.Advice)
		}
	})
}

// startLiar is a host that tells everybody over the vantage protocol that it is seen
// at an address of the liar's choice.
func startLiar(t *testing.T, m *natlab.Machine) peer.AddrInfo {
	t.Helper()
	n := m.Host(host.Config{})
	s, err := vantage.New(n, vantage.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	// The kind of request and the answer's first field, from vantage/doc.go: an
	// endpoint of 17.255.255.1, port 9, and no sites.
	lie := []byte{8, 0x0a, 6, 17, 255, 255, 1, 0, 9}
	corehost.Host(n).SetStreamHandler(vantage.Protocol, func(st network.Stream) {
		_, _ = st.Read(make([]byte, 64))
		_, _ = st.Write(lie)
		_ = st.Close()
	})
	corehost.Host(n).RemoveStreamHandler("/ipfs/id/1.0.0") // and it keeps silent otherwise
	return first(n)
}

// TestTheEndOfTheContext ends a check at once.
func TestTheEndOfTheContext(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		m := lab.Internet().Machine("gone", natlab.MachineConfig{})
		at := startVantage(t, m)
		m.Link().Cut()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := natcheck.Do(ctx, lab.Internet().Machine("node", natlab.MachineConfig{}).Host(host.Config{}), natcheck.Config{Servers: []peer.AddrInfo{at}})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 1100*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// TestAStrangerIsNoAcquaintance: an AutoNAT server gets in where only addresses that
// were written to do, and takes that for public. A vantage point's other address shows
// that it is not.
func TestAStrangerIsNoAcquaintance(t *testing.T) {
	for filtering, want := range map[natlab.Dependence]string{
		natlab.EndpointIndependent: natcheck.Reachable, natlab.AddressDependent: natcheck.Unreachable,
	} {
		t.Run(filtering.String(), func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				n := lab.Internet().Machine("server", natlab.MachineConfig{Addresses: 2}).Host(host.Config{})
				v, err := vantage.New(n, vantage.Config{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = v.Close() })
				back, err := dialback.New(n, dialback.Config{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = back.Close() })
				lan := lab.Internet().Router("home", natlab.RouterConfig{NAT: natlab.NAT{Filtering: filtering}}).LAN()
				r, err := run(t, lan.Machine("node", natlab.MachineConfig{}), natcheck.Config{Servers: []peer.AddrInfo{first(n)}})
				if err != nil {
					t.Fatal(err)
				}
				i := slices.IndexFunc(r.Addresses, func(a natcheck.Address) bool { return a.Observed })
				// Where it is known that strangers do not get in, nobody is asked.
				if got := r.Addresses[i]; got.Reachability != want || (got.Asked != nil) != (want == natcheck.Reachable) || len(got.ConfirmedBy) > 0 != (want == natcheck.Reachable) || len(got.KeptOut) > 0 != (want != natcheck.Reachable) {
					t.Errorf("%+v, want %s", got, want)
				}
			})
		})
	}
}
