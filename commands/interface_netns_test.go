//go:build linux

package commands

import (
	"encoding/json"
	"strings"
	"testing"

	"dibber/netkit/natlab"
	"dibber/netkit/netns"
)

// sentBy is how many packets have left by an interface of a host.
func sentBy(t *testing.T, h *netns.Host, name string) int {
	t.Helper()
	var links []struct {
		Stats struct {
			TX struct {
				Packets int `json:"packets"`
			} `json:"tx"`
		} `json:"stats64"`
	}
	if err := json.Unmarshal([]byte(h.Run("ip", "-s", "-j", "link", "show", name)), &links); err != nil || len(links) != 1 {
		t.Fatalf("%v: %d interfaces %s", err, len(links), name)
	}
	return links[0].Stats.TX.Packets
}

// TestKeepsToTheInterface: a second interface, to which the routes of the machine lead, sees nothing of a node that keeps to the
// first, whether it dials, is dialled, or asks by multicast; and it sees one that does not.
func TestKeepsToTheInterface(t *testing.T) {
	lab := netns.New(t, natlab.Config{})
	router := lab.Router(lab.Internet(), "router", netns.RouterConfig{})
	other, node := router.Inside("other"), router.Inside("node")
	for _, command := range []string{
		"link add lan1 type veth peer name far", "link set lan1 addrgenmode none", "link set far addrgenmode none",
		"link set far up", "link set lan1 up",
		"addr add 192.0.2.9/24 dev lan1", "route add " + other.Addr().String() + "/32 dev lan1",
	} {
		node.Run("ip", strings.Fields(command)...)
	}
	addrs := other.Start("dibber", "serve", "--ndjson", "--state-dir", t.TempDir()).Event("ready")["addrs"].([]any)
	confined := node.Start("dibber", "serve", "--interface", "up0", "--mdns", "--ndjson", "--state-dir", t.TempDir())
	own := confined.Event("ready")["addrs"].([]any)
	for _, transport := range []string{"quic", "tcp"} {
		dial := node.Start("dibber", "dial", "--ndjson", "--interface", "up0", "--transport", transport, addrOf(t, addrs, transport, other))
		if got, code := dial.Event("summary"), dial.Wait(); code != 0 {
			t.Errorf("dial over %s: exit %d: %v", transport, code, got["error"])
		}
		dial = other.Start("dibber", "dial", "--ndjson", "--transport", transport, addrOf(t, own, transport, node))
		got := dial.Event("summary")
		if code := dial.Wait(); code != 0 {
			t.Errorf("dialled over %s: exit %d: %v", transport, code, got["error"])
			continue
		}
		for _, a := range got["identify"].(map[string]any)["listen_addrs"].([]any) {
			if !strings.HasPrefix(a.(string), "/ip4/"+node.Addr().String()+"/") {
				t.Errorf("over %s it announces %s, which is not of its interface", transport, a)
			}
		}
	}
	if n := sentBy(t, node, "lan1"); n != 0 {
		t.Errorf("%d packets left by the other interface", n)
	}
	dial := node.Start("dibber", "dial", "--ndjson", "--timeout", "2s", addrOf(t, addrs, "quic", other))
	if code := dial.Wait(); code == 0 || sentBy(t, node, "lan1") == 0 {
		t.Errorf("exit %d without --interface, and the route by the other interface is not used: the test shows nothing", code)
	}
}
