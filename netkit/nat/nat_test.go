package nat_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"dibber/netkit/nat"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// box is a NAT by the book: it gives each flow that its mapping tells apart a port.
type box struct {
	mapping nat.Mapping
	outside netip.Addr
	ports   map[string]uint16
}

func (b *box) send(local, remote netip.AddrPort) netip.AddrPort {
	key := local.String()
	switch b.mapping {
	case nat.ADM:
		key += remote.Addr().String()
	case nat.APDM:
		key += remote.String()
	case nat.EIM:
	}
	if b.ports[key] == 0 {
		b.ports[key] = uint16(20000 + 7*len(b.ports))
	}
	return netip.AddrPortFrom(b.outside, b.ports[key])
}

func endpoint(net, host, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{17, 0, byte(net), byte(host)}), uint16(port))
}

// looks are sights of one socket from servers with so many addresses and ports.
func looks(b *box, servers, addresses, ports int) []nat.Sight {
	local := netip.MustParseAddrPort("10.0.0.2:4001")
	var out []nat.Sight
	for s := range servers {
		for a := range addresses {
			for p := range ports {
				remote := endpoint(s, a+1, 4001+p)
				out = append(out, nat.Sight{Server: fmt.Sprint("server ", s), Local: local, Remote: remote, Observed: b.send(local, remote)})
			}
		}
	}
	return out
}

func newBox(m nat.Mapping) *box {
	return &box{m, netip.MustParseAddr("17.9.9.9"), make(map[string]uint16)}
}

// TestMappings: whatever the vantage points have, a mapping that is told is the true
// one, and it is told when they have enough.
func TestMappings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		truth := rapid.SampledFrom([]nat.Mapping{nat.EIM, nat.ADM, nat.APDM}).Draw(t, "mapping")
		servers := rapid.IntRange(1, 4).Draw(t, "servers")
		addresses := rapid.IntRange(1, 3).Draw(t, "addresses")
		ports := rapid.IntRange(1, 3).Draw(t, "ports")
		all := looks(newBox(truth), servers, addresses, ports)
		seen := rapid.Permutation(all).Draw(t, "order")
		p := nat.Classify(nat.Evidence{Sights: seen})
		if p.Mapping != nil && *p.Mapping != truth {
			t.Fatalf("%s told as %s", truth, *p.Mapping)
		}
		if p.MappingVaries != nil && *p.MappingVaries != (truth != nat.EIM) {
			t.Fatalf("%s: varies %v", truth, *p.MappingVaries)
		}
		if len(p.Disputed) > 0 {
			t.Fatalf("%s: honest servers %v are disputed", truth, p.Disputed)
		}
		several, severalPorts := servers*addresses > 1, ports > 1
		told := several && (truth == nat.EIM || severalPorts) || truth == nat.APDM && severalPorts
		if (p.Mapping != nil) != told {
			t.Fatalf("%s with %d servers of %d addresses and %d ports: told %v, want %v", truth, servers, addresses, ports, p.Mapping != nil, told)
		}
	})
}

// TestLiars: servers in the minority, who may show any endpoints, change nothing where
// the mapping is endpoint-independent; and whoever is disputed is one of them.
func TestLiars(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		honest := rapid.IntRange(2, 4).Draw(t, "honest")
		liars := rapid.IntRange(1, honest-1).Draw(t, "liars")
		seen := looks(newBox(nat.EIM), honest, 2, 2)
		local := seen[0].Local
		for l := range liars {
			for i := range rapid.IntRange(1, 4).Draw(t, "lies") {
				seen = append(seen, nat.Sight{
					Server: fmt.Sprint("liar ", l), Local: local, Remote: endpoint(100+l, i%2+1, 4001+i),
					Observed: endpoint(200, rapid.IntRange(1, 3).Draw(t, "host"), rapid.IntRange(1, 9).Draw(t, "port")),
				})
			}
		}
		p := nat.Classify(nat.Evidence{Sights: rapid.Permutation(seen).Draw(t, "order")})
		if p.Mapping == nil || *p.Mapping != nat.EIM || len(p.Observed) != 1 || len(p.Disputed) != liars {
			t.Fatalf("mapping %v, observed %v, disputed %v of %d liars", p.Mapping, p.Observed, p.Disputed, liars)
		}
	})
}

