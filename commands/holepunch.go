package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/natcheck"
	"dibber/netkit/punch"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/urfave/cli/v2"
)

// holepunchOptions are the flags and arguments of holepunch.
type holepunchOptions struct {
	Host      hostOptions
	Target    []string
	Count     int
	Interval  time.Duration
	Hold      time.Duration
	Method    string
	Servers   []string
	NoPortMap bool
}

// holepunchDoc is the document of one punch.
type holepunchDoc struct{ punch.Report }

// holepunchManyDoc is the document of several.
type holepunchManyDoc struct {
	Runs  []punch.Report `json:"runs"`
	Tally []punch.Share  `json:"tally"` // all, then by transport and family
}

func newHolepunch(e *env) spec {
	var o holepunchOptions
	return spec{
		name: "holepunch", usage: "make a direct connection through NATs, and say what happened", args: "<relay>/p2p-circuit/p2p/<peer>",
		about: `The other side waits with dibber holepunch listen, which prints the address to give here, or is any libp2p peer
that keeps a reservation on a relay and speaks DCUtR. A relay of dibber hands the other side an offer; otherwise, or where
that fails, both are connected through the relay first. They tell each other where they were seen, and dial each other at
the same moment. The direct connection is then shown to carry data without a relayed one. If the other side has no
reservation yet, it is waited for until --timeout. It does more than DCUtR with the same peer as often as its --every says, once a
minute by default.`,
		examples: []string{
			"dibber holepunch /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm/p2p-circuit/p2p/12D3KooWBkMuB7nkeLcxVHe1uLcBuNoB6rmTCMxNrTDGsWu4roev",
			"dibber holepunch @home --peers @peers.txt --transport tcp --hold 1m",
			"dibber holepunch @home --peers @peers.txt --count 20 --interval 1m --timeout 0 --json",
		},
		flags: slices.Concat([]cli.Flag{
			&cli.IntFlag{Name: "count", Value: 1, Usage: "punch `N` times, each from the relay alone, and sum up", Destination: &o.Count},
			&cli.DurationFlag{Name: "interval", Aliases: []string{"i"}, Value: time.Second, Usage: "wait `DURATION` from punch to punch", Destination: &o.Interval},
			&cli.DurationFlag{Name: "hold", Usage: "keep the direct connection for `DURATION`, pinging it once a second", Destination: &o.Hold},
			methodFlag(&o.Method),
			serverFlag(&o.Servers),
			noPortMapFlag(&o.NoPortMap),
		}, hostFlags(&o.Host)),
		options: &o, timeout: 30 * time.Second, doc: punch.Report{}, manyDoc: holepunchManyDoc{}, events: holepunchEvents(),
		extra: func() time.Duration {
			return time.Duration(o.Count)*o.Hold + time.Duration(max(0, o.Count-1))*(o.Interval+30*time.Second)
		},
		validate:    o.validate,
		run:         func(ctx context.Context, out *output) (any, error) { return runHolepunch(ctx, out, o) },
		subcommands: []spec{newHolepunchListen(e)},
	}
}

// methodFlag is --method of both sides.
func methodFlag(dest *string) cli.Flag {
	*dest = punch.MethodAuto
	return choiceFlag("", "method", "punch by `METHOD`: all that gets through these NATs, or DCUtR and no more", dest, punch.MethodAuto, punch.MethodDCUtR)
}

// serverFlag is --server of both sides.
func serverFlag(dest *[]string) cli.Flag {
	return listFlag("", "server", "look at the own NAT from `VANTAGE` where the relay is no vantage point; both sides need the same (repeatable)", dest)
}

// noPortMapFlag is --no-portmap of both sides.
func noPortMapFlag(dest *bool) cli.Flag {
	return &cli.BoolFlag{Name: "no-portmap", Usage: "do not ask the router to forward a port while the command runs", Destination: dest}
}

func (o *holepunchOptions) validate(args []string) error {
	o.Target = args
	switch {
	case o.Count < 1:
		return usagef("--count: %d is less than 1", o.Count)
	case o.Interval < 0 || o.Hold < 0:
		return usagef("--interval and --hold must not be negative")
	case o.Host.NoDiscovery:
		return usagef("--no-discovery tells nobody an address, and a punch tells the peer this host's")
	}
	if err := o.Host.shows("holepunch"); err != nil {
		return err
	}
	return o.Host.needTargets("holepunch", args, addr.Options{})
}

// holepunchEvents are the lines of --ndjson before the summary.
func holepunchEvents() []event { return []event{{"step", punchStep{}}, {"ended", punch.Report{}}} }

// punchStep is a step of a punch as it happens.
type punchStep struct {
	Run    string     `json:"run"`
	AtMS   float64    `json:"at_ms"` // after the relayed connection stood
	Side   punch.Role `json:"side"`
	Step   string     `json:"step"`
	Addrs  []string   `json:"addrs"`
	Detail *string    `json:"detail"`
}

func stepOf(e punch.Event) punchStep {
	return punchStep{e.Run, e.Step.AtMS, e.Step.Side, e.Step.Event, e.Step.Addrs, e.Step.Error}
}

