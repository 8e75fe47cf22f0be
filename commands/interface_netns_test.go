//go:build linux

package commands

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dibber/netkit/natlab"
	"dibber/netkit/netns"
)

// sentBy is how many packets of programs have left by the interface of secondInterface. The kernel has some of its own to send.
func sentBy(t *testing.T, h *netns.Host) int {
	t.Helper()
	rule := h.Run("nft", "list", "chain", "inet", "seen", "out")
	var n int
	if _, after, ok := strings.Cut(rule, "counter packets "); !ok {
		t.Fatalf("no counter in %s", rule)
	} else if _, err := fmt.Sscan(after, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestKeepsToTheInterface: a second interface, to which the routes of the machine lead, sees nothing of a node that keeps to the
// first, whether it dials, is dialled, or asks by multicast, over IPv4 and IPv6; and it sees one that does not.
func TestKeepsToTheInterface(t *testing.T) {
	lab := netns.New(t, natlab.Config{})
	router := lab.Router(lab.Internet(), "router", netns.RouterConfig{})
	other, node := router.Inside("other"), router.Inside("node")
	there, here := []netip.Addr{other.Addr(), netip.MustParseAddr("fd00::1")}, []netip.Addr{node.Addr(), netip.MustParseAddr("fd00::2")}
	other.Run("ip", "addr", "add", "fd00::1/64", "dev", "up0", "nodad")
	secondInterface(t, node,
		"addr add fd00::2/64 dev up0 nodad", "addr add fd01::9/64 dev lan1 nodad",
		"route add "+there[0].String()+"/32 dev lan1", "route add fd00::1/128 dev lan1 metric 1")
	addrs := other.Start("dibber", "serve", "--ndjson", "--state-dir", t.TempDir()).Event("ready")["addrs"].([]any)
	confined := node.Start("dibber", "serve", "--interface", "up0", "--mdns", "--ndjson", "--state-dir", t.TempDir())
	own := confined.Event("ready")["addrs"].([]any)
	for i, transport := range []string{"quic", "tcp", "quic", "tcp"} {
		family := i / 2
		dial := node.Start("dibber", "dial", "--ndjson", "--interface", "up0", "--transport", transport, addrAt(t, addrs, transport, there[family]))
		if got, code := dial.Event("summary"), dial.Wait(); code != 0 {
			t.Errorf("dial over %s to %s: exit %d: %v", transport, there[family], code, got["error"])
		}
		dial = other.Start("dibber", "dial", "--ndjson", "--transport", transport, addrAt(t, own, transport, here[family]))
		got := dial.Event("summary")
		if code := dial.Wait(); code != 0 {
			t.Errorf("dialled over %s at %s: exit %d: %v", transport, here[family], code, got["error"])
			continue
		}
		for _, a := range got["identify"].(map[string]any)["listen_addrs"].([]any) {
			if !slices.ContainsFunc(here, func(ip netip.Addr) bool { return strings.Contains(a.(string), "/"+ip.String()+"/") }) {
				t.Errorf("over %s it announces %s, which is not of its interface", transport, a)
			}
		}
	}
	if n := sentBy(t, node); n != 0 {
		t.Errorf("%d packets left by the other interface", n)
	}
	for _, ip := range there {
		before := sentBy(t, node)
		dial := node.Start("dibber", "dial", "--ndjson", "--timeout", "2s", addrAt(t, addrs, "quic", ip))
		if code := dial.Wait(); code == 0 || sentBy(t, node) == before {
			t.Errorf("exit %d without --interface, and the route to %s by the other interface is not used: the test shows nothing", code, ip)
		}
	}
}

// secondInterface gives a host an interface lan1 beside its own up0, and sets things up with more arguments of ip.
func secondInterface(t *testing.T, h *netns.Host, more ...string) {
	t.Helper()
	for _, command := range append([]string{
		"link add lan1 type veth peer name far", "link set lan1 addrgenmode none", "link set far addrgenmode none",
		"link set far up", "link set lan1 up", "addr add 192.0.2.9/24 dev lan1",
	}, more...) {
		h.Run("ip", strings.Fields(command)...)
	}
	h.Run("nft", "add table inet seen; add chain inet seen out { type filter hook output priority 0; };"+
		" add rule inet seen out oifname lan1 meta l4proto { tcp, udp } counter")
}

// TestMapsPortsAtTheInterface: a router is asked for a port that is the way out of the interface, and not another one.
func TestMapsPortsAtTheInterface(t *testing.T) {
	netns.Need(t, netns.Have("miniupnpd", "miniupnpd-nftables"))
	lab := netns.New(t, natlab.Config{})
	server := vantageAt(t, lab, natlab.LinkConfig{}, "--autonat")
	home := lab.Router(lab.Internet(), "home", netns.RouterConfig{})
	node := home.Inside("node")
	home.MapPorts()
	secondInterface(t, node)
	for name, want := range map[string]bool{"up0": true, "lan1": false} {
		before := sentBy(t, node)
		doc, _ := checked(t, node, server, "--interface", name)
		mapped := doc.PortMap != nil && doc.PortMap.Protocol != nil
		if mapped != want {
			t.Errorf("kept to %s: port map %+v", name, doc.PortMap)
		}
		if n := sentBy(t, node) - before; want && n != 0 {
			t.Errorf("%d packets left by the other interface", n)
		}
	}
}
