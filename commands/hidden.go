package commands

import (
	"fmt"
	"slices"

	"dibber/netkit/addr"
	"dibber/netkit/cockpit"
	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/urfave/cli/v2"
)

// hidden is the flag by which the host tells nobody an address of this machine; empty where there is none.
func (o *hostOptions) hidden() string {
	switch {
	case o.RelayOnly:
		return "--relay-only"
	case o.SOCKS != "":
		return "--socks5"
	}
	return ""
}

// validateHidden finds the usage errors in the flags that hide the host, and in those that would show it.
func (o *hostOptions) validateHidden() error {
	if o.RelayOnly && len(o.Announce) > 0 {
		return usagef("--relay-only announces circuits alone: it excludes --announce")
	}
	if o.SOCKS == "" {
		return nil
	}
	if _, err := host.ParseSOCKS(o.SOCKS); err != nil {
		return usagef("--socks5: %w", err)
	}
	if o.Interface != "" {
		return usagef("--socks5 and --interface exclude each other: the server is reached by the routes of this machine")
	}
	listen, err := parseListen(o.Listen)
	if err != nil {
		return err
	}
	for _, a := range listen {
		if ip, ok := addr.IP(a); !ok || !ip.IsLoopback() {
			return usagef("--listen %s: --socks5 listens on loopback only, as in /ip4/127.0.0.1/tcp/4001, where an onion service is to be pointed at", a)
		}
	}
	return nil
}

// hide fills in what hides the host, and says what that turns off.
func (o *hostOptions) hide(out *output, cfg *host.Config) (err error) {
	if o.RelayOnly {
		cfg.RelayOnly = true
		if cfg.Trusted, err = o.trusted(out); err != nil {
			return err
		}
	}
	if o.SOCKS == "" {
		return nil
	}
	if cfg.SOCKS, err = host.ParseSOCKS(o.SOCKS); err != nil {
		return usagef("--socks5: %w", err)
	}
	if slices.ContainsFunc(cfg.Transports, func(t host.Transport) bool { return t != host.TCP }) {
		out.notice("--socks5: every transport but tcp is off, and so are hole punching and mDNS")
	}
	return nil
}

// shows refuses a command that finds out, or tells, where this machine is.
func (o *hostOptions) shows(command string) error {
	if by := o.hidden(); by != "" {
		return usagef("%s excludes %s: it shows others where this machine is", command, by)
	}
	return nil
}

// nameless refuses targets whose names would have to be resolved past the SOCKS server.
func (o *hostOptions) nameless(list []addr.Target) error {
	if o.SOCKS == "" {
		return nil
	}
	for _, t := range list {
		for _, a := range t.Addrs {
			if slices.ContainsFunc(a, func(c ma.Component) bool { return slices.Contains(nameCodes(), c.Code()) }) {
				return &failure{
					Exit: exitUsage, Addr: a.String(), Err: fmt.Errorf("--socks5: %s: %w: whoever answers would learn who is dialled", a, host.ErrNames),
					Hint: "name the peer by an /ip4, /ip6 or /onion3 address",
				}
			}
		}
	}
	return nil
}

// nameCodes are the protocols of multiaddrs that are names.
func nameCodes() []int { return []int{ma.P_DNS, ma.P_DNS4, ma.P_DNS6, ma.P_DNSADDR} }

// exchanges reports whether the host tells peers its addresses, to punch holes and to explain what is in the way.
func (o *hostOptions) exchanges() bool { return !o.NoDiscovery && o.hidden() == "" }