func runHolepunch(ctx context.Context, out *output, o holepunchOptions) (any, error) {
	targets, err := o.Host.oneTarget(out, "holepunch", o.Target, addr.Options{})
	if err != nil {
		return nil, err
	}
	t := targets[0]
	if !slices.ContainsFunc(t.Addrs, addr.IsRelayed) {
		return nil, &failure{
			Exit: exitUsage, Err: fmt.Errorf("%s: no address of it leads through a relay", t.ID),
			Hint: "the address looks like RELAY/p2p-circuit/p2p/PEER; dibber holepunch listen --relay RELAY prints it on the other side",
		}
	}
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return nil, err
	}
	defer n.Close()
	cfg := punch.DoConfig{Hold: o.Hold, Config: punch.Config{Method: o.Method, PortMap: !o.NoPortMap}}
	if cfg.Servers, err = o.Host.infos(out, n.ID(), "--server", o.Servers); err != nil {
		return nil, err
	}
	share := natcheck.NewShare(n, natcheck.ShareConfig{Chosen: []peer.ID{t.ID}})
	defer func() { _ = share.Close() }() // returns nil always
	if o.Count == 1 {
		r, err := punchOnce(ctx, out, n, t, cfg)
		return holepunchDoc{r}, err
	}
	runs := []punch.Report{}
	var failed []error
	for i := range o.Count {
		if i > 0 {
			n.Forget(t.ID)
			host.Pause(ctx, o.Interval)
		}
		r, err := punchOnce(ctx, out, n, t, cfg)
		if ctx.Err() != nil { // cut off, neither punched nor failed
			return holepunchManyDoc{runs, punch.Tally(runs)}, ctx.Err()
		}
		runs = append(runs, r)
		out.event("ended", endedLine{r})
		if err != nil {
			failed = append(failed, err)
		}
	}
	return holepunchManyDoc{runs, punch.Tally(runs)}, severalFailed(o.Count, failed)
}

// endedLine is the outcome of one of several punches.
type endedLine struct{ punch.Report }

func (l endedLine) line() string { return punchLine(l).line() }

func punchOnce(ctx context.Context, out *output, n *host.Node, t addr.Target, cfg punch.DoConfig) (punch.Report, error) {
	out.status("calling %s by way of the relay", t.ID)
	cfg.On = func(e punch.Event) {
		if e.Step != nil {
			out.event("step", stepOf(e))
			out.status("%s", e.Step.Event)
		}
	}
	return punch.Do(ctx, n, t.ID, resolved(ctx, n, t), cfg)
}

// resolved are the addresses of t with names looked up.
func resolved(ctx context.Context, n *host.Node, t addr.Target) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, a := range t.Addrs {
		out = append(out, n.Resolve(ctx, t.ID, a).Addrs...)
	}
	return out
}

// punchFailure gives the errors of punching their class.
func punchFailure(err error) (failure, bool) {
	failed, ok := errors.AsType[*punch.FailedError](err)
	if !ok {
		return failure{}, false
	}
	f := failure{Exit: exitRelayedOnly, Code: failed.Reason, Phase: "punch", Retryable: true}
	switch failed.Reason {
	case punch.ReasonNoRelay:
		f.Exit, f.Phase, f.Hint = exitUnreachable, "relay", "is the relay running, and is this its address?"
	case punch.ReasonNoReservation:
		f.Exit, f.Phase, f.Hint = exitUnreachable, "relay", "start dibber holepunch listen --relay RELAY on the other side"
	case punch.ReasonRefused:
		f.Exit, f.Phase, f.Hint = exitRefused, "relay", "the relay has no room, or its lists exclude one of the two peers"
	case punch.ReasonNoProtocol:
		f.Exit, f.Retryable, f.Hint = exitProtocol, false, "the other side has hole punching (DCUtR) switched off"
	case punch.ReasonNoLocalAddr:
		f.Hint = "the relay did not see this host at an address that others could dial"
	case punch.ReasonNoRemoteAddr:
		f.Hint = "the relay did not see the other side at an address that could be dialled"
	case punch.ReasonAttemptsEnded:
		f.Retryable, f.Hint = !errors.Is(err, punch.ErrImpossible), attemptsHint(failed.View)
	case punch.ReasonLost:
		f.Exit = exitUnreachable
	case punch.ReasonCoordination:
		if slices.ContainsFunc(failed.View.Dropped, func(d punch.Dropped) bool { return d.Reason == punch.DroppedSpent }) {
			f.Hint = "the other side's address was dialled as often as it may be within a minute: try again after that"
		}
	}
	return f, true
}

// attemptsHint is what to do where every attempt failed.
func attemptsHint(v punch.View) string {
	x := nat.Outlook{Direct: nat.Yes}
	if v.Plan != nil && v.Plan.Method == nat.MethodNone {
		x.Direct = nat.No
	}
	switch v.Cause(x) {
	case punch.CauseSameNAT:
		return "both are behind one outside address, whose router sends nothing back in: dibber dial the other side's address in the local network"
	case punch.CauseNATs:
		return "the two NATs let nothing through: give one side an open port or IPv6, or stay relayed"
	case punch.CauseLimited:
		return "one side does more than DCUtR with the other only so often, once a minute unless told otherwise: try again later, or give its dibber holepunch listen --every 1s"
	case punch.CauseNoExchange:
		return "DCUtR alone got nothing through: a relay that runs serve --vantage lets both sides do more, if both are dibber; dibber explain says what is in the way"
	default:
		return "these NATs were to let it through: a firewall may be in the way, or a NAT is another than it looked; compare dibber natcheck of both sides by dibber explain"
	}
}
