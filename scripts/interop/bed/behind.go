package bed

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// The addresses of a NAT and the host behind it.
const (
	gatewayIP = "11.1.100.1" // the internet's end of the router's link
	routerIP  = "11.1.100.2" // by which the router is known outside
	lanIP     = "192.168.7.1"
	insideIP  = "192.168.7.2"
	sideIP    = "11.1.101.1" // of an interface that leads nowhere
)

// Hidden is a node behind a NAT.
type Hidden struct {
	*Node
	Outside []string // its addresses as they would be if the NAT forwarded its ports
}

// ServeBehindNAT starts dibber serve on a host behind a router that translates addresses and lets in only answers. It needs a
// namespace, as the features that are Public have, and nft.
func (s *Scene) ServeBehindNAT(ctx context.Context, args ...string) (*Hidden, error) {
	inside, err := s.natted(ctx)
	if err != nil {
		return nil, err
	}
	n, err := s.serve(ctx, inside, []string{"/ip4/" + insideIP + "/udp/0/quic-v1", "/ip4/" + insideIP + "/tcp/0"}, args)
	if err != nil {
		return nil, err
	}
	h := &Hidden{Node: n}
	for _, a := range n.Addrs {
		h.Outside = append(h.Outside, strings.Replace(a, insideIP, routerIP, 1))
	}
	return h, nil
}

// Interface gives the scene an interface that is not loopback, as the features that are Public may have.
func (s *Scene) Interface(ctx context.Context) error {
	const commands = "ip link show side0 >/dev/null 2>&1 || { ip link add side0 type veth peer name side1; ip addr add " + sideIP + "/24 dev side0; ip link set side1 up; ip link set side0 up; }"
	if out, err := exec.CommandContext(ctx, "sh", "-ec", commands).CombinedOutput(); err != nil {
		return fmt.Errorf("make an interface: %w: %s", err, out)
	}
	return nil
}

// natted makes the router and the host behind it, and returns the command that runs others there.
func (s *Scene) natted(ctx context.Context) (inside []string, err error) {
	for _, command := range []string{"ip", "nft", "nsenter", "unshare"} {
		if _, err := exec.LookPath(command); err != nil {
			return nil, Skip("no %s: no NAT", command)
		}
	}
	router, err := s.emptyNamespace(ctx)
	if err != nil {
		return nil, err
	}
	host, err := s.emptyNamespace(ctx)
	if err != nil {
		return nil, err
	}
	enter := func(pid string) []string { return []string{"nsenter", "--net", "--target", pid} }
	for _, setup := range []struct {
		in       []string
		commands string
	}{
		{nil, `ip link add wan0 type veth peer name up0 netns ` + router + `
			ip addr add ` + gatewayIP + `/24 dev wan0
			ip link set wan0 up`},
		{enter(router), `ip addr add ` + routerIP + `/24 dev up0
			ip link set up0 up
			ip route add default via ` + gatewayIP + `
			ip link add lan0 type veth peer name up0 netns ` + host + `
			ip addr add ` + lanIP + `/24 dev lan0
			ip link set lan0 up
			echo 1 >/proc/sys/net/ipv4/ip_forward
			nft add table ip nat
			nft add chain ip nat out '{ type nat hook postrouting priority srcnat; }'
			nft add rule ip nat out oifname up0 masquerade
			nft add chain ip nat across '{ type filter hook forward priority filter; }'
			nft add rule ip nat across iifname up0 ct state new drop`},
		{enter(host), `ip link set lo up
			ip addr add ` + insideIP + `/24 dev up0
			ip link set up0 up
			ip route add default via ` + lanIP},
	} {
		args := append(setup.in, "sh", "-ec", setup.commands)
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("make a NAT: %w: %s", err, out)
		}
	}
	return enter(host), nil
}

// emptyNamespace makes a network namespace, which goes with the process whose id is returned, and all processes in it.
func (s *Scene) emptyNamespace(ctx context.Context) (pid string, err error) {
	p, err := s.Start(ctx, nil, "unshare", "--net", "sh", "-c", "echo made; exec cat")
	if err != nil {
		return "", err
	}
	_, err = p.Line(ctx, "made")
	return strconv.Itoa(p.cmd.Process.Pid), err
}
