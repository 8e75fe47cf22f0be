package nat_test

import (
	"net/netip"
	"slices"
	"testing"

	"dibber/netkit/nat"

	"github.com/google/go-cmp/cmp"
)

// behind is a node on IPv4 behind a NAT of a kind, seen at an address of its own.
func behind(k nat.Kind, at string) nat.Standing {
	p := path(k.NAT, k.Mapping, k.Filtering)
	p.PortPattern = &k.Pattern
	p.Observed = []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(at), 4001)}
	return nat.Standing{Families: nat.Families{IP4: nat.Transports{UDP: p}}}
}

func kind(t *testing.T, name string) nat.Kind {
	t.Helper()
	for _, k := range nat.Kinds() {
		if k.Name == name {
			return k
		}
	}
	t.Fatalf("no kind %s", name)
	return nat.Kind{}
}

// TestEveryPairOfKinds: 33 of the 36 pairs of the grid get through, nothing is unknown,
// both sides say the same, and every change that is advised is enough.
func TestEveryPairOfKinds(t *testing.T) {
	const seq, random = "APDM/APDF sequential", "APDM/APDF random"
	for _, x := range nat.Kinds() {
		for _, y := range nat.Kinds() {
			want := nat.Yes
			if x.Name == random && (y.Name == seq || y.Name == random) || x.Name == seq && y.Name == random {
				want = nat.No
			}
			a, b := behind(x, "17.0.0.1"), behind(y, "17.0.0.2")
			got, other := nat.Expect(a, b), nat.Expect(b, a)
			if got.Direct != want || other.Direct != want || *got.Family != "ip4" || *got.Transport != "udp" {
				t.Errorf("%s and %s: %+v, the other way round %+v", x.Name, y.Name, got, other)
			}
			if diff := cmp.Diff(got.Sides[0], other.Sides[1]); diff != "" {
				t.Errorf("%s and %s: %s", x.Name, y.Name, diff)
			}
			if (want == nat.No) != (len(got.Sides[0].Blocks) > 0) || (want == nat.No) != (len(got.Sides[0].Change) > 0) {
				t.Errorf("%s and %s: %+v", x.Name, y.Name, got.Sides)
			}
			for _, c := range got.Sides[0].Change {
				changed := map[nat.Advice]nat.Kind{
					nat.MapPort:    {NAT: true, Mapping: nat.EIM, Filtering: nat.EIF, Pattern: x.Pattern},
					nat.StaticPort: {NAT: true, Mapping: nat.EIM, Filtering: x.Filtering, Pattern: x.Pattern},
				}[c]
				if after := nat.Expect(behind(changed, "17.0.0.1"), b); after.Direct != nat.Yes {
					t.Errorf("%s and %s: with %s it is %s", x.Name, y.Name, c, after.Direct)
				}
			}
		}
	}
}

