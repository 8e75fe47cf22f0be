package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"dibber/netkit/gossip"

	"github.com/urfave/cli/v2"
)

// meshOptions are the flags and arguments of pubsub mesh.
type meshOptions struct {
	Host    hostOptions
	Sources sourceOptions
	Gossip  gossipOptions
	Chain   chainOptions
	Topics  []string
	For     time.Duration
	Watch   bool
}

// meshDoc is the document of pubsub mesh.
type meshDoc struct {
	Topics []gossip.Mesh `json:"topics"`
}

// memberLine is a change of who is subscribed to, or in the mesh of, a topic.
type memberLine struct {
	Topic  string  `json:"topic"`
	Peer   string  `json:"peer"`
	Reason *string `json:"reason"` // why a message was not taken; else null

	kind gossip.EventKind
}

func newPubsubMesh(e *env) spec {
	o := meshOptions{For: 5 * time.Second}
	flags := slices.Concat([]cli.Flag{
		&cli.DurationFlag{Name: "for", Value: o.For, Usage: "take part for `DURATION`", Destination: &o.For},
		&cli.BoolFlag{Name: "watch", Usage: "take part until interrupted, and tell of each change", Destination: &o.Watch},
	}, o.meeting().flags(), chainFlags(&o.Chain))
	return spec{
		name: "mesh", usage: "show with whom messages of a topic are exchanged, with scores and why", args: "<topic>...",
		about: `It connects with each --peer and with those found, subscribes, and shows after --for who is in the mesh (messages go both
ways at once), who is outside (subscribed, and told which messages there are), and what each is trusted with. The score of a peer is
made of what was observed of it; below -20 nothing is announced to it, below -40 it gets no message of this node, below -80 nothing of
it is read. --watch tells of each change until interrupted.

With --profile the topics are those of a ParallelChain.`,
		examples: []string{
			"dibber pubsub mesh news --peer /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm",
			"dibber pubsub mesh news --peer @home --peers @peers.txt --for 30s --json",
			"dibber pubsub mesh news chat --mdns --watch",
		},
		flags: flags, lends: o.meeting().lends("for"),
		options: &o, doc: meshDoc{}, events: slices.Concat(reachingEvents(), meshEvents(), chainEvents(false)), timeout: 30 * time.Second,
		extra: func() time.Duration {
			if o.Watch {
				return -1
			}
			return o.For
		},
		longLived: func() bool { return o.Watch },
		validate:  func(args []string) error { return o.validate(e, flags, args) },
		run: func(ctx context.Context, out *output) (any, error) {
			if o.Chain.on() {
				return o.runChain(ctx, out)
			}
			return o.run(ctx, out)
		},
	}
}

func (o *meshOptions) meeting() meeting { return meeting{&o.Gossip, &o.Host, &o.Sources} }

func (o *meshOptions) validate(e *env, flags []cli.Flag, args []string) error {
	o.Topics = unique(args)
	switch {
	case len(args) == 0:
		return usagef("pubsub mesh needs a topic")
	case o.For <= 0:
		return usagef("--for: %s is no time", o.For)
	}
	for _, topic := range o.Topics {
		if err := checkTopic(topic); err != nil {
			return err
		}
	}
	if err := o.Chain.validateWith(e, flags, &o.Host, "for"); err != nil {
		return err
	}
	if o.Chain.on() {
		for _, topic := range o.Topics {
			if err := o.Chain.checkTopic(topic); err != nil {
				return err
			}
		}
		return o.Chain.needPeers("pubsub mesh", o.Gossip.Peers)
	}
	return o.meeting().validate()
}

func (o *meshOptions) run(ctx context.Context, out *output) (doc any, err error) {
	g, err := o.meeting().open(ctx, out, gossip.Config{On: func(e gossip.Event) {
		if slices.Contains(o.Topics, e.Topic) {
			tellMesh(out, e, o.Watch)
		}
	}})
	if err != nil {
		return nil, err
	}
	defer closing(&err, func() error { return g.close.close() })
	for _, name := range o.Topics {
		stop, err := attend(g, name)
		if err != nil {
			return nil, err
		}
		defer stop()
	}
	if err := g.reach(ctx, o.meeting()); err != nil {
		return o.doc(g), err
	}
	return o.attend(ctx, g)
}

// attend takes part for as long as it is to.
func (o *meshOptions) attend(ctx context.Context, g *gossiper) (doc any, err error) {
	var over <-chan time.Time
	if o.Watch {
		g.out.status("taking part until interrupted")
	} else {
		g.out.status("taking part for %s", o.For)
		timer := time.NewTimer(o.For)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
		return o.doc(g), nil
	case <-ctx.Done():
		return o.doc(g), ctx.Err()
	}
}

