//go:build linux

package commands

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"dibber/netkit/natlab"
	"dibber/netkit/netns"
)

// punching is one pair of NATs to punch through.
type punching struct {
	name           string
	target, dialer *netns.Host
	easy           bool // neither side needs a search for ports
	possible       bool // over UDP
	unsure         bool // the sprayed side's first packets move the sprayer to another port
}

// pairs puts every pair of natlab's six kinds into a lab, and of the kernel's two.
func pairs(lab *netns.Lab) (out []punching) {
	// open reports whether to lets from in that was seen by the relay.
	open := func(to, from natlab.NAT) bool {
		return to.Mapping == natlab.EndpointIndependent &&
			(to.Filtering != natlab.AddressAndPortDependent || from.Mapping == natlab.EndpointIndependent)
	}
	hard := func(n natlab.NAT) bool { return n.Mapping == natlab.AddressAndPortDependent }
	add := func(bed string, a, b natlab.NAT, behind func(name string, n natlab.NAT) *netns.Host) {
		out = append(out, punching{
			name:   fmt.Sprintf("%s %s calls %s", bed, b, a),
			target: behind("target", a), dialer: behind("dialer", b),
			easy:     open(a, b) || open(b, a),
			unsure:   bed == "kernel poison" && !(open(a, b) || open(b, a)),
			possible: !hard(a) || !hard(b) || a.Ports == natlab.Sequential && b.Ports == natlab.Sequential,
		})
	}
	for _, a := range natlab.Grid() {
		for _, b := range natlab.Grid() {
			add("natlab", a, b, func(name string, n natlab.NAT) *netns.Host { return lab.Behind(name, natlab.RouterConfig{NAT: n}) })
		}
	}
	kernel := []natlab.NAT{natlab.Grid()[2], natlab.Grid()[5]}
	for _, unasked := range []natlab.Unsolicited{natlab.Drop, natlab.Reject, natlab.Poison} {
		for _, a := range kernel {
			for _, b := range kernel {
				add("kernel "+unasked.String(), a, b, func(name string, n natlab.NAT) *netns.Host {
					// Packets that are to cross need time on their way.
					c := netns.RouterConfig{RandomPorts: n.Ports == natlab.Random, Unsolicited: unasked, Link: natlab.LinkConfig{Latency: 40 * time.Millisecond}}
					return lab.Router(lab.Internet(), name+"'s router", c).Inside(name)
				})
			}
		}
	}
	return out
}

// TestHolepunchEveryPair runs processes of dibber behind every pair of NATs, over QUIC and
// over TCP. By way of a relay that is a vantage point, QUIC gets through whatever lets
// anything through, and TCP through what needs no search for ports.
func TestHolepunchEveryPair(t *testing.T) {
	lab := netns.New(t, natlab.Config{})
	relay := lab.Host(lab.Internet(), "relay", natlab.MachineConfig{Addresses: 2})
	server := relay.Start("dibber", "serve", "--relay", "--vantage", "--ndjson", "--state-dir", t.TempDir())
	addrs := server.Event("ready")["addrs"].([]any)
	for _, p := range pairs(lab) {
		for _, transport := range []string{"quic", "tcp"} {
			if p.unsure {
				continue
			}
			t.Run(fmt.Sprintf("%s over %s", p.name, transport), func(t *testing.T) {
				t.Parallel()
				via := addrOf(t, addrs, transport, relay)
				there := p.target.Start("dibber", "holepunch", "listen", "--relay", via, "--transport", transport, "--every", "1ms", "--ndjson")
				circuit := fmt.Sprintf("%s/p2p-circuit/p2p/%s", via, there.Event("ready")["peer"])
				there.Event("reservation.reserved")
				p.punch(t, circuit, transport)
			})
		}
	}
}

// punch calls the target, and once more where that failed, as it may on a busy machine,
// where neither a search for ports nor a moment at which both begin is kept to.
func (p punching) punch(t *testing.T, circuit, transport string) {
	t.Helper()
	want := p.easy || transport == "quic" && p.possible
	for last := false; ; last = true {
		dial := p.dialer.Start("dibber", "holepunch", circuit, "--transport", transport, "--ndjson")
		got := dial.Event("summary")
		code := dial.Wait()
		if direct := code == int(exitOK) && got["outcome"] == "direct" && got["transport"] == transport; direct == want {
			if !direct && code != int(exitRelayedOnly) {
				t.Errorf("exit %d", code)
			}
			if plan, _ := got["plan"].(map[string]any); transport == "quic" && !want && (plan["method"] != "none" || plan["why"] != "too-many-ports") {
				t.Errorf("plan %v", plan)
			}
			t.Logf("%v by %v after %v ms", got["outcome"], got["method"], got["direct_ms"])
			return
		}
		if last || !want {
			t.Fatalf("exit %d, want direct: %v\n%v", code, want, got)
		}
	}
}

// TestHolepunchMapsPorts: between two NATs that let nothing through a port helps that
// one of the routers forwards when it is asked.
func TestHolepunchMapsPorts(t *testing.T) {
	netns.Need(t, netns.Have("miniupnpd", "miniupnpd-nftables"))
	lab := netns.New(t, natlab.Config{})
	relay := lab.Host(lab.Internet(), "relay", natlab.MachineConfig{Addresses: 2})
	server := relay.Start("dibber", "serve", "--relay", "--vantage", "--ndjson", "--state-dir", t.TempDir())
	via := addrOf(t, server.Event("ready")["addrs"].([]any), "quic", relay)
	home := lab.Router(lab.Internet(), "home", netns.RouterConfig{RandomPorts: true})
	target := home.Inside("target")
	home.MapPorts()
	dialer := lab.Router(lab.Internet(), "office", netns.RouterConfig{RandomPorts: true}).Inside("dialer")
	for _, c := range []struct {
		flags           []string
		outcome, method string
	}{
		{[]string{"--no-portmap"}, "failed", "none"},
		{nil, "direct", "dial"},
	} {
		there := target.Start("dibber", append([]string{"holepunch", "listen", "--relay", via, "--transport", "quic", "--ndjson"}, c.flags...)...)
		circuit := fmt.Sprintf("%s/p2p-circuit/p2p/%s", via, there.Event("ready")["peer"])
		there.Event("reservation.reserved")
		if c.flags == nil {
			for !strings.Contains(home.Run("nft", "list", "table", "inet", "mapper"), target.Addr().String()) {
				time.Sleep(20 * time.Millisecond) // until the test's own time is over
			}
		}
		got := dialer.Start("dibber", append([]string{"holepunch", circuit, "--transport", "quic", "--ndjson"}, c.flags...)...).Event("summary")
		plan, _ := got["plan"].(map[string]any)
		if got["outcome"] != c.outcome || plan["method"] != c.method {
			t.Errorf("%v: %v by %v", c.flags, got["outcome"], plan)
		}
		there.Signal(syscall.SIGINT)
		there.Wait()
	}
	if rules := home.Run("nft", "list", "table", "inet", "mapper"); strings.Contains(rules, target.Addr().String()) {
		t.Errorf("the mapping is still there:\n%s", rules)
	}
}
