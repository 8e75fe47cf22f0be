package punch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"dibber/netkit/nat"
	"dibber/netkit/natlab"
	"dibber/netkit/punch"
	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

// do punches from the dialer to the target as holepunch does.
func (g grid) do(t *testing.T) (punch.Report, error) {
	t.Helper()
	circuit := g.via.Addrs[0].Encapsulate(circuitOf(g.via.ID))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return punch.Do(ctx, g.dialer.Node, g.target.ID(), []maddr{circuit}, punch.DoConfig{Config: punch.Config{Servers: g.servers}})
}

// eachPair calls f for each two kinds of natlab.Grid.
func eachPair(t *testing.T, f func(t *testing.T, target, dialer int)) {
	t.Helper()
	kinds := natlab.Grid()
	for i, a := range kinds {
		for j, b := range kinds {
			t.Run(fmt.Sprintf("%s calls %s", b, a), func(t *testing.T) { f(t, i, j) })
		}
	}
}

// impossible reports whether nothing gets through between two kinds of natlab.Grid: both
// are APDM/APDF, and one of them or both choose ports at random.
func impossible(target, dialer int) bool { return target >= 4 && dialer >= 4 && target+dialer > 8 }

func router(kind int) natlab.RouterConfig { return natlab.RouterConfig{NAT: natlab.Grid()[kind]} }

// TestGridByOffer: every pair of NATs that can have a direct connection gets one by an
// offer that the relay carries, the easy ones within 1.1 of the round trips that an
// offer and a handshake take; between the others both say within 3 s that there is none.
func TestGridByOffer(t *testing.T) {
	eachPair(t, func(t *testing.T, i, j int) {
		here, there, took, err := punched(t, natlab.Grid()[i], natlab.Grid()[j])
		if impossible(i, j) {
			if !errors.Is(err, punch.ErrImpossible) || here.Plan == nil || there.Plan == nil || here.RelayedMS == nil {
				t.Fatalf("%v after %s:\n%+v\n%+v", err, took, here, there)
			}
			if relayed := time.Duration(*here.RelayedMS * float64(time.Millisecond)); took-relayed > 3*time.Second {
				t.Errorf("said after %s, of which %s to the relayed connection", took, relayed)
			}
			return
		}
		if err != nil || here.Outcome != punch.Direct || there.Outcome != punch.Direct {
			t.Fatalf("%v:\n%+v\n%+v", err, here, there)
		}
		if here.Other == nil || there.Other == nil || here.Run != there.Run || *here.Method != *there.Method {
			t.Errorf("the ends tell different things:\n%+v\n%+v", here, there)
		}
		if limit := (relayedRTT + directRTT) * 11 / 10; i < 3 && j < 3 && *here.DirectMS > milliseconds(limit) {
			t.Errorf("direct after %v ms, limit %s", *here.DirectMS, limit)
		}
		if here.RelayedMS != nil || !here.Verified.RelayClosed {
			t.Errorf("a relayed connection: %+v", here)
		}
	})
}

// punched punches between two NATs as holepunch does, and returns the reports of both
// ends and how long it took. A search for ports meets none in one of 3,500 runs, and
// then there is another.
func punched(t *testing.T, target, dialer natlab.NAT) (here, there punch.Report, took time.Duration, err error) {
	t.Helper()
	for range 2 {
		natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
			g := newVantageGrid(t, lab, target, dialer, 0)
			_ = g.dialer.service.Close() // Do has its own
			began := time.Now()
			here, err = g.do(t)
			took = time.Since(began)
			there = g.target.next(t)
		})
		if err == nil || errors.Is(err, punch.ErrImpossible) {
			break
		}
	}
	return here, there, took, err
}

// TestUnansweredPing: a ping that is never answered is no failure, and neither is one of
// two direct connections that leads nowhere.
func TestUnansweredPing(t *testing.T) {
	for name, deaf := range map[string]func(first, c network.Conn, n int) bool{
		"the first ping":          func(_, _ network.Conn, n int) bool { return n == 0 },
		"of the first connection": func(first, c network.Conn, _ int) bool { return c == first },
	} {
		t.Run(name, func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				cone := natlab.NAT{Filtering: natlab.AddressAndPortDependent}
				g := newVantageGrid(t, lab, cone, cone, 0)
				_ = g.dialer.service.Close() // Do has its own
				var mu sync.Mutex
				var first network.Conn
				came := 0
				g.target.SetStreamHandler(ping.ID, func(st network.Stream) {
					mu.Lock()
					if first == nil {
						first = st.Conn()
					}
					silent := deaf(first, st.Conn(), came)
					came++
					mu.Unlock()
					if !silent {
						_, _ = io.Copy(st, st)
						_ = st.Close()
					}
				})
				r, err := g.do(t)
				if err != nil || r.Outcome != punch.Direct || r.Method == nil {
					t.Errorf("%v: %+v", err, r)
				}
			})
		})
	}
}

