//go:build linux

package commands

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"dibber/netkit/natlab"
	"dibber/netkit/netns"
)

// TestPunchThroughNATs runs processes of dibber behind NATs, in pairs that meet
// over a relay. What is asserted holds for any hole puncher: the pairs that come to
// a direct path need no cunning, and the one that stays relayed can be helped by
// none.
func TestPunchThroughNATs(t *testing.T) {
	lab := netns.New(t, natlab.Config{})
	relay := lab.Host(lab.Internet(), "relay", natlab.MachineConfig{})
	server := relay.Start("dibber", "serve", "--relay", "--ndjson", "--state-dir", t.TempDir())
	addrs := server.Event("ready")["addrs"].([]any)

	kernel := func(c netns.RouterConfig) func(name string) *netns.Host {
		return func(name string) *netns.Host { return lab.Router(lab.Internet(), name+"'s router", c).Inside(name) }
	}
	simulated := func(n natlab.NAT) func(name string) *netns.Host {
		return func(name string) *netns.Host { return lab.Behind(name, natlab.RouterConfig{NAT: n}) }
	}
	keeping, random := kernel(netns.RouterConfig{}), kernel(netns.RouterConfig{RandomPorts: true})
	easiest, sequential := simulated(natlab.Grid()[0]), simulated(natlab.Grid()[4])
	for _, c := range []struct {
		name       string
		bob, alice func(name string) *netns.Host
		path       string
		code       exitCode
		within     string
	}{
		{"kernel keeping ports, twice", keeping, keeping, "punched", exitOK, "50s"},
		{"sequential dials the easiest", easiest, sequential, "punched", exitOK, "50s"},
		{"kernel random, twice", random, random, "relayed", exitRelayedOnly, "6s"},
	} {
		// Both transports at once: the pair that stays relayed takes its time.
		dials := map[string]*netns.Process{}
		for _, transport := range []string{"quic", "tcp"} {
			via := addrOf(t, addrs, transport, relay)
			bob := c.bob("bob").Start("dibber", "serve", "--ndjson", "--state-dir", t.TempDir(), "--transport", transport, "--use-relay", via)
			target := fmt.Sprintf("%s/p2p-circuit/p2p/%s", via, bob.Event("ready")["peer"])
			bob.Event("reservation.reserved")
			dials[transport] = c.alice("alice").Start("dibber", "dial", "--ndjson", "--transport", transport, "--until-direct", "--timeout", c.within, target)
		}
		for transport, dial := range dials {
			got := dial.Event("summary")
			if code := dial.Wait(); code != int(c.code) || got["path"] != c.path || got["transport"] != transport {
				t.Errorf("%s over %s: exit %d with path %v over %v (%v), want exit %d with %s",
					c.name, transport, code, got["path"], got["transport"], got["error"], c.code, c.path)
			}
			t.Logf("%s over %s: %v after %v ms", c.name, transport, got["path"], got["elapsed_ms"])
		}
	}
}

// addrOf is the server's address of a transport, on its address in the lab.
func addrOf(t *testing.T, addrs []any, transport string, h *netns.Host) string {
	t.Helper()
	return addrAt(t, addrs, transport, h.Addr())
}

// addrAt is the address of a transport at ip, out of a list.
func addrAt(t *testing.T, addrs []any, transport string, ip netip.Addr) string {
	t.Helper()
	family := "/ip4/"
	if ip.Is6() {
		family = "/ip6/"
	}
	for _, a := range addrs {
		if s := a.(string); strings.HasPrefix(s, family+ip.String()+"/") && strings.Contains(s, "/"+transport) {
			return s
		}
	}
	t.Fatalf("no %s of %s among %s", transport, ip, addrs)
	return ""
}
