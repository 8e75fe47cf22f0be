package punch_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/punch"
	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// delay is how far each machine and router of these tests is from the internet.
const delay = 20 * time.Millisecond

// Two hosts behind routers are four such links apart there and back, eight through
// the relay.
const (
	directRTT  = 4 * delay
	relayedRTT = 8 * delay
)

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// reports collects what a service tells.
type reports struct {
	mu   sync.Mutex // guards all
	all  []punch.Report
	more chan struct{}
}

func newReports() *reports { return &reports{more: make(chan struct{}, 16)} }

func (r *reports) on(e punch.Event) {
	if e.Report == nil {
		return
	}
	r.mu.Lock()
	r.all = append(r.all, *e.Report)
	r.mu.Unlock()
	r.more <- struct{}{}
}

// next waits for the next report.
func (r *reports) next(t *testing.T) punch.Report {
	t.Helper()
	select {
	case <-r.more:
	case <-time.After(10 * time.Minute):
		t.Fatal("no report within 10 minutes")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.all[0]
	r.all = r.all[1:]
	return next
}

// side is one end of a punch.
type side struct {
	*host.Node
	*reports
	service *punch.Service
}

// grid is a relay and two hosts behind NATs.
type grid struct {
	relay              *host.Node
	via                peer.AddrInfo   // the relay, which may be another host
	servers            []peer.AddrInfo // vantage points, where the relay is none
	target, dialer     side
	targetAt, dialerAt *natlab.Router
}

func newGrid(t *testing.T, lab *natlab.Lab, target, dialer natlab.NAT) grid {
	t.Helper()
	return newGridWith(t, lab, target, dialer, relay.Config{})
}

// unlimited is a relay whose circuits last.
func unlimited() relay.Config { return relay.Config{Limits: relay.Limits{Duration: -1, Bytes: -1}} }

func newGridWith(t *testing.T, lab *natlab.Lab, target, dialer natlab.NAT, by relay.Config) grid {
	t.Helper()
	far := natlab.LinkConfig{Latency: delay}
	g := grid{relay: lab.Internet().Machine("relay", natlab.MachineConfig{Link: far}).Host(host.Config{})}
	r, err := relay.New(g.relay, by)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	g.via = info(g.relay)
	behind := func(name string, nat natlab.NAT) (side, *natlab.Router) {
		router := lab.Internet().Router(name+"-router", natlab.RouterConfig{NAT: nat, Link: far})
		m := router.LAN().Machine(name, natlab.MachineConfig{})
		return punching(t, m.Host(host.Config{}), punch.Config{}), router
	}
	g.target, g.targetAt = behind("target", target)
	g.dialer, g.dialerAt = behind("dialer", dialer)
	if _, err := relay.Reserve(t.Context(), g.target.Node, info(g.relay)); err != nil {
		t.Fatal(err)
	}
	return g
}

// punching starts a service on n.
func punching(t *testing.T, n *host.Node, cfg punch.Config) side {
	t.Helper()
	s := side{Node: n, reports: newReports()}
	cfg.On = s.on
	s.service = punch.New(n, cfg)
	t.Cleanup(func() { _ = s.service.Close() })
	return s
}

func info(n *host.Node) peer.AddrInfo { return peer.AddrInfo{ID: n.ID(), Addrs: n.ListenAddrs()} }

// call connects the dialer to the target through the relay.
func (g grid) call(t *testing.T) network.Conn {
	t.Helper()
	circuit := g.via.Addrs[0].Encapsulate(circuitOf(g.via.ID))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := g.dialer.Dial(ctx, g.target.ID(), []maddr{circuit})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// punchable predicts whether both ends dialling where the relay saw the other gives
// a direct connection: one of the two dials must arrive, and its answer get back.
func punchable(a, b natlab.NAT) bool { return opens(a, b) || opens(b, a) }

// opens predicts whether from's packets, sent to the endpoint that the relay saw of
// to, start a conversation while to sends to the endpoint that it saw of from. A
// mapping that depends on the remote shows the peer another endpoint than the relay.
func opens(from, to natlab.NAT) bool {
	fromSeen := from.Mapping == natlab.EndpointIndependent
	toSeen := to.Mapping == natlab.EndpointIndependent
	in := to.Filtering == natlab.EndpointIndependent ||
		toSeen && (to.Filtering == natlab.AddressDependent || fromSeen)
	back := toSeen || from.Filtering != natlab.AddressAndPortDependent
	return in && back
}

// TestEveryPairOfNATs holds that whatever can be punched is punched by the first
// attempt, within the time that the exchange and one direct round trip take, that
// nothing else claims to be direct, and that both ends tell the same.
func TestEveryPairOfNATs(t *testing.T) {
	all := natlab.Kinds(natlab.Sequential)
	for _, a := range all {
		for _, b := range all {
			t.Run(fmt.Sprintf("%s calls %s", b, a), func(t *testing.T) {
				natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
					g := newGrid(t, lab, a, b)
					relayed := g.call(t)
					there, here := g.target.next(t), g.dialer.next(t)
					want := punch.Failed
					if punchable(a, b) {
						want = punch.Direct
					}
					if there.Outcome != want || here.Outcome != want || there.Run != here.Run {
						t.Fatalf("want %s of both:\n%+v\n%+v", want, there, here)
					}
					if there.Other == nil || here.Other == nil || len(there.Timeline) != len(here.Timeline) {
						t.Errorf("the ends tell different things:\n%+v\n%+v", there, here)
					}
					if want == punch.Failed {
						if *there.Reason != punch.ReasonAttemptsEnded || relayed.IsClosed() {
							t.Errorf("reason %s; relayed connection closed: %v", *there.Reason, relayed.IsClosed())
						}
						return
					}
					const limit = relayedRTT + relayedRTT/2 + directRTT
					if len(there.Attempts) != 1 || *there.DirectMS > milliseconds(limit)+float64(2*delay/time.Millisecond) {
						t.Errorf("%d attempts, direct after %.0f ms, limit %s", len(there.Attempts), *there.DirectMS, limit)
					}
					if !there.Verified.RelayClosed || !here.Verified.RelayClosed || !relayed.IsClosed() {
						t.Errorf("the relayed connection is not gone: %+v %+v", there.Verified, here.Verified)
					}
					if *there.RTTDirectMS != milliseconds(directRTT) || *there.RTTRelayedMS != milliseconds(relayedRTT) {
						t.Errorf("round trips: direct %v ms, relayed %v ms", *there.RTTDirectMS, *there.RTTRelayedMS)
					}
				})
			})
		}
	}
}