// TestWhatIsInTheWay pins whole answers for cases beyond the grid.
func TestWhatIsInTheWay(t *testing.T) {
	random, easy, firewalled := kind(t, "APDM/APDF random"), kind(t, "EIM/ADF"), kind(t, "firewalled")
	hard := behind(random, "17.0.0.1")
	double := hard
	double.DoubleNAT = true
	blocked := nat.Standing{Families: nat.Families{IP4: nat.Transports{UDP: nat.Path{Works: new(false)}}}}
	tcp := blocked
	tcp.IP4.TCP = behind(easy, "17.0.0.3").IP4.UDP
	both := behind(easy, "17.0.0.4")
	both.IP4.TCP = behind(easy, "17.0.0.4").IP4.UDP
	hardTCP := behind(random, "17.0.0.5")
	hardTCP.IP4.TCP = behind(kind(t, "APDM/APDF sequential"), "17.0.0.5").IP4.UDP
	hardTCP.IP4.TCP.Works = new(true)
	sequential := behind(kind(t, "APDM/APDF sequential"), "17.0.0.6")
	tcpOnly := nat.Standing{Families: nat.Families{IP4: nat.Transports{TCP: sequential.IP4.UDP}}}
	six := behind(random, "17.0.0.7")
	six.IP6.UDP = behind(firewalled, "2a00::1").IP4.UDP
	sixToo := behind(random, "17.0.0.8")
	sixToo.IP6.UDP = behind(firewalled, "2a00::2").IP4.UDP
	unseen := nat.Standing{Families: nat.Families{IP4: nat.Transports{UDP: nat.Path{Works: new(true)}}}}
	noPattern := behind(kind(t, "APDM/APDF sequential"), "17.0.0.9")
	noPattern.IP4.UDP.PortPattern = nil
	hairpin := behind(easy, "17.0.0.4")
	hairpin.IP4.UDP.Hairpin = new(true)
	masked := behind(easy, "192.0.2.1")
	yes := []nat.Block{}
	tests := []struct {
		name   string
		a, b   nat.Standing
		direct nat.Direct
		why    nat.Why
		on     string
		blocks [2][]nat.Block
		change [2][]nat.Advice
	}{
		{
			"both random", hard, behind(random, "17.0.0.2"), nat.No, nat.WhyTooMany, "ip4 udp",
			[2][]nat.Block{{nat.BlockPorts, nat.BlockRandom, nat.BlockFilter}, {nat.BlockPorts, nat.BlockRandom, nat.BlockFilter}},
			[2][]nat.Advice{{nat.MapPort, nat.StaticPort}, {nat.MapPort, nat.StaticPort}},
		},
		{
			"another NAT outside the router", double, hard, nat.Unknown, nat.WhySameNAT, "ip4 udp",
			[2][]nat.Block{{nat.BlockSameNAT}, {nat.BlockSameNAT}},
			[2][]nat.Advice{{nat.DialLocal}, {nat.DialLocal}},
		},
		{
			"forwarding is no help", double, behind(random, "17.0.0.2"), nat.No, nat.WhyTooMany, "ip4 udp",
			[2][]nat.Block{{nat.BlockPorts, nat.BlockRandom, nat.BlockFilter}, {nat.BlockPorts, nat.BlockRandom, nat.BlockFilter}},
			[2][]nat.Advice{{nat.StaticPort}, {nat.MapPort, nat.StaticPort}},
		},
		{
			"UDP blocked", blocked, both, nat.No, nat.WhyUDPBlocked, "ip4 udp",
			[2][]nat.Block{{nat.BlockUDP}, {}},
			[2][]nat.Advice{{nat.AllowUDP}, {}},
		},
		{"TCP where UDP is blocked", tcp, both, nat.Yes, nat.WhyTogether, "ip4 tcp", [2][]nat.Block{yes, yes}, [2][]nat.Advice{{}, {}}},
		{
			"TCP has no predicted ports", tcpOnly, hardTCP, nat.No, nat.WhyTooMany, "ip4 tcp",
			[2][]nat.Block{{nat.BlockPorts, nat.BlockFilter}, {nat.BlockPorts, nat.BlockFilter}},
			[2][]nat.Advice{{nat.MapPort}, {nat.MapPort}},
		},
		{"IPv6 before IPv4", six, sixToo, nat.Yes, nat.WhyTogether, "ip6 udp", [2][]nat.Block{yes, yes}, [2][]nat.Advice{{}, {}}},
		{
			"nothing known of one", unseen, behind(easy, "17.0.0.2"), nat.Unknown, nat.WhyTooLittle, "ip4 udp",
			[2][]nat.Block{{nat.BlockUnknown}, {}},
			[2][]nat.Advice{{nat.MoreServers, nat.VantageNeeded}, {}},
		},
		{"nothing known, but the other is open", unseen, behind(kind(t, "public"), "17.0.0.2"), nat.Yes, nat.WhyPeerOpen, "ip4 udp", [2][]nat.Block{yes, yes}, [2][]nat.Advice{{}, {}}},
		{
			"pattern not known", noPattern, sequential, nat.Unknown, nat.WhyNoPattern, "ip4 udp",
			[2][]nat.Block{{nat.BlockPattern}, {}},
			[2][]nat.Advice{{nat.VantageNeeded}, {}},
		},
		{
			"pattern of the other not known", sequential, noPattern, nat.Unknown, nat.WhyNoPattern, "ip4 udp",
			[2][]nat.Block{{}, {nat.BlockPattern}},
			[2][]nat.Advice{{}, {nat.VantageNeeded}},
		},
		{
			"pattern that does not matter", noPattern, hard, nat.No, nat.WhyTooMany, "ip4 udp",
			[2][]nat.Block{{nat.BlockPorts, nat.BlockFilter}, {nat.BlockPorts, nat.BlockRandom, nat.BlockFilter}},
			[2][]nat.Advice{{nat.MapPort, nat.StaticPort}, {nat.MapPort, nat.StaticPort}},
		},
		{"one NAT that hairpins", hairpin, hairpin, nat.Yes, nat.WhyTogether, "ip4 udp", [2][]nat.Block{yes, yes}, [2][]nat.Advice{{}, {}}},
		{"addresses of documentation", masked, masked, nat.Yes, nat.WhyTogether, "ip4 udp", [2][]nat.Block{yes, yes}, [2][]nat.Advice{{}, {}}},
		{
			"no common transport", blocked, tcpOnly, nat.Unknown, nat.WhyTooLittle, "",
			[2][]nat.Block{{nat.BlockNoPath}, {nat.BlockNoPath}},
			[2][]nat.Advice{{nat.MoreServers}, {nat.MoreServers}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := nat.Expect(tt.a, tt.b)
			on := ""
			if got.Family != nil {
				on = *got.Family + " " + *got.Transport
			}
			if got.Direct != tt.direct || got.Why != tt.why || on != tt.on {
				t.Errorf("%s, %s on %q", got.Direct, got.Why, on)
			}
			for i, s := range got.Sides {
				if diff := cmp.Diff(tt.blocks[i], s.Blocks); diff != "" {
					t.Errorf("blocks of side %d: %s", i, diff)
				}
				if diff := cmp.Diff(tt.change[i], s.Change); diff != "" {
					t.Errorf("changes of side %d: %s", i, diff)
				}
			}
		})
	}
}

// TestBlockedUDPIsNamed: where TCP gets out on both sides but does not do, that UDP does not
// get out on one is in the way, and there alone.
func TestBlockedUDPIsNamed(t *testing.T) {
	works := func(p nat.Path) nat.Path { p.Works = new(true); return p }
	hard, easy := works(path(true, nat.APDM, nat.APDF)), works(path(true, nat.EIM, nat.APDF))
	blocked := nat.Path{Works: new(false)}
	a := nat.Standing{Families: nat.Families{IP4: nat.Transports{UDP: hard, TCP: hard}}}
	b := nat.Standing{Families: nat.Families{IP4: nat.Transports{UDP: blocked, TCP: easy}}}
	x := nat.Expect(a, b)
	if x.Direct != nat.No || *x.Transport != "tcp" {
		t.Fatalf("%s over %s: %s", x.Direct, *x.Transport, x.Why)
	}
	for i, want := range []bool{false, true} {
		side := x.Sides[i]
		if slices.Contains(side.Blocks, nat.BlockUDP) != want || slices.Contains(side.Change, nat.AllowUDP) != want {
			t.Errorf("side %d: %+v", i, side)
		}
	}
}
