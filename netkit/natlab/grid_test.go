package natlab_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dibber/netkit/natlab"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"
)

// punchable predicts whether stock DCUtR connects peers behind a and b.
func punchable(a, b natlab.NAT) bool { return opens(a, b) || opens(b, a) }

// opens predicts whether from's packets, sent to the endpoint that the relay saw
// of to, start a conversation while to sends to the endpoint that it saw of from.
// A mapping that depends on the remote shows the peer another endpoint than the
// relay.
func opens(from, to natlab.NAT) bool {
	fromSeen := from.Mapping == natlab.EndpointIndependent
	toSeen := to.Mapping == natlab.EndpointIndependent
	in := to.Filtering == natlab.EndpointIndependent ||
		toSeen && (to.Filtering == natlab.AddressDependent || fromSeen)
	back := toSeen || from.Filtering != natlab.AddressAndPortDependent
	return in && back
}

// TestGridOfStockHolePunching counts the pairs of Grid, dialler and target, that
// go-libp2p's DCUtR brings together: the mark that a better plan has to beat.
func TestGridOfStockHolePunching(t *testing.T) {
	const ofAll36 = 21
	direct := 0
	var table strings.Builder
	for _, target := range natlab.Grid() {
		fmt.Fprintf(&table, "\n%-22s", target)
		for _, dialer := range natlab.Grid() {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				got, mark := stockPunch(t, lab, dialer, target), " relayed"
				if got {
					direct++
					mark = " direct "
				}
				table.WriteString(mark)
				if got != punchable(dialer, target) {
					t.Errorf("%s dials %s: direct %v", dialer, target, got)
				}
			})
		}
	}
	t.Logf("rows are targets, columns the same kinds as diallers:%s", &table)
	if direct != ofAll36 {
		t.Errorf("%d pairs came to a direct connection, want %d", direct, ofAll36)
	}
}

// TestStockHolePunching runs go-libp2p's relay and DCUtR for every pair of NAT
// kinds and compares with the prediction: the test bed's NATs, seen from outside.
func TestStockHolePunching(t *testing.T) {
	// Ports are not preserved: a mapping that depends on the remote must show.
	all := natlab.Kinds(natlab.Sequential)
	for i, a := range all {
		for _, b := range all[i:] {
			t.Run(fmt.Sprintf("%s with %s", a, b), func(t *testing.T) {
				natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
					if got, want := stockPunch(t, lab, a, b), punchable(a, b); got != want {
						t.Errorf("direct connection: %v, want %v", got, want)
					}
				})
			})
		}
	}
}

// stockPunch connects two stock hosts behind NATs over a relay and reports
// whether they come to a direct connection.
func stockPunch(t *testing.T, lab *natlab.Lab, a, b natlab.NAT) bool {
	t.Helper()
	relayed := stockRelay(t, lab.Internet().Machine("relay", natlab.MachineConfig{}))
	behind := func(name string, n natlab.NAT) corehost.Host {
		lan := lab.Internet().Router(name+"'s router", natlab.RouterConfig{NAT: n}).LAN()
		return lan.Machine(name, natlab.MachineConfig{}).Stock(
			libp2p.ForceReachabilityPrivate(),
			libp2p.EnableAutoRelayWithStaticRelays([]peer.AddrInfo{relayed}, autorelay.WithBootDelay(0)),
			libp2p.EnableHolePunching(holepunch.DirectDialTimeout(3*time.Second)))
	}
	dialer, target := behind("dialer", a), behind("target", b)
	waitReserved(t, target)
	waitPunchReady(t, dialer)
	waitPunchReady(t, target)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	circuit := ma.StringCast(fmt.Sprintf("%s/p2p/%s/p2p-circuit", relayed.Addrs[0], relayed.ID))
	if err := dialer.Connect(ctx, peer.AddrInfo{ID: target.ID(), Addrs: []ma.Multiaddr{circuit}}); err != nil {
		t.Fatal(err)
	}
	for range 60 { // three attempts of 3 s each, and the pauses between them
		if slices.ContainsFunc(dialer.Network().ConnsToPeer(target.ID()), isDirect) {
			return true
		}
		time.Sleep(500 * time.Millisecond)
	}
	return false
}

func isDirect(c network.Conn) bool {
	_, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT)
	return err != nil
}

// stockRelay starts go-libp2p's relay on a machine.
func stockRelay(t *testing.T, m *natlab.Machine) peer.AddrInfo {
	t.Helper()
	h := m.Stock(libp2p.DisableRelay(), libp2p.ForceReachabilityPublic())
	r, err := relay.New(h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return info(h)
}

// waitReserved waits until h announces an address on a relay.
func waitReserved(t *testing.T, h corehost.Host) {
	t.Helper()
	sub, err := h.EventBus().Subscribe(new(event.EvtLocalAddressesUpdated))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	timeout := time.After(time.Minute)
	for !slices.ContainsFunc(h.Addrs(), func(a ma.Multiaddr) bool { _, err := a.ValueForProtocol(ma.P_CIRCUIT); return err == nil }) {
		select {
		case <-sub.Out():
		case <-timeout:
			t.Fatal("no reservation")
		}
	}
}

// waitPunchReady waits until h speaks DCUtR: a relayed connection that is there
// earlier is never upgraded.
func waitPunchReady(t *testing.T, h corehost.Host) {
	t.Helper()
	for range 300 {
		if slices.Contains(h.Mux().Protocols(), holepunch.Protocol) {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Fatalf("no DCUtR; addresses %s", h.Addrs())
}
