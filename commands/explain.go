package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/dial"
	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/natcheck"
	"dibber/netkit/punch"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// explainOptions are the flags and arguments of explain.
type explainOptions struct {
	Host    hostOptions
	Sources sourceOptions
	Servers []string
	Punch   string
	Args    []string
}

// explainDoc is the document of explain.
type explainDoc struct {
	Direct    nat.Direct `json:"direct"`
	Why       nat.Why    `json:"why"`       // as seen from the first side
	Family    *string    `json:"family"`    // that decides; null: nothing was looked at on both sides
	Transport *string    `json:"transport"` // likewise
	// Path is how the target's natcheck was fetched: relayed, direct or punched; null for
	// documents.
	Path  *string       `json:"path"`
	Sides []explainSide `json:"sides"`
	Punch *explainPunch `json:"punch"` // of --punch
}

// explainPunch is why a punch between the two ended as it did.
type explainPunch struct {
	Outcome string  `json:"outcome"`
	Reason  *string `json:"reason"` // of a failure
	Cause   *string `json:"cause"`  // of a failure, at the root
}

// explainSide is one of the two.
type explainSide struct {
	Name    string      `json:"name"` // the document, "this host" or the target's peer id
	Verdict nat.Verdict `json:"verdict"`
	AgeMS   *float64    `json:"age_ms"` // of its natcheck; null: the document has no date, or one to come
	nat.Side
}

// examined is one side before it is held against the other.
type examined struct {
	name string
	age  *time.Duration // nil: not known
	natcheck.Standing
}

func newExplain(*env) spec {
	var o explainOptions
	return spec{
		name: "explain", usage: "say whether two hosts can connect directly, and if not, why", args: "<A.json> <B.json> | <target>",
		about: `Takes the documents that dibber natcheck --json printed on two hosts, or looks at this host and fetches the natcheck of a
target, over the relay if that is how it is reached. The answer is what two dibber nodes achieve that do all they can.
If it is no, each side is shown what is in the way there, and what would be enough to change; one change is enough.
With --punch a failed dibber holepunch --json of the two is explained by that.

A target that runs dibber holepunch listen, serve or pipe listen tells its natcheck, which holds its addresses, only to
the peers of its --allow-peer, and dibber holepunch to the one it calls; name this host's there, and give it a lasting
--identity here. This host is looked at from the relays of the target, or from each --server.`,
		examples: []string{
			"dibber explain alice.json bob.json",
			"dibber explain /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm/p2p-circuit/p2p/12D3KooWBkMuB7nkeLcxVHe1uLcBuNoB6rmTCMxNrTDGsWu4roev --identity my.key",
			"dibber explain @home --peers @peers.txt --identity my.key --server @vantage --json",
		},
		flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "punch", Usage: "say why the punch between the two failed of which `FILE` holds the document", Destination: &o.Punch},
			listFlag("", "server", "look at this host from `SERVER`, an address or @name, not from the target's relays (repeatable)", &o.Servers),
		}, sourceFlags(&o.Sources), hostFlags(&o.Host)),
		options: &o, timeout: 30 * time.Second, doc: explainDoc{Direct: nat.Unknown, Why: nat.WhyTooLittle}, events: reachEvents(),
		validate: o.validate,
		run: func(ctx context.Context, out *output) (any, error) {
			report, err := o.punch()
			if err != nil {
				return nil, err
			}
			a, b, path, err := o.sides(ctx, out)
			if err != nil {
				return nil, err
			}
			return between(a, b, path, report)
		},
	}
}

// documents reports whether the arguments name documents, not a target.
func (o *explainOptions) documents() bool { return !slices.ContainsFunc(o.Args, isTarget) }

// isTarget reports whether an argument names a peer.
func isTarget(arg string) bool {
	_, err := addr.ParseTarget(arg, addr.Options{})
	return err == nil || errors.Is(err, addr.ErrNoPeerID) || arg == "-" || strings.HasPrefix(arg, "@")
}

func (o *explainOptions) validate(args []string) error {
	o.Args = args
	switch {
	case len(args) == 0:
		return usagef("explain needs two documents of dibber natcheck --json, or a target")
	case o.documents() && len(args) != 2:
		return usagef("explain takes two documents, but got %d: %q is no target", len(args), args[0])
	case o.documents():
		return o.Host.validate()
	case !o.documents() && slices.ContainsFunc(args, func(a string) bool { return !isTarget(a) }):
		return usagef("explain takes two documents or a target, not both")
	}
	if err := o.Sources.validate(); err != nil {
		return err
	}
	if err := o.Host.shows("explain of a target"); err != nil {
		return err
	}
	return o.Host.needTargets("explain", args, addr.Options{})
}

// punch reads the document of --punch; nil without it.
func (o *explainOptions) punch() (*punch.View, error) {
	if o.Punch == "" {
		return nil, nil
	}
	raw, _, err := readDocument("--punch", o.Punch, "holepunch/1")
	if err != nil {
		return nil, err
	}
	var v punch.View
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, usagef("--punch: %s: %w", o.Punch, err)
	}
	if v.Outcome == "" {
		return nil, usagef("--punch: %s is of several punches; give one of a single", o.Punch)
	}
	return &v, nil
}

// sides examines the two; path is how the target was asked, nil for documents.
func (o *explainOptions) sides(ctx context.Context, out *output) (a, b examined, path *string, err error) {
	if !o.documents() {
		return explainTarget(ctx, out, *o)
	}
	for i, side := range []*examined{&a, &b} {
		if *side, err = readSide(out, o.Args[i]); err != nil {
			return a, b, nil, err
		}
	}
	return a, b, nil, nil
}

