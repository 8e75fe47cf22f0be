package natcheck_test

import (
	"errors"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/natcheck"
	"dibber/netkit/natlab"
	"dibber/netkit/relay"
	"dibber/netkit/vantage"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// callHome starts a relay that is a vantage point, and a node behind a NAT of a kind that
// keeps a reservation there. Other machines call it by the returned function.
func callHome(t *testing.T, lab *natlab.Lab, kind natlab.NAT) (home *host.Node, call func(*host.Node) network.Conn) {
	t.Helper()
	n := lab.Internet().Machine("relay", twoAddresses()).Host(host.Config{})
	serving, err := relay.New(n, relay.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = serving.Close() })
	seeing, err := vantage.New(n, vantage.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = seeing.Close() })
	home = lab.Internet().Router("home", natlab.RouterConfig{NAT: kind}).LAN().Machine("node", natlab.MachineConfig{}).Host(host.Config{})
	reserved := make(chan ma.Multiaddr, 1)
	client := relay.NewClient(home, relay.ClientConfig{Relay: first(n), On: func(e relay.ClientEvent) {
		if e.Kind == "reserved" {
			select {
			case reserved <- e.Reservation.Circuits[0]:
			default:
			}
		}
	}})
	t.Cleanup(func() { _ = client.Close() })
	at := <-reserved
	return home, func(from *host.Node) network.Conn {
		c, err := from.Dial(t.Context(), home.ID(), []ma.Multiaddr{at})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// TestWhoIsTold: a report is told over the relay to a peer on the allow list and to one
// that the node wants to punch with, and to nobody else.
func TestWhoIsTold(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		home, call := callHome(t, lab, natlab.NAT{Filtering: natlab.AddressDependent, Mapping: natlab.AddressDependent, Ports: natlab.Random})
		asker := func(name string) *host.Node {
			return lab.Internet().Machine(name, natlab.MachineConfig{}).Host(host.Config{})
		}
		listed, chosen, stranger, early := asker("listed"), asker("chosen"), asker("stranger"), asker("early")
		if _, _, err := natcheck.Fetch(t.Context(), early, call(early)); !errors.Is(err, natcheck.ErrUnsupported) {
			t.Errorf("%v of a node that tells nobody", err)
		}
		share := natcheck.NewShare(home, natcheck.ShareConfig{Chosen: []peer.ID{chosen.ID()}})
		t.Cleanup(func() { _ = share.Close() })
		if _, _, err := natcheck.Fetch(t.Context(), stranger, call(stranger)); !errors.Is(err, natcheck.ErrNotTold) {
			t.Errorf("%v for a stranger", err)
		}
		ask := func(n *host.Node) time.Duration {
			s, age, err := natcheck.Fetch(t.Context(), n, call(n))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(known{new(true), new(true), new(false), new(nat.ADM), new(nat.ADF)}, of(s.Families.IP4.UDP)); diff != "" || s.Verdict != nat.Hard {
				t.Errorf("%s %s", s.Verdict, diff)
			}
			return age
		}
		ask(chosen)
		const later = 10 * time.Second
		time.Sleep(later)
		relays := home.Circuits()
		home.SetAccess(host.Access{AllowPeers: []peer.ID{listed.ID()}})
		if age := ask(listed); age < later || age > later+time.Second {
			t.Errorf("the report is %s old, made %s ago", age, later)
		}
		time.Sleep(2 * time.Minute)
		if age := ask(listed); age > time.Second {
			t.Errorf("the report is %s old", age)
		}
		if len(relays) == 0 || len(home.Circuits()) != len(relays) {
			t.Errorf("reservations %v, before %v", home.Circuits(), relays)
		}
	})
}

// TestReportsOfOthers: words that are none do not get through.
func TestReportsOfOthers(t *testing.T) {
	for text, good := range map[string]bool{
		`{"verdict":"easy","families":{"ip4":{"udp":{"mapping":"EIM","filtering":"ADF","observed":["17.0.0.1:1"]}}},"portmap":{"double_nat":true}}`: true,
		`{"verdict":"easy\u001b[2J"}`:                                           false,
		`{"verdict":"easy","families":{"ip6":{"tcp":{"mapping":"none"}}}}`:      false,
		`{"verdict":"easy","families":{"ip4":{"udp":{"filtering":"\n"}}}}`:      false,
		`{"verdict":"easy","families":{"ip4":{"udp":{"port_pattern":"a"}}}}`:    false,
		`{"verdict":"easy","families":{"ip4":{"udp":{"observed":["here:1"]}}}}`: false,
		`[]`: false,
		`{}`: false,
	} {
		if s, err := natcheck.ParseStanding([]byte(text)); (err == nil) != good {
			t.Errorf("%s: %v, %+v", text, err, s)
		}
	}
}

// FuzzParseStanding: whatever a peer sends, what is to be expected can be told of it.
func FuzzParseStanding(f *testing.F) {
	f.Add([]byte(`{"verdict":"easy","families":{"ip4":{"udp":{"works":true,"nat":true,"mapping":"EIM","filtering":"ADF","mapping_varies":false,"lets_other_port":true,"observed":["17.0.0.1:1"]}}}}`))
	f.Fuzz(func(_ *testing.T, report []byte) {
		if s, err := natcheck.ParseStanding(report); err == nil {
			natcheck.Expect(s, s)
		}
	})
}
