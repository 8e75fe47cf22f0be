//go:build linux

package netns

import (
	"fmt"
	"os"
	"path/filepath"
)

// MapPorts starts miniupnpd on the router, which from then on maps ports for its
// LAN by UPnP, NAT-PMP and PCP, and waits until it listens. A test asks first
// whether the program is there: Need(t, Have("miniupnpd", "miniupnpd-nftables")).
// A router whose own address is private (double NAT) gives no mapping.
func (r *Router) MapPorts() *Process {
	r.t.Helper()
	// miniupnpd fills chains that it expects to find.
	r.pipe(`
table inet mapper {
	chain mapped { }
	chain translated { }
	chain masqueraded { }
	chain forward {
		type filter hook forward priority filter
		jump mapped
	}
	chain prerouting {
		type nat hook prerouting priority dstnat
		jump translated
	}
	chain postrouting {
		type nat hook postrouting priority srcnat
		jump masqueraded
	}
}
`, "nft", "-f", "-")
	config := filepath.Join(r.t.TempDir(), "miniupnpd.conf")
	text := fmt.Sprintf(`ext_ifname=%s
listening_ip=%s
http_port=0
enable_natpmp=yes
enable_upnp=yes
uuid=00000000-0000-0000-0000-000000000001
upnp_table_name=mapper
upnp_nat_table_name=mapper
upnp_forward_chain=mapped
upnp_nat_chain=translated
upnp_nat_postrouting_chain=masqueraded
allow 1024-65535 %s 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
`, upName, lanName, r.lan)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		r.t.Fatalf("netns: configuration of miniupnpd: %v", err)
	}
	p := r.Start("miniupnpd", "-d", "-f", config, "-P", filepath.Join(r.t.TempDir(), "pid"))
	p.Says("HTTP listening")
	p.Says("Listening for NAT-PMP/PCP")
	return p
}