func readSide(out *output, file string) (examined, error) {
	raw, at, err := readDocument("explain", file, "natcheck/1")
	if err != nil {
		return examined{}, err
	}
	s, err := natcheck.ParseStanding(raw)
	if err != nil {
		return examined{}, usagef("explain: %s: %w", file, err)
	}
	e := examined{name: file, Standing: s}
	switch age := out.e.start.Sub(at); {
	case at.IsZero():
	case age < -clockSlack:
		out.warn("%s is dated %s in the future, so its age is not known: the clocks of the two hosts differ", plainText(file), durationText((-age).Round(time.Second)))
	default:
		e.age = new(max(0, age))
	}
	return e, nil
}

// clockSlack is how much clocks may differ without a word.
const clockSlack = time.Second

// between is the document for two sides; it is an error where it says nothing.
func between(a, b examined, path *string, report *punch.View) (explainDoc, error) {
	x := natcheck.Expect(a.Standing, b.Standing)
	if path != nil && *path != addr.PathRelayed {
		x = nat.Outlook{Direct: nat.Yes, Why: nat.WhyConnected, Sides: []nat.Side{{NAT: x.Sides[0].NAT}, {NAT: x.Sides[1].NAT}}}
	}
	d := explainDoc{Direct: x.Direct, Why: x.Why, Family: x.Family, Transport: x.Transport, Path: path}
	for i, s := range []examined{a, b} {
		side := explainSide{Name: s.name, Verdict: s.Verdict, Side: x.Sides[i]}
		if s.age != nil {
			side.AgeMS = new(millis(*s.age))
		}
		d.Sides = append(d.Sides, side)
	}
	if report != nil {
		d.Punch = &explainPunch{Outcome: report.Outcome, Reason: report.Reason, Cause: known(string(report.Cause(x)))}
	}
	if d.Direct == nat.Unknown {
		f := &failure{
			Exit: exitInconclusive, Phase: "forecast", Err: errors.New("whether they can connect directly is not known: " + whyText(d.Why)),
			Hint: "look again from more servers, best one that runs dibber serve --vantage at two addresses",
		}
		if d.Why == nat.WhySameNAT {
			f.Hint = "try: dibber dial the other side's address in the local network"
		}
		return d, f
	}
	return d, nil
}

// explainTarget looks at this host and has the target tell how it stands.
func explainTarget(ctx context.Context, out *output, o explainOptions) (own, other examined, path *string, err error) {
	targets, err := o.Host.oneTarget(out, "explain", o.Args, addr.Options{})
	if err != nil {
		return own, other, nil, err
	}
	t := targets[0]
	find, err := o.Sources.finder(out, &o.Host, targets)
	if err != nil {
		return own, other, nil, err
	}
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return own, other, nil, err
	}
	defer n.Close()
	servers, err := o.Host.infos(out, n.ID(), "--server", o.Servers)
	if err != nil {
		return own, other, nil, err
	}
	if err := find.complete(ctx, n, &t); err != nil {
		return own, other, nil, err
	}
	out.status("dialling %s", t.ID)
	r, err := dial.Do(ctx, n, t.ID, t.Addrs, dial.Config{
		RelayOnly: slices.ContainsFunc(t.Addrs, addr.IsRelayed),
		On:        func(e dial.Event) { tellDial(out, t, e, false) },
	})
	if err != nil {
		return own, other, nil, err
	}
	conns := n.Conns(t.ID)
	if len(conns) == 0 {
		return own, other, nil, &dial.LostError{Peer: t.ID}
	}
	if len(servers) == 0 {
		servers = lookFrom(t)
	}
	own, other, err = bothSides(ctx, n, conns[0], servers)
	if err != nil {
		return own, other, nil, err
	}
	own.name, other.name = "this host", t.ID.String()
	return own, other, r.Path, nil
}

// lookFrom are those that this host is looked at from: the relays of a target, or the
// target itself.
func lookFrom(t addr.Target) (servers []peer.AddrInfo) {
	for _, a := range t.Addrs {
		if relay, ok := addr.RelayOf(a); ok {
			servers = append(servers, relay)
		}
	}
	if len(servers) == 0 {
		servers = []peer.AddrInfo{t.AddrInfo()}
	}
	return servers
}

// bothSides looks at this host while the peer at the other end of c tells how it stands.
func bothSides(ctx context.Context, n *host.Node, c network.Conn, servers []peer.AddrInfo) (own, other examined, err error) {
	var fetching sync.WaitGroup
	fetching.Go(func() {
		var age time.Duration
		other.Standing, age, err = natcheck.Fetch(ctx, n, c)
		other.age = &age
	})
	// What is found until the time is over counts, whatever the verdict on it.
	look, _ := natcheck.Do(ctx, n, natcheck.Config{Servers: servers, LookOnly: true})
	own.Standing = look.Standing()
	looked := time.Now()
	fetching.Wait()
	own.age = new(time.Since(looked))
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if errors.Is(err, natcheck.ErrNotTold) {
		err = &failure{
			Exit: exitRefused, Phase: "natcheck", Err: err,
			Hint: fmt.Sprintf("give the other side --allow-peer %s, and this one an --identity FILE so that it stays that", n.ID()),
		}
	}
	return own, other, err
}

// explainFailure gives the errors of asking for a natcheck their class.
func explainFailure(err error) (failure, bool) {
	if errors.Is(err, natcheck.ErrUnsupported) {
		return failure{
			Exit: exitProtocol, Code: "missing_protocol", Phase: "natcheck",
			Hint: "compare documents instead: dibber natcheck --json on both sides, then dibber explain A.json B.json",
		}, true
	}
	return failure{}, false
}
