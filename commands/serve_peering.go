package commands

import (
	"fmt"
	"strings"

	"dibber/netkit/addr"
	"dibber/netkit/peering"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/urfave/cli/v2"
)

// peeringOptions say with whom of those found serve connects.
type peeringOptions struct {
	Off     bool
	Max     int
	Require []string
}

func peeringFlags(o *peeringOptions) []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "max-discovered", Usage: "connect with at most `N` of the peers found; 0 means 32", Destination: &o.Max},
		listFlag("", "require-protocol", "keep only peers found that speak `PROTOCOL`, or another one required; else those with a role (repeatable)", &o.Require),
		&cli.BoolFlag{Name: "no-connect", Usage: "connect with nobody found: only be announced, and stay registered", Destination: &o.Off},
	}
}

// validate refuses what contradicts itself, or would do nothing; finds says whether the
// node looks for peers at all.
func (o *peeringOptions) validate(e *env, finds bool) error {
	for _, f := range []string{"max-discovered", "require-protocol", "no-connect"} {
		switch {
		case !e.named(f):
		case !finds:
			return usagef("--%s needs --mdns or --register", f)
		case o.Off && f != "no-connect":
			return usagef("--%s and --no-connect exclude each other", f)
		}
	}
	if o.Max < 0 {
		return usagef("--max-discovered must not be negative")
	}
	for _, p := range o.Require {
		if !strings.HasPrefix(p, "/") {
			return usagef("--require-protocol: %q does not begin with /", p)
		}
	}
	return nil
}

// config is nil where nobody is to be looked for.
func (o *peeringOptions) config() *peering.Config {
	if o.Off {
		return nil
	}
	cfg := &peering.Config{Max: o.Max}
	for _, p := range o.Require {
		cfg.Require = append(cfg.Require, protocol.ID(p))
	}
	return cfg
}

// peeringKinds are the events about peers found. Those about peers of --peer are among
// them.
func peeringKinds() []peering.EventKind {
	return []peering.EventKind{peering.Found, peering.Connected, peering.Lost, peering.Failed, peering.Dropped, peering.LeftOut}
}

// foundLine is an event of a peer found.
func foundLine(e peering.Event) peerLine {
	l := peerLine{
		Peer: e.Peer, Path: known(e.Path), Addr: known(e.Addr), Error: errorText(e.Err),
		Sources: e.Sources, Reason: known(string(e.Reason)), kind: string(e.Kind),
	}
	for _, a := range e.Addrs {
		l.Addrs = append(l.Addrs, addr.WithPeer(a, e.Peer).String())
	}
	return l
}

// peeringLimits are the limits of connecting with peers found.
type peeringLimits struct {
	Peers   int      `json:"peers"`   // connected at once
	Require []string `json:"require"` // protocols of which a peer must speak one; none: any of a role
}

func peeringLimitsOf(l *peering.Limits) *peeringLimits {
	if l == nil {
		return nil
	}
	d := &peeringLimits{Peers: l.Max}
	for _, p := range l.Require {
		d.Require = append(d.Require, string(p))
	}
	return d
}

func (l peeringLimits) String() string {
	s := fmt.Sprintf("%s  at most %d of the peers found", serve.RolePeering, l.Peers)
	if len(l.Require) > 0 {
		s += " that speak " + strings.Join(l.Require, " or ")
	}
	return s
}
