package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/dial"
	"dibber/netkit/host"
	"dibber/netkit/ping"

	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/urfave/cli/v2"
)

// dialOptions are the flags and arguments of dial.
type dialOptions struct {
	Host         hostOptions
	Sources      sourceOptions
	Targets      []string
	Ping         int
	Interval     time.Duration
	Each         bool
	NoRelay      bool
	UntilDirect  bool
	Require      []string
	Hold         time.Duration
	Watch        bool
	AllowUnknown bool
}

// dialDoc is the document of dial: the result itself for one target, a list of
// them for several.
type dialDoc struct {
	*dial.Result
	Results []dial.Result `json:"results,omitempty"`
}

// dialManyDoc describes the document of several targets.
type dialManyDoc struct {
	Results []dial.Result `json:"results"`
}

func newDial(*env) spec {
	o := dialOptions{}
	return spec{
		name: "dial", usage: "reach a peer and say precisely how", args: "<target>...",
		about: `Every address is tried as real programs do it: QUIC before TCP, direct before relayed, the first that stands wins.
The table shows each address with its phases, and why one was not tried. With several targets each peer is dialled in turn.
Nothing but the targets, their relays and their names is contacted, and the sources if a target is a bare peer id.

With --watch a lost path is replaced by whichever there is, over the relay too, and a relayed one is made direct again as
soon as the way between the two allows it. At the end the changes are summed up, with round trips and loss on each path.`,
		examples: []string{
			"dibber dial /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm",
			"dibber discover --rendezvous /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm --namespace chat -o addrs | dibber dial - --each",
			"dibber dial @home --peers @peers.txt --until-direct --watch --ndjson",
		},
		flags: slices.Concat([]cli.Flag{
			&cli.IntFlag{Name: "ping", Value: 3, Usage: "send `N` pings once connected; 0 sends none", Destination: &o.Ping},
			&cli.DurationFlag{Name: "interval", Aliases: []string{"i"}, Value: 10 * time.Millisecond, Usage: "wait `DURATION` from ping to ping", Destination: &o.Interval},
			&cli.BoolFlag{Name: "each", Usage: "dial every address in isolation instead of racing them", Destination: &o.Each},
			&cli.BoolFlag{Name: "no-relay", Usage: "try direct addresses only", Destination: &o.NoRelay},
			&cli.BoolFlag{Name: "until-direct", Usage: "wait for a direct path, or exit 7 at --timeout", Destination: &o.UntilDirect},
			listFlag("", "require", "exit 5 unless the peer speaks `PROTOCOL` (repeatable)", &o.Require),
			&cli.DurationFlag{Name: "hold", Usage: "keep the connection for `DURATION` and tell when its path changes", Destination: &o.Hold},
			&cli.BoolFlag{Name: "watch", Usage: "until interrupted, ping once a second, tell each change of path with its cause, and dial again what is lost", Destination: &o.Watch},
			&cli.BoolFlag{Name: "allow-unknown-peer", Usage: "accept an address without a peer id: ask who is there first", Destination: &o.AllowUnknown},
		}, sourceFlags(&o.Sources), hostFlags(&o.Host)),
		options: &o, timeout: 30 * time.Second, doc: dial.Result{}, manyDoc: dialManyDoc{}, events: dialEvents(),
		longLived: func() bool { return o.Watch },
		extra: func() time.Duration {
			if o.Watch {
				return -1
			}
			return o.Hold
		},
		validate: o.validate,
		run:      func(ctx context.Context, out *output) (any, error) { return runDial(ctx, out, o) },
	}
}

func (o *dialOptions) validate(args []string) error {
	o.Targets = args
	switch {
	case o.NoRelay && o.Host.RelayOnly:
		return usagef("--no-relay and --relay-only exclude each other")
	case o.UntilDirect && o.Host.RelayOnly:
		return usagef("--until-direct and --relay-only exclude each other")
	case o.Each && (o.UntilDirect || o.Watch || o.Hold != 0 || len(o.Require) > 0):
		return usagef("--each closes every connection at once; it cannot go with --until-direct, --watch, --hold or --require")
	case o.Watch && o.Hold != 0:
		return usagef("--watch and --hold exclude each other")
	case o.Ping < 0 || o.Interval < 0 || o.Hold < 0:
		return usagef("--ping, --interval and --hold must not be negative")
	}
	if err := o.Sources.validate(); err != nil {
		return err
	}
	return o.Host.needTargets("dial", args, addr.Options{AllowUnknownPeer: o.AllowUnknown})
}

// holds reports whether the connection is to be kept for a while.
func (o *dialOptions) holds() bool { return o.Watch || o.Hold != 0 }

// dialEvents are the lines of --ndjson before the summary.
func dialEvents() []event {
	return append(reachEvents(), event{"ping", ping.Pong{}}, event{"path.changed", changeLine{}})
}

