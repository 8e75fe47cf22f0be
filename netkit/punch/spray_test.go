package punch_test

import (
	"cmp"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/natlab"
	"dibber/netkit/punch"
	"dibber/netkit/relay"
	"dibber/netkit/vantage"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
)

// vantageLab is what differs between labs whose relay is a vantage point.
type vantageLab struct {
	relay          natlab.Families
	target, dialer natlab.RouterConfig
	loss           float64
	relayed        relay.Config
	addresses      int  // of the vantage point; 0 means 2
	foreign        bool // the relay is go-libp2p's, and the vantage point another host
}

// newVantageGrid is a newGrid whose relay is a vantage point with two addresses.
func newVantageGrid(t *testing.T, lab *natlab.Lab, target, dialer natlab.NAT, loss float64) grid {
	t.Helper()
	return newVantageLab(t, lab, vantageLab{target: natlab.RouterConfig{NAT: target}, dialer: natlab.RouterConfig{NAT: dialer}, loss: loss})
}

func newVantageLab(t *testing.T, lab *natlab.Lab, c vantageLab) grid {
	t.Helper()
	far := natlab.LinkConfig{Latency: delay, Loss: c.loss}
	g := grid{relay: lab.Internet().Machine("relay", natlab.MachineConfig{Families: c.relay, Link: far, Addresses: cmp.Or(c.addresses, 2)}).Host(host.Config{})}
	g.via = info(g.relay)
	g.via.Addrs = g.via.Addrs[:1]
	if c.foreign {
		g.servers = []peer.AddrInfo{g.via}
		stock := lab.Internet().Machine("stock relay", natlab.MachineConfig{Link: far}).Stock(libp2p.ForceReachabilityPublic(), libp2p.EnableRelayService())
		g.via = peer.AddrInfo{ID: stock.ID(), Addrs: stock.Addrs()}
	} else {
		r, err := relay.New(g.relay, c.relayed)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
	}
	v, err := vantage.New(g.relay, vantage.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	behind := func(name string, c natlab.RouterConfig) (side, *natlab.Router) {
		c.Link = far
		families := natlab.IPv4
		if c.IPv6 != nil {
			families = natlab.DualStack
		}
		at := lab.Internet().Router(name+"-router", c)
		m := at.LAN().Machine(name, natlab.MachineConfig{Families: families})
		return punching(t, m.Host(host.Config{}), punch.Config{Servers: g.servers}), at
	}
	g.target, g.targetAt = behind("target", c.target)
	g.dialer, g.dialerAt = behind("dialer", c.dialer)
	held := relay.NewClient(g.target.Node, relay.ClientConfig{Relay: g.via})
	t.Cleanup(func() { _ = held.Close() })
	time.Sleep(3 * time.Second) // virtual: the target has looked at its NAT
	return g
}

// TestThirtyThreeOfThirtySix: with a relay that is a vantage point, every pair of NATs
// that can have a direct connection gets one, and the others say why they do not.
func TestThirtyThreeOfThirtySix(t *testing.T) {
	eachPair(t, func(t *testing.T, i, j int) {
		natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
			g := newVantageLab(t, lab, vantageLab{target: router(i), dialer: router(j)})
			relayed := g.call(t)
			there, here := g.target.next(t), g.dialer.next(t)
			want := punch.Direct
			if impossible(i, j) {
				want = punch.Failed
			}
			if there.Outcome != want || here.Outcome != want {
				t.Fatalf("want %s of both:\n%s %+v\n%s %+v", want, text(there.Detail), there, text(here.Detail), here)
			}
			if there.Plan == nil || here.Plan == nil || there.Plan.Method != here.Plan.Method || there.Plan.Family != "ip4" {
				t.Fatalf("plans %+v and %+v", there.Plan, here.Plan)
			}
			if m := there.Plan.Method; m != nat.MethodTogether && m != nat.MethodNone && m != nat.MethodPredict && there.Plan.Acts == here.Plan.Acts {
				t.Errorf("%s: both act, or neither", m)
			}
			if want == punch.Failed {
				took := time.Since(relayed.Stat().Opened)
				if *there.Reason != punch.ReasonAttemptsEnded || there.Plan.Method != nat.MethodNone || there.Plan.Why != nat.WhyTooMany || took > 3*time.Second || relayed.IsClosed() {
					t.Errorf("%s after %s, plan %+v, relayed connection closed: %v", *there.Reason, took, there.Plan, relayed.IsClosed())
				}
				return
			}
			if *there.Method != string(there.Plan.Method) || *here.Method != *there.Method {
				t.Errorf("planned %s, done %s and %s", there.Plan.Method, *there.Method, *here.Method)
			}
		})
	})
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