// attend subscribes to a topic and drops what comes.
func attend(g *gossiper, name string) (stop func(), err error) {
	topic, err := g.Join(name, gossip.TopicConfig{})
	if err != nil {
		return nil, err
	}
	sub, err := topic.Subscribe(gossip.SubscribeConfig{})
	if err != nil {
		return nil, errors.Join(err, topic.Close())
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := sub.Next(context.Background()); err != nil {
				return
			}
		}
	}()
	return func() {
		sub.Cancel()
		<-done
		_ = topic.Close() // what it was joined for is over
	}, nil
}

func (o *meshOptions) doc(g *gossiper) (d meshDoc) {
	for _, topic := range o.Topics {
		d.Topics = append(d.Topics, g.Mesh(topic))
	}
	return d
}

func (d meshDoc) quiet() string {
	var ids []string
	for _, m := range d.Topics {
		for _, member := range m.Members {
			if member.Role == gossip.InMesh {
				ids = append(ids, member.Peer.String())
			}
		}
	}
	return strings.Join(unique(ids), "\n")
}

func (d meshDoc) renderText(t *text) {
	for i, m := range d.Topics {
		if i > 0 {
			t.gap()
		}
		renderMesh(t, m)
	}
}

// renderMesh shows one topic and its members.
func renderMesh(t *text, m gossip.Mesh) {
	t.line("%s  mesh %d  fanout %d  outside %d", plainText(m.Topic), m.Count(gossip.InMesh), m.Count(gossip.InFanout), m.Count(gossip.Outside))
	var rows [][]string
	for _, member := range m.Members {
		score, why := "-", "-"
		if member.Score != nil {
			score, why = fmt.Sprintf("%.2f", member.Score.Total), scoreText(*member.Score)
		}
		rows = append(rows, []string{member.Peer.String(), member.Role, score, why})
	}
	if len(rows) > 0 {
		t.table([]string{"peer", "role", "score", "why"}, rows)
	}
}

// scoreText is what a score is made of.
func scoreText(s gossip.Score) string {
	if len(s.Parts) == 0 {
		return "nothing observed"
	}
	var out []string
	for _, p := range s.Parts {
		where := ""
		if p.Topic != nil {
			where = " " + plainText(*p.Topic)
		}
		out = append(out, fmt.Sprintf("%s%s %s: %+.2f", p.Of, where, strconv.FormatFloat(p.Count, 'f', -1, 32), p.Adds))
	}
	return strings.Join(out, ", ")
}

// subscriptionEvents are those of who is subscribed to what.
func subscriptionEvents() []event {
	return []event{{"topic." + string(gossip.PeerJoined), memberLine{}}, {"topic." + string(gossip.PeerLeft), memberLine{}}}
}

// meshEvents are those, and what becomes of the mesh and of messages that are not taken.
func meshEvents() []event {
	return append(subscriptionEvents(), event{string(gossip.Grafted), memberLine{}}, event{string(gossip.Pruned), memberLine{}}, event{"message." + string(gossip.Rejected), memberLine{}})
}

func tellSubscription(out *output, e gossip.Event) {
	if e.Kind == gossip.PeerJoined || e.Kind == gossip.PeerLeft {
		tellMesh(out, e, false)
	}
}

// tellMesh turns what happened on a topic into an event; show also prints it for a person.
func tellMesh(out *output, e gossip.Event, show bool) {
	l := memberLine{Topic: e.Topic, Peer: e.Peer.String(), Reason: known(e.Reason), kind: e.Kind}
	switch e.Kind {
	case gossip.PeerJoined, gossip.PeerLeft:
		out.emit("topic."+string(e.Kind), l, show)
	case gossip.Grafted, gossip.Pruned:
		out.emit(string(e.Kind), l, show)
	case gossip.Rejected:
		out.emit("message."+string(e.Kind), l, show)
	default: // others are told by those who asked for them
	}
}

func (l memberLine) line() string {
	what := map[gossip.EventKind]string{
		gossip.PeerJoined: "subscribed", gossip.PeerLeft: "left", gossip.Grafted: "in the mesh", gossip.Pruned: "out of the mesh", gossip.Rejected: "message refused",
	}[l.kind]
	line := fmt.Sprintf("%s  %s  %s", plainText(l.Topic), what, l.Peer)
	if l.Reason != nil {
		line += ": " + plainText(*l.Reason)
	}
	return line
}