// reachEvents are those until the peer has introduced itself.
func reachEvents() []event {
	return []event{
		{"addr.resolved", dial.Resolved{}},
		{"addr.done", dialAttempt{}},
		{"connected", dial.PathChange{}},
		{"identify", dial.Identify{}},
	}
}

// dialAttempt is an attempt with the peer it was made for.
type dialAttempt struct {
	Peer string `json:"peer"`
	dial.Attempt
}

// pathLine is a path that also shows while the command runs.
type pathLine struct{ dial.PathChange }

func (p pathLine) line() string {
	return fmt.Sprintf("%.0f ms  path %s  %s", p.AtMS, p.Path, p.Addr)
}

// changeLine is a change of the path.
type changeLine struct {
	pathLine
	From   string   `json:"from"`
	Cause  *string  `json:"cause"`
	Detail *string  `json:"detail"`
	DownMS *float64 `json:"down_ms"`
}

func changeOf(t addr.Target, c dial.Change) changeLine {
	now := pathLine{dial.PathChange{Peer: t.ID, Path: c.To, Addr: c.Addr, AtMS: c.AtMS}}
	return changeLine{now, c.From, c.Cause, c.Detail, c.DownMS}
}

func (c changeLine) line() string {
	if c.Path == dial.None {
		return fmt.Sprintf("%.0f ms  path none  ", c.AtMS) + changeText(c.From, c.Cause, c.Detail, c.DownMS)
	}
	return c.pathLine.line() + "  " + changeText(c.From, c.Cause, c.Detail, c.DownMS)
}