// TestIPv6Firewalls: where IPv4 lets nothing through, IPv6 does: both ends open their
// firewalls at the same moment.
func TestIPv6Firewalls(t *testing.T) {
	for _, f := range []natlab.Firewall{{}, {Filtering: natlab.AddressDependent}, {Filtering: natlab.AddressAndPortDependent}} {
		t.Run(f.Filtering.String()+"F", func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				hard := natlab.NAT{Mapping: natlab.AddressAndPortDependent, Filtering: natlab.AddressAndPortDependent, Ports: natlab.Random}
				g := newVantageLab(t, lab, vantageLab{relay: natlab.DualStack, target: natlab.RouterConfig{NAT: hard, IPv6: &f}, dialer: natlab.RouterConfig{NAT: hard, IPv6: &f}})
				_ = g.dialer.service.Close() // Do has its own
				here, err := g.do(t)
				if err != nil || here.Outcome != punch.Direct || here.Plan.Family != "ip6" || *here.DirectMS > milliseconds((relayedRTT+directRTT)*11/10) {
					t.Fatalf("%v: %+v", err, here)
				}
				t.Logf("%s %v", *here.Method, *here.DirectMS)
			})
		})
	}
}

// TestOneAddress: a relay with one address cannot tell every kind of NAT, but still all
// pairs get through that can.
func TestOneAddress(t *testing.T) {
	eachPair(t, func(t *testing.T, i, j int) {
		natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
			g := newVantageLab(t, lab, vantageLab{target: router(i), dialer: router(j), addresses: 1})
			_ = g.dialer.service.Close() // Do has its own
			here, err := g.do(t)
			if impossible(i, j) {
				if !errors.Is(err, punch.ErrImpossible) {
					t.Errorf("%v: %+v", err, here)
				}
				return
			}
			if err != nil || here.Outcome != punch.Direct || here.Plan == nil || here.RelayedMS != nil {
				t.Fatalf("%v: %+v", err, here)
			}
			t.Logf("%s %v", *here.Method, *here.DirectMS)
		})
	})
}

// TestForeignRelay: over a relay of go-libp2p's the relayed connection carries the offer,
// and any vantage point tells what is known of the NATs. Every pair that can be direct is.
func TestForeignRelay(t *testing.T) {
	eachPair(t, func(t *testing.T, i, j int) {
		natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
			g := newVantageLab(t, lab, vantageLab{target: router(i), dialer: router(j), foreign: true})
			g.call(t)
			here := g.dialer.next(t)
			if here.Plan == nil {
				t.Fatalf("no plan: %+v", here)
			}
			if impossible(i, j) {
				if here.Plan.Method != nat.MethodNone || here.Outcome != punch.Failed {
					t.Errorf("%+v: %+v", here.Plan, here)
				}
				return
			}
			if here.Outcome != punch.Direct || *here.Method != string(here.Plan.Method) {
				t.Fatalf("%+v, %s: %+v", here.Plan, text(here.Attempts[0].Error), here)
			}
			t.Logf("%s %v", *here.Method, *here.DirectMS)
			if limit := (relayedRTT + directRTT) * 11 / 10; i < 3 && j < 3 && *here.DirectMS > milliseconds(limit) {
				t.Errorf("direct %v ms after the relayed connection, limit %s", *here.DirectMS, limit)
			}
		})
	})
}

// TestRelayThatCarriesNothing: a relay that takes offers and does not carry them costs
// time, and not the connection.
func TestRelayThatCarriesNothing(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		g := newVantageGrid(t, lab, natlab.NAT{}, natlab.NAT{Filtering: natlab.AddressAndPortDependent}, 0)
		_ = g.dialer.service.Close() // Do has its own
		held := make(chan network.Stream, 1)
		g.relay.SetStreamHandler(relay.IntroProtocol, func(st network.Stream) { held <- st })
		began := time.Now()
		here, err := g.do(t)
		if err != nil || here.Outcome != punch.Direct || here.RelayedMS == nil {
			t.Errorf("%v: %+v", err, here)
		}
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("took %s", took)
		}
		_ = (<-held).Reset()
	})
}
