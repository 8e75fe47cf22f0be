//go:build linux

package netns

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"dibber/netkit/natlab"
)

// RouterConfig describes a router whose NAT is the kernel's. The zero value keeps
// ports and drops what nobody inside asked for.
type RouterConfig struct {
	// RandomPorts gives every flow a port of its own by chance (nft: masquerade
	// fully-random); else ports are kept where they are free.
	RandomPorts bool
	// Unsolicited is the policy for packets from outside that belong to no flow;
	// Poison means none, so that they reach the router itself.
	Unsolicited natlab.Unsolicited
	// Timeout is how long a UDP flow without packets lives, in whole seconds; 0
	// means the kernel's choice.
	Timeout time.Duration
	Link    natlab.LinkConfig // to the network that the router stands in
}

// Router is a namespace in which the kernel forwards and nftables translates
// between up0 and the LAN's bridge, lan0.
type Router struct {
	*Host
	lan   netip.Prefix
	hosts byte // host numbers given out; the router has number 1
}

// lanName is the device of a router's namespace that leads to its LAN.
const lanName = "lan0"

// Router makes a kernel router in one of natlab's networks, with an empty LAN.
func (l *Lab) Router(in *natlab.Network, name string, c RouterConfig) *Router {
	l.t.Helper()
	l.lans++
	r := &Router{
		Host:  l.Host(in, name, natlab.MachineConfig{Link: c.Link}),
		lan:   netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, l.lans, 0}), 24),
		hosts: 1,
	}
	r.ip(
		"link add lan0 type bridge", "link set lan0 addrgenmode none", "link set lan0 up",
		address(r.numbered(1), r.lan.Bits(), lanName),
	)
	r.set("ipv4.ip_forward", "1")
	r.pipe(rules(c), "nft", "-f", "-")
	if c.Timeout > 0 { // the settings are there once nftables tracks connections
		seconds := strconv.Itoa(int(c.Timeout / time.Second))
		r.set("netfilter.nf_conntrack_udp_timeout", seconds)
		r.set("netfilter.nf_conntrack_udp_timeout_stream", seconds)
	}
	return r
}

// External is the router's address outside.
func (r *Router) External() netip.Addr { return r.Addr() }

// Inside makes a namespace in the router's LAN.
func (r *Router) Inside(name string) *Host {
	r.t.Helper()
	h := newHost(r.t, name)
	r.hosts++
	port := fmt.Sprintf("lan0-%d", r.hosts)
	h.addrs = []netip.Addr{r.numbered(r.hosts)}
	r.ip(
		fmt.Sprintf("link add %s type veth peer name up0 netns %s", port, h.Path()),
		fmt.Sprintf("link set %s master lan0 addrgenmode none", port), fmt.Sprintf("link set %s up", port),
	)
	h.ip(
		"link set lo up", "link set up0 addrgenmode none", "link set up0 up", address(h.Addr(), r.lan.Bits(), upName),
		fmt.Sprintf("route add default via %s", r.numbered(1)),
	)
	return h
}

// numbered is the LAN's address with a host number.
func (r *Router) numbered(host byte) netip.Addr {
	b := r.lan.Addr().As4()
	b[3] = host
	return netip.AddrFrom4(b)
}

// rules are the NAT and its filter in the language of nft. What is forwarded from
// outside belongs to a flow from inside, or to a port that was mapped on request.
func rules(c RouterConfig) string {
	masquerade, unsolicited := "masquerade", "drop"
	if c.RandomPorts {
		masquerade = "masquerade fully-random"
	}
	switch c.Unsolicited {
	case natlab.Reject:
		unsolicited = "meta l4proto tcp reject with tcp reset\n\t\tiifname up0 reject"
	case natlab.Poison:
		unsolicited = "accept"
	case natlab.Drop:
	}
	return fmt.Sprintf(`
table ip lab {
	chain translate {
		type nat hook postrouting priority srcnat
		oifname up0 %s
	}
	chain own {
		type filter hook input priority filter
		iifname up0 ct state established,related accept
		iifname up0 %s
	}
	chain through {
		type filter hook forward priority filter
		iifname up0 ct state established,related accept
		iifname up0 ct status dnat accept
		iifname up0 drop
	}
}
`, masquerade, unsolicited)
}