// validateHidden refuses what would show a hidden node, and its machine.
func (o *serveOptions) validateHidden() error {
	if o.CircuitsOnly && (o.DHT.On || o.Chain.on()) {
		return usagef("--circuits-only excludes --dht and --profile, which hand out the addresses of others")
	}
	if o.Host.RelayOnly && len(o.UseRelays) == 0 {
		return usagef("--relay-only needs --use-relay, or a --join token with a relay: nobody could reach the node")
	}
	by := o.Host.hidden()
	if by == "" {
		return nil
	}
	for _, f := range []struct {
		name string
		on   bool
	}{
		{"--mdns", o.MDNS},
		{"--vantage", o.Vantage},
		{"--public-node", o.Full.Public},
		{"--profile", o.Chain.on()},
		{"--relay", o.Host.RelayOnly && o.Relay},
		{"--dht", o.Host.RelayOnly && o.DHT.On},
		{"--find-relays", o.Host.RelayOnly && o.Full.FindRelays},
		{"--autonat", o.Host.RelayOnly && o.AutoNAT},
	} {
		if f.on {
			return usagef("%s and %s exclude each other: it shows others where this machine is", by, f.name)
		}
	}
	if o.HTTP.Addr != "" && !cockpit.Loopback(o.HTTP.Addr) {
		return usagef("%s and --http %s exclude each other: it listens on loopback only", by, o.HTTP.Addr)
	}
	return nil
}

// hiddenReveals says what a hidden node does not hide.
func (o *serveOptions) hiddenReveals() []string {
	if o.Host.RelayOnly {
		out := []string{
			"each --use-relay, --register and the node of --join: this node's IP address; that of nobody else is dialled",
			"everybody else: the peer id, the agent and the protocols, and circuits; those who dial through them see the relay's address",
		}
		return append(out, o.Pubsub.reveals()...)
	}
	out := []string{
		"every connected peer: the peer id, which stays the same until the key does not, the agent and the protocols; circuits and what --announce names",
		"the SOCKS server and, without Tor, its network: who is dialled, when, and how much; where it exits: that this is libp2p, not what is said",
		"whoever sees both ends: that they move at the same time",
	}
	if len(o.Register) > 0 {
		out = append(out, "each --register, and whoever asks it: the peer id in the namespace, with circuits and what --announce names")
	}
	return append(out, o.Pubsub.reveals()...)
}

// trusted are the relays and servers that the command line names, directly or in a relayed address, and those of --join: with
// --relay-only they, and nobody else, learn where this machine is.
func (o *hostOptions) trusted(out *output) (list []peer.ID, err error) {
	t, err := o.invitation()
	if err != nil {
		return nil, err
	}
	if t != nil {
		list = append(list, t.Peer)
		for _, r := range t.Relays {
			_, id := peer.SplitAddr(r)
			list = append(list, id)
		}
	}
	for _, named := range out.e.mentioned {
		if named.value == "" || named.value == "-" {
			continue // what comes by standard input was named by somebody else
		}
		targets, err := o.targets(out, []string{named.value}, addr.Options{AllowUnknownPeer: true})
		if err != nil {
			continue // no address: the command itself says so where it wants one
		}
		for _, t := range targets {
			if named.server {
				list = append(list, t.ID)
			}
			for _, a := range t.Addrs {
				if relay, ok := addr.RelayOf(a); ok {
					list = append(list, relay.ID)
				}
			}
		}
	}
	return list, nil
}

// mention is a peer that the flags or arguments of a command name.
type mention struct {
	value  string
	server bool // a relay, or a rendezvous point
}

// mentions are the values of the flags that name peers, wherever they were set, and the arguments.
func mentions(s *spec, e *env, args []string) (out []mention) {
	for _, f := range s.allFlags(e) {
		list, ok := f.(*cli.GenericFlag)
		if !ok {
			continue
		}
		values, ok := list.Value.(*listValue)
		if !ok {
			continue
		}
		server := slices.Contains([]string{"use-relay", "relay", "register", "rendezvous", "bootstrap"}, list.Name)
		if server || list.Name == "peer" {
			for _, v := range *values.dest {
				out = append(out, mention{v, server})
			}
		}
	}
	for _, a := range args {
		out = append(out, mention{a, false})
	}
	return out
}
