package commands

import (
	"fmt"
	"strings"

	"dibber/netkit/chain"
	"dibber/netkit/host"
	"dibber/netkit/pchain"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// defaultHub is of how many neighbours serve forwards the mail.
const defaultHub = 256

func serveChainFlags(o *chainOptions) []cli.Flag {
	return append(chainFlags(o), &cli.IntFlag{
		Category: groupChain, Name: "hub", Value: defaultHub, Destination: &o.Hub,
		Usage: "pass on the mail of at most `N` neighbours, where their version lets others do that; 0 of none",
	})
}

func (o *chainOptions) validateServe(e *env, flags []cli.Flag) error {
	switch {
	case !o.on() && e.named("hub"):
		return usagef("--hub needs --profile")
	case o.Hub < 0:
		return usagef("--hub must not be negative")
	case o.on() && e.named("hub") && !o.profile().Hub:
		return usagef("--hub: peers of %s take mail of neighbours alone", o.Profile)
	}
	return o.validate(e, flags, append(httpKeys(), "http", "hub", "admin", "conns", "conns-per-ip", "memory", "ready-file", "drain")...)
}

// role fills in the node's part in the network.
func (o *chainOptions) role(out *output, h *hostOptions, own peer.ID, roles *serve.Config) error {
	if !o.on() {
		return nil
	}
	cfg, err := o.config(out, h, own, nil)
	if err != nil {
		return err
	}
	cfg.Boot, roles.Peers = append(cfg.Boot, roles.Peers...), nil // one redials
	if o.profile().Hub {
		cfg.Hub = o.Hub
	}
	cfg.Gates = []chain.Gate{{Take: func(d chain.Delivery) bool {
		out.event("chain.message", chainLineOf(out, d))
		return true
	}}}
	roles.Chain = &cfg
	return nil
}

// hostConfig is that of the node.
func (o *serveOptions) hostConfig(out *output) (host.Config, error) {
	if o.Chain.on() {
		return o.Chain.hostConfig(out, &o.Host, hostDefaults{port: pchain.DefaultPort, identity: identityFile})
	}
	return o.Host.config(out, hostDefaults{port: defaultPort, identity: identityFile})
}

// chainLimits say how the node takes part in the network of a ParallelChain.
type chainLimits struct {
	Profile string   `json:"profile"`
	Topics  []string `json:"topics"` // that it hears besides its own mailbox
	Hub     int      `json:"hub"`    // neighbours whose mail it passes on, at most
	WalkMS  float64  `json:"walk_ms"`
}

func chainLimitsOf(c *chain.Config) *chainLimits {
	if c == nil {
		return nil
	}
	return &chainLimits{c.Profile.Name, c.Topics, c.Hub, millis(c.Walk)}
}

func (l chainLimits) String() string {
	s := fmt.Sprintf("%s  %s: hears %s and its mailbox", serve.RoleChain, l.Profile, strings.Join(l.Topics, ", "))
	if l.Hub > 0 {
		s += fmt.Sprintf(", passes on the mail of %d neighbours", l.Hub)
	}
	return s
}