func runDial(ctx context.Context, out *output, o dialOptions) (any, error) {
	parse := o.Host.targets
	if o.holds() {
		parse = func(out *output, args []string, opts addr.Options) ([]addr.Target, error) {
			return o.Host.oneTarget(out, "dial with --watch or --hold", args, opts)
		}
	}
	targets, err := parse(out, o.Targets, addr.Options{AllowUnknownPeer: o.AllowUnknown})
	if err != nil {
		return nil, err
	}
	find, err := o.Sources.finder(out, &o.Host, targets)
	if err != nil {
		return nil, err
	}
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return nil, err
	}
	defer n.Close()
	defer o.Host.punching(n)()
	if len(targets) == 1 {
		r, err := dialTarget(ctx, out, n, find, targets[0], o)
		return dialDoc{Result: &r}, err
	}
	var doc dialDoc
	var failed []error
	for _, t := range targets {
		out.status("dialling %s", t.ID)
		r, err := dialTarget(ctx, out, n, find, t, o)
		doc.Results = append(doc.Results, r)
		if err != nil {
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return doc, severalFailed(len(targets), failed)
}

// severalFailed sums up the errors of several targets: all failed alike means the
// first one's class, some failed means partial.
func severalFailed(of int, failed []error) error {
	switch {
	case len(failed) == 0:
		return nil
	case len(failed) == of:
		return fmt.Errorf("all %d targets failed; the first: %w", of, failed[0])
	}
	return &failure{
		Exit: exitPartial, Retryable: true, Hint: classify(failed[0], nil).Hint,
		Err: fmt.Errorf("%d of %d targets failed; the first: %w", len(failed), of, failed[0]),
	}
}

// dialTarget dials one peer as the options say; find looks up who is known by the peer id only.
func dialTarget(ctx context.Context, out *output, n *host.Node, find finder, t addr.Target, o dialOptions) (dial.Result, error) {
	if t.ID == "" {
		id, err := dial.Learn(ctx, n, t.Addrs)
		if err != nil {
			return dial.Result{}, err
		}
		out.notice("peer %s answers there; nothing vouches for it", id)
		t.ID = id
	}
	if err := find.complete(ctx, n, &t); err != nil {
		return dial.Result{Peer: &t.ID}, err
	}
	cfg := dial.Config{
		NoRelay: o.NoRelay, RelayOnly: o.Host.RelayOnly, UntilDirect: o.UntilDirect,
		Require: protocol.ConvertFromStrings(o.Require), Hold: o.Hold, Watch: o.Watch,
		Ping: ping.Config{Count: o.Ping, Interval: max(o.Interval, time.Microsecond)},
		On:   func(e dial.Event) { tellDial(out, t, e, o.holds()) },
	}
	if o.Each {
		return dial.Each(ctx, n, t.ID, t.Addrs, cfg)
	}
	return dial.Do(ctx, n, t.ID, t.Addrs, cfg)
}

// tellDial turns a step of a dial into an event.
func tellDial(out *output, t addr.Target, e dial.Event, holds bool) {
	switch {
	case e.Resolved != nil:
		out.event("addr.resolved", *e.Resolved)
	case e.Attempt != nil:
		out.event("addr.done", dialAttempt{t.ID.String(), *e.Attempt})
		out.status("%s %s", e.Attempt.Addr, e.Attempt.Outcome)
	case e.Connected != nil && holds: // the result comes much later
		out.event("connected", pathLine{*e.Connected})
	case e.Connected != nil:
		out.event("connected", *e.Connected)
	case e.Identify != nil:
		out.event("identify", *e.Identify)
	case e.Pong != nil:
		out.event("ping", *e.Pong)
	case e.Path != nil:
		out.event("path.changed", changeOf(t, *e.Path))
	}
}

func (d dialDoc) quiet() string {
	if d.Results == nil {
		return quietDial(*d.Result)
	}
	var lines []string
	for _, r := range d.Results {
		if q := quietDial(r); q != "" {
			lines = append(lines, q)
		}
	}
	return strings.Join(lines, "\n")
}

// quietDial is the address that won, if any.
func quietDial(r dial.Result) string {
	if r.Addr == nil {
		return ""
	}
	return *r.Addr
}

// dialFailure gives the errors of dialling their class.
func dialFailure(err error) (failure, bool) {
	var ue *dial.UnreachableError
	var pe *dial.ProtocolError
	var re *dial.RelayedError
	var le *dial.LostError
	var part *dial.PartialError
	switch {
	case errors.As(err, &ue):
		return unreachableFailure(ue), true
	case errors.As(err, &pe):
		return failure{Exit: exitProtocol, Code: "missing_protocol", Phase: "identify", Hint: "see what it speaks: dibber id <target>"}, true
	case errors.As(err, &re):
		return failure{Exit: exitRelayedOnly, Phase: "upgrade", Retryable: true, Hint: "give more --timeout, or look at both NATs"}, true
	case errors.As(err, &le):
		return failure{Exit: exitUnreachable, Code: "connection_lost", Phase: "hold", Retryable: true}, true
	case errors.As(err, &part):
		return failure{Exit: exitPartial, Phase: "dial", Retryable: true}, true
	case errors.Is(err, dial.ErrNobody):
		return failure{Exit: exitUnreachable, Phase: "dial"}, true
	}
	return failure{}, false
}

// unreachableFailure tells a person what the most telling reason calls for.
func unreachableFailure(e *dial.UnreachableError) failure {
	f := failure{Exit: exitUnreachable, Code: strings.ReplaceAll(string(e.Cause), "-", "_"), Phase: "dial", Addr: e.Addr, Retryable: true}
	if e.Addr == "" {
		f.Code, f.Retryable = "no_address", false
		f.Hint = "give an address of the peer"
		return f
	}
	switch e.Cause {
	case dial.IDMismatch:
		f.Exit, f.Phase, f.Retryable = exitIdentity, "security", false
		f.Hint = "another peer answers there: ask for its current address, or for its new peer id"
	case dial.HandshakeFailed:
		f.Exit, f.Phase, f.Retryable = exitIdentity, "security", false
		f.Hint = "something else than libp2p answers, it has none of our --security or --muxer, or one of the two is in a private network (--psk-file)"
	case dial.PeerRefused:
		f.Exit, f.Hint = exitRefused, "the peer hangs up on us: its lists or its limits do not let us in"
	case dial.RelayRefused:
		f.Exit, f.Phase, f.Hint = exitRefused, "relay", "the relay's limits or lists do not allow the circuit"
	case dial.OwnLimit:
		f.Exit, f.Hint = exitRefused, "too many connections or too little memory on this side"
	case dial.WantDirect, dial.WantRelay, dial.LinkLocal, dial.Unspecified, dial.Self:
		f.Retryable = false
	case dial.Gated:
		f.Exit, f.Retryable, f.Hint = exitRefused, false, "--deny-peer, --deny-cidr, -4 or -6 of this command rules it out"
	case dial.NotARelay:
		f.Exit, f.Phase, f.Retryable, f.Hint = exitProtocol, "relay", false, "the peer before /p2p-circuit is no relay"
	case dial.NoReservation:
		f.Phase, f.Hint = "relay", "the peer has no reservation there: it must run with --use-relay, or is gone"
	case dial.ConnectionRefused:
		f.Hint = "nothing listens there: is the peer running, and is this its port?"
	case dial.ProxyFailed:
		f.Hint = "is the SOCKS server running, is --socks5 its port, and is the peer there? Its log says more"
	case dial.Timeout:
		f.Hint = "no answer: a firewall, a NAT, or nobody there"
	case dial.RelayUnreachable:
		f.Phase, f.Hint = "relay", "the relay itself cannot be reached; dial it first"
	case dial.NameUnresolved:
		f.Phase, f.Hint = "resolve", "the name has no address; check its spelling"
	case dial.NoTransport:
		f.Retryable, f.Hint = false, "the address needs a transport that is off; see --transport"
	default: // the word says all there is to say
	}
	return f
}