// TestNoTranslation: the machine's own endpoint everywhere is no NAT; the same address
// with another port is one.
func TestNoTranslation(t *testing.T) {
	local := netip.MustParseAddrPort("0.0.0.0:4001")
	own := []netip.Addr{netip.MustParseAddr("17.1.1.1")}
	see := func(observed string) nat.Path {
		return nat.Classify(nat.Evidence{Own: own, Sights: []nat.Sight{{
			Server: "s", Local: local, Remote: endpoint(1, 1, 4001), Observed: netip.MustParseAddrPort(observed),
		}}})
	}
	if p := see("17.1.1.1:4001"); *p.NAT || *p.Mapping != nat.EIM || !*p.PortPreserved {
		t.Errorf("%+v: no translation was taken for one", p)
	}
	if p := see("17.1.1.1:5001"); !*p.NAT || p.Mapping != nil || *p.PortPreserved {
		t.Errorf("%+v: a translated port was overlooked", p)
	}
}

func TestFilters(t *testing.T) {
	came := func(isKnown bool) nat.Trial { return nat.Trial{Known: isKnown, Came: true} }
	not := func(isKnown, sure bool) nat.Trial { return nat.Trial{Known: isKnown, Sure: sure} }
	yes, no := new(true), new(false)
	tests := []struct {
		name            string
		trials          []nat.Trial
		want            *nat.Filtering
		otherPort, anyb *bool
	}{
		{"nothing tried", nil, nil, nil, nil},
		{"a stranger got in", []nat.Trial{came(false)}, new(nat.EIF), yes, yes},
		{"an acquaintance got in", []nat.Trial{came(true)}, nil, yes, nil},
		{"only an acquaintance got in", []nat.Trial{came(true), not(false, true)}, new(nat.ADF), yes, no},
		{"nobody got in", []nat.Trial{not(true, true), not(false, true)}, new(nat.APDF), no, no},
		{"no acquaintance, so no stranger", []nat.Trial{not(true, true)}, new(nat.APDF), no, no},
		{"no stranger, and of acquaintances nothing is known", []nat.Trial{not(false, true)}, nil, nil, no},
		{"lost on the way", []nat.Trial{not(true, false), not(false, false)}, nil, nil, nil},
		{"one says that it tried, another got in", []nat.Trial{not(false, true), not(true, true), came(false)}, new(nat.EIF), yes, yes},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := nat.Classify(nat.Evidence{Trials: tt.trials})
			if diff := cmp.Diff([]any{tt.want, tt.otherPort, tt.anyb}, []any{p.Filtering, p.LetsOtherPort, p.LetsAnybody}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPatterns(t *testing.T) {
	sample := func(inside, outside uint16) nat.Sight {
		return nat.Sight{Local: netip.AddrPortFrom(netip.IPv4Unspecified(), inside), Observed: endpoint(1, 1, int(outside))}
	}
	tests := []struct {
		name    string
		samples []nat.Sight
		want    *nat.Pattern
	}{
		{"none", nil, nil},
		{"too few", []nat.Sight{sample(1000, 1000), sample(1001, 1001)}, nil},
		{"the inside port", []nat.Sight{sample(1000, 1000), sample(1010, 1010), sample(1020, 1020)}, new(nat.Preserved)},
		{"one was taken", []nat.Sight{sample(1000, 1000), sample(1010, 1011), sample(1020, 1020)}, new(nat.Preserved)},
		{"in order", []nat.Sight{sample(1000, 40000), sample(1010, 40001), sample(1020, 40003)}, new(nat.Sequential)},
		{"downwards", []nat.Sight{sample(1000, 40003), sample(1010, 40002), sample(1020, 40000)}, new(nat.Sequential)},
		{"any", []nat.Sight{sample(1000, 40000), sample(1010, 1999), sample(1020, 40003)}, new(nat.Random)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, nat.Classify(nat.Evidence{Samples: tt.samples}).PortPattern); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// path is a path of which all is known.
func path(translated bool, m nat.Mapping, f nat.Filtering) nat.Path {
	return nat.Path{
		Works: new(true), NAT: &translated, Mapping: &m, Filtering: &f, MappingVaries: new(m != nat.EIM),
		LetsOtherPort: new(f != nat.APDF), LetsAnybody: new(f == nat.EIF), PortPattern: new(nat.Random),
	}
}

func TestVerdicts(t *testing.T) {
	yes, no := nat.Path{Works: new(true)}, nat.Path{Works: new(false)}
	tests := []struct {
		name string
		f    nat.Families
		want nat.Verdict
	}{
		{"nothing", nat.Families{}, nat.Inconclusive},
		{"open", nat.Families{IP4: nat.Transports{UDP: path(false, nat.EIM, nat.EIF)}}, nat.Public},
		{"firewall", nat.Families{IP4: nat.Transports{UDP: path(false, nat.EIM, nat.ADF)}}, nat.Firewalled},
		{"full cone", nat.Families{IP4: nat.Transports{UDP: path(true, nat.EIM, nat.EIF)}}, nat.Easy},
		{"restricted cone", nat.Families{IP4: nat.Transports{UDP: path(true, nat.EIM, nat.ADF)}}, nat.Easy},
		{"port-restricted cone", nat.Families{IP4: nat.Transports{UDP: path(true, nat.EIM, nat.APDF)}}, nat.PortRestricted},
		{"symmetric", nat.Families{IP4: nat.Transports{UDP: path(true, nat.APDM, nat.EIF)}}, nat.Hard},
		{"the better family", nat.Families{IP4: nat.Transports{UDP: path(true, nat.ADM, nat.EIF)}, IP6: nat.Transports{UDP: path(false, nat.EIM, nat.APDF)}}, nat.Firewalled},
		{"TCP alone", nat.Families{IP4: nat.Transports{UDP: no, TCP: yes}}, nat.UDPBlocked},
		{"TCP, and UDP unasked", nat.Families{IP4: nat.Transports{TCP: yes}}, nat.Inconclusive},
		{"UDP of one family", nat.Families{IP4: nat.Transports{UDP: no, TCP: yes}, IP6: nat.Transports{UDP: yes}}, nat.Inconclusive},
		{"neither", nat.Families{IP4: nat.Transports{UDP: no, TCP: no}}, nat.Offline},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.f.Verdict(); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// TestForecasts holds the forecasts against what was punched (33 of the 36 pairs of
// these six kinds).
func TestForecasts(t *testing.T) {
	six := nat.Kinds()[2:]
	var impossible []string
	for _, a := range six {
		for _, b := range six {
			got, _ := nat.Between(a, b)
			if back, _ := nat.Between(b, a); back != got {
				t.Errorf("%s with %s: %s, the other way round %s", a.Name, b.Name, got, back)
			}
			if got != nat.Yes {
				impossible = append(impossible, a.Name+" with "+b.Name+": "+string(got))
			}
		}
	}
	want := []string{
		"APDM/APDF sequential with APDM/APDF random: no",
		"APDM/APDF random with APDM/APDF sequential: no",
		"APDM/APDF random with APDM/APDF random: no",
	}
	if diff := cmp.Diff(want, impossible); diff != "" {
		t.Error(diff)
	}
}

// TestForecastsOfLittle: what is not known of the node makes no forecast, but for peers
// that anybody reaches.
func TestForecastsOfLittle(t *testing.T) {
	got := nat.Families{IP4: nat.Transports{UDP: nat.Path{Works: new(true)}}}.Forecasts()
	for _, f := range got {
		open := slices.Contains([]string{"public", "EIM/EIF"}, f.Peer)
		if open != (f.Direct == nat.Yes) || !open && f.Why != nat.WhyTooLittle {
			t.Errorf("%+v", f)
		}
	}
	blocked := nat.Families{IP4: nat.Transports{UDP: nat.Path{Works: new(false)}, TCP: nat.Path{Works: new(false)}}}.Forecasts()
	if i := slices.IndexFunc(blocked, func(f nat.Forecast) bool { return f.Direct != nat.No || f.Why != nat.WhyUDPBlocked }); i >= 0 {
		t.Errorf("%+v without UDP and TCP", blocked[i])
	}
}

// TestForecastsWithoutUDP: where only TCP gets out, TCP decides, and has neither many nor
// predicted ports. Where nobody looked at UDP it is the same.
func TestForecastsWithoutUDP(t *testing.T) {
	for name, udp := range map[string]nat.Path{"blocked": {Works: new(false)}, "not looked at": {}} {
		tcp := path(true, nat.EIM, nat.APDF)
		tcp.Works = new(true)
		for _, f := range (nat.Families{IP4: nat.Transports{UDP: udp, TCP: tcp}}).Forecasts() {
			want := nat.Yes
			if slices.Contains([]string{"ADM/ADF", "APDM/APDF sequential", "APDM/APDF random"}, f.Peer) {
				want = nat.No
			}
			if f.Direct != want || f.Transport == nil || *f.Transport != "tcp" || *f.Family != "ip4" {
				t.Errorf("UDP %s: %s with %s: %s, %v", name, f.Direct, f.Peer, f.Why, f.Transport)
			}
		}
	}
}

func TestStatic(t *testing.T) {
	at := func(ip string) nat.Families {
		return nat.Families{IP4: nat.Transports{UDP: nat.Path{Observed: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(ip), 1)}}}}
	}
	once := at("17.0.0.1")
	again := at("17.0.0.1").After(once)
	moved := at("17.0.0.2").After(again)
	back := at("17.0.0.2").After(moved)
	got := []*bool{once.IP4.UDP.Static, again.IP4.UDP.Static, moved.IP4.UDP.Static, back.IP4.UDP.Static, back.IP6.UDP.Static}
	if diff := cmp.Diff([]*bool{nil, new(true), new(false), new(false), nil}, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

// TestWhoGotInBefore: whether strangers get in is taken from an earlier look where the node
// is seen at the same address and nothing speaks against it.
func TestWhoGotInBefore(t *testing.T) {
	look := func(f nat.Filtering, at string) nat.Path {
		p := path(true, nat.EIM, f)
		p.Observed = []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(at), 1)}
		return p
	}
	for _, tt := range []struct {
		name string
		was  nat.Path
		want *nat.Filtering
	}{
		{"the same", look(nat.ADF, "17.0.0.1"), new(nat.ADF)},
		{"everybody", look(nat.EIF, "17.0.0.1"), new(nat.EIF)},
		{"at another address", look(nat.ADF, "17.0.0.2"), nil},
		{"stricter than now", look(nat.APDF, "17.0.0.1"), nil},
	} {
		now := look(nat.ADF, "17.0.0.1")
		now.LetsAnybody, now.Filtering = nil, nil
		got := nat.Families{IP4: nat.Transports{UDP: now}}.After(nat.Families{IP4: nat.Transports{UDP: tt.was}})
		if diff := cmp.Diff(tt.want, got.IP4.UDP.Filtering); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func TestAdvice(t *testing.T) {
	tests := []struct {
		name string
		p    nat.Path
		want []nat.Advice
	}{
		{"open", path(false, nat.EIM, nat.EIF), nil},
		{"firewall", path(false, nat.EIM, nat.ADF), []nat.Advice{nat.OpenPort}},
		{"easy", path(true, nat.EIM, nat.EIF), []nat.Advice{nat.MapPort}},
		{"hard", path(true, nat.APDM, nat.APDF), []nat.Advice{nat.MapPort, nat.StaticPort, nat.UseRelay}},
		{"nobody looked", nat.Path{}, []nat.Advice{nat.MoreServers, nat.VantageNeeded}},
		{"one address looked", nat.Path{NAT: new(true), LetsOtherPort: new(true)}, []nat.Advice{nat.MoreServers, nat.SecondAddress}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := nat.Families{IP4: nat.Transports{UDP: tt.p}}.Advice()
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
