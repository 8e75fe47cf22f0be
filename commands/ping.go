package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/dial"
	"dibber/netkit/ping"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// pingOptions are the flags and arguments of ping.
type pingOptions struct {
	Host     hostOptions
	Sources  sourceOptions
	Count    int
	Interval time.Duration
	Target   []string
}

// pingDoc is the document of ping.
type pingDoc struct {
	Peer *peer.ID `json:"peer"` // null: not known yet
	ping.Result
	Lost  int         `json:"lost"`
	Pongs []ping.Pong `json:"pongs"` // the last of them
}

// maxPongs bounds how many pongs the document has: a ping may run for weeks.
const maxPongs = 1000

func newPing(*env) spec {
	var o pingOptions
	return spec{
		name: "ping", usage: "measure round trips to a peer, each with its path", args: "<target>",
		about: `Each ping takes the best path open at that moment, so the lines show when a relayed connection became direct.
Ctrl-C prints the statistics. A node that runs on the state folder is what pings, on the connections that it has.`,
		examples: []string{
			"dibber ping /ip4/127.0.0.1/tcp/4001/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm",
			"dibber ping @home --peers @peers.txt -c 10 -i 200ms",
			"dibber ping @home --peers @peers.txt -c 0 --ndjson",
		},
		flags: slices.Concat([]cli.Flag{
			&cli.IntFlag{Name: "count", Aliases: []string{"c"}, Value: 4, Usage: "send `N` pings; 0 pings until interrupted", Destination: &o.Count},
			&cli.DurationFlag{Name: "interval", Aliases: []string{"i"}, Value: time.Second, Usage: "wait `DURATION` from ping to ping", Destination: &o.Interval},
			ownHostFlag(&o.Host.OwnHost),
		}, sourceFlags(&o.Sources), hostFlags(&o.Host)),
		lends:   o.Host.lends("count", "interval"),
		options: &o, doc: pingDoc{}, events: []event{{"pong", ping.Pong{}}},
		longLived: func() bool { return o.Count == 0 },
		validate: func(args []string) error {
			o.Target = args
			if o.Count < 0 || o.Interval <= 0 {
				return usagef("--count must not be negative, --interval must be more than 0")
			}
			if err := o.Sources.validate(); err != nil {
				return err
			}
			return o.Host.needTargets("ping", args, addr.Options{})
		},
		run: func(ctx context.Context, out *output) (any, error) { return runPing(ctx, out, o) },
	}
}

// pongLine is one line of ping.
type pongLine struct{ ping.Pong }

func (p pongLine) line() string {
	if p.RTTms == nil {
		return fmt.Sprintf("seq %d  lost: %s", p.Seq, p.Error)
	}
	return fmt.Sprintf("seq %d  %.2f ms  %s via %s", p.Seq, *p.RTTms, p.Path, p.Addr)
}

func runPing(ctx context.Context, out *output, o pingOptions) (_ any, err error) {
	targets, err := o.Host.oneTarget(out, "ping", o.Target, addr.Options{})
	if err != nil {
		return nil, err
	}
	find, err := o.Sources.finder(out, &o.Host, targets)
	if err != nil {
		return nil, err
	}
	id := targets[0].ID
	doc := pingDoc{Peer: &id}
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return nil, err
	}
	defer closing(&err, o.Host.used(out, n))
	if err := find.complete(ctx, n, &targets[0]); err != nil {
		return doc, err
	}
	if _, err := dial.Do(ctx, n, id, targets[0].Addrs, dial.Config{}); err != nil {
		return doc, err
	}
	count := o.Count
	if count == 0 {
		count = -1
	}
	doc.Result, err = ping.Do(ctx, n, id, ping.Config{Count: count, Interval: o.Interval, On: func(p ping.Pong) {
		if len(doc.Pongs) == maxPongs {
			doc.Pongs = slices.Delete(doc.Pongs, 0, 1)
		}
		doc.Pongs = append(doc.Pongs, p)
		out.event("pong", pongLine{p})
	}})
	doc.Lost = doc.Sent - doc.Received
	if err == nil && doc.Received == 0 {
		err = &failure{Exit: exitUnreachable, Code: "no_pong", Phase: "ping", Retryable: true, Err: fmt.Errorf("ping %s: none of %d came back", id, doc.Sent)}
	}
	return doc, err
}

// pingFailure gives the errors of pinging their class.
func pingFailure(err error) (failure, bool) {
	switch {
	case errors.Is(err, ping.ErrUnsupported):
		return failure{Exit: exitProtocol, Code: "missing_protocol", Phase: "ping"}, true
	case errors.Is(err, ping.ErrNotConnected):
		return failure{Exit: exitUnreachable, Code: "connection_lost", Phase: "ping", Retryable: true}, true
	}
	return failure{}, false
}

func (d pingDoc) quiet() string {
	if d.Avg == nil {
		return ""
	}
	return fmt.Sprintf("%.3f", *d.Avg)
}

func (d pingDoc) renderText(t *text) {
	if d.Sent == 0 {
		return
	}
	t.gap()
	t.line("%s  %s", *d.Peer, pingText(d.Result))
}
