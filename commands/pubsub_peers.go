package commands

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/gossip"

	"github.com/urfave/cli/v2"
)

// pubsubPeersOptions are the flags and arguments of pubsub peers.
type pubsubPeersOptions struct {
	Host    hostOptions
	Sources sourceOptions
	Gossip  gossipOptions
	Chain   chainOptions
	Topic   string // empty: all
	For     time.Duration
	Min     int
}

// pubsubPeer is a neighbour in the document of pubsub peers.
type pubsubPeer struct {
	gossip.Neighbour
	Addr *string `json:"addr"` // null: gone
	Path *string `json:"path"` // direct or relayed
}

// pubsubPeersDoc is the document of pubsub peers.
type pubsubPeersDoc struct {
	Topic *string      `json:"topic"` // null: all
	Count int          `json:"count"`
	Peers []pubsubPeer `json:"peers"`
}

func newPubsubPeers(e *env) spec {
	o := pubsubPeersOptions{For: 2 * time.Second}
	flags := slices.Concat([]cli.Flag{
		&cli.DurationFlag{Name: "for", Value: o.For, Usage: "listen for `DURATION`", Destination: &o.For},
		&cli.IntFlag{Name: "min", Usage: "end once `N` peers are known, exit 9 if there are fewer", Destination: &o.Min},
	}, o.meeting().flags(), chainFlags(&o.Chain))
	return spec{
		name: "peers", usage: "list peers that speak gossip, and what they are subscribed to", args: "[topic]",
		about: `It connects with each --peer and with those found, listens for --for to what they say they are subscribed to, and ends. It is
subscribed to nothing itself. With a topic only those are listed that are subscribed to it. What a running dibber serve --pubsub has is
shown by dibber ctl topics. With --profile they are the peers of a ParallelChain.`,
		examples: []string{
			"dibber pubsub peers --peer /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm",
			"dibber pubsub peers news --mdns --for 5s",
			"dibber pubsub peers news --peer @home --peers @peers.txt --min 1 --json",
		},
		flags: flags, lends: o.meeting().lends("for", "min"),
		options: &o, doc: pubsubPeersDoc{}, events: slices.Concat(reachingEvents(), subscriptionEvents(), chainEvents(false)), timeout: 30 * time.Second,
		extra:    func() time.Duration { return o.For },
		validate: func(args []string) error { return o.validate(e, flags, args) },
		run: func(ctx context.Context, out *output) (any, error) {
			if o.Chain.on() {
				return o.runChain(ctx, out)
			}
			return o.run(ctx, out)
		},
	}
}

func (o *pubsubPeersOptions) meeting() meeting { return meeting{&o.Gossip, &o.Host, &o.Sources} }

func (o *pubsubPeersOptions) validate(e *env, flags []cli.Flag, args []string) error {
	switch {
	case len(args) > 1:
		return usagef("pubsub peers takes one topic, but got %d", len(args))
	case o.For <= 0:
		return usagef("--for: %s is no time", o.For)
	case o.Min < 0:
		return usagef("--min must not be negative")
	case len(args) == 1:
		o.Topic = args[0]
		if err := checkTopic(o.Topic); err != nil {
			return err
		}
	}
	if err := o.Chain.validateWith(e, flags, &o.Host, "for", "min"); err != nil {
		return err
	}
	if o.Chain.on() {
		return o.Chain.needPeers("pubsub peers", o.Gossip.Peers)
	}
	return o.meeting().validate()
}

func (o *pubsubPeersOptions) run(ctx context.Context, out *output) (doc any, err error) {
	changed := make(chan struct{}, 1)
	g, err := o.meeting().open(ctx, out, gossip.Config{On: func(e gossip.Event) {
		tellSubscription(out, e)
		wake(changed)
	}})
	if err != nil {
		return nil, err
	}
	defer closing(&err, func() error { return g.close.close() })
	if err := g.reach(ctx, o.meeting()); err != nil {
		return o.doc(g), err
	}
	return o.listen(ctx, g, changed)
}

// wake tells who waits that there is something to look at, unless that was told already.
func wake(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}

// listen waits for what peers say, of which changed tells.
func (o *pubsubPeersOptions) listen(ctx context.Context, g *gossiper, changed <-chan struct{}) (doc any, err error) {
	g.out.status("listening to what peers are subscribed to")
	over := time.NewTimer(o.For)
	defer over.Stop()
	for waiting := true; waiting && (o.Min == 0 || o.doc(g).Count < o.Min); {
		select {
		case <-changed:
		case <-over.C:
			waiting = false
		case <-ctx.Done():
			return o.doc(g), ctx.Err()
		}
	}
	d := o.doc(g)
	if d.Count < o.Min {
		return d, &failure{Exit: exitNotFound, Code: "too_few", Phase: "pubsub", Retryable: true, Err: fmt.Errorf("found %d peers, fewer than %d", d.Count, o.Min)}
	}
	return d, nil
}

// doc lists the neighbours as they are now.
func (o *pubsubPeersOptions) doc(g *gossiper) pubsubPeersDoc {
	d := pubsubPeersDoc{Topic: known(o.Topic)}
	for _, n := range g.Service.Peers() {
		if o.Topic != "" && !slices.Contains(n.Topics, o.Topic) {
			continue
		}
		p := pubsubPeer{Neighbour: n}
		if c := g.n.Conns(n.Peer); len(c) > 0 {
			p.Addr, p.Path = new(c[0].RemoteMultiaddr().String()), new(addr.Path(c[0].RemoteMultiaddr()))
		}
		d.Peers = append(d.Peers, p)
	}
	d.Count = len(d.Peers)
	return d
}

func (d pubsubPeersDoc) quiet() string {
	var ids []string
	for _, p := range d.Peers {
		ids = append(ids, p.Peer.String())
	}
	return strings.Join(ids, "\n")
}

func (d pubsubPeersDoc) renderText(t *text) {
	if len(d.Peers) == 0 {
		t.line("no peer speaks gossip%s", onTopic(d.Topic))
		return
	}
	var rows [][]string
	for _, p := range d.Peers {
		rows = append(rows, []string{p.Peer.String(), orDash(p.Addr), plainTopics(p.Topics)})
	}
	t.table([]string{"peer", "address", "topics"}, rows)
}

func onTopic(topic *string) string {
	if topic == nil {
		return ""
	}
	return " on " + plainText(*topic)
}

func plainTopics(topics []string) string {
	if len(topics) == 0 {
		return "-"
	}
	var out []string
	for _, t := range topics {
		out = append(out, plainText(t))
	}
	return strings.Join(out, " ")
}
