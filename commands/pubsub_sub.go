package commands

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"dibber/netkit/gossip"
	"dibber/netkit/host"
	"dibber/netkit/letter"
	"dibber/netkit/natcheck"
	"dibber/netkit/pchain"
	"dibber/netkit/peering"
	"dibber/netkit/punch"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// The words of --output of pubsub sub, besides text.
const (
	outputB64 = "b64"
	outputRaw = "raw"
)

// subOptions are the flags and arguments of pubsub sub.
type subOptions struct {
	Host      hostOptions
	Sources   sourceOptions
	Gossip    gossipOptions
	Chain     chainOptions
	Topics    []string
	Relays    []string
	Register  bool
	Direct    bool
	Trace     bool
	Count     int
	Output    string
	ReadyFile string
}

// subReady is the ready event of pubsub sub.
type subReady struct {
	Peer   peer.ID  `json:"peer"`
	Addrs  []string `json:"addrs"` // each ends with /p2p/PEER; circuits come with reservation.reserved
	Topics []string `json:"topics"`
	// Address is the node's own on the network of a ParallelChain, Boot how others begin with it; null elsewhere.
	Address *pchain.Address `json:"address"`
	Boot    *string         `json:"boot"`

	direct bool
}

// messageLine is a message that came.
type messageLine struct {
	From       string  `json:"from"`  // author
	Topic      *string `json:"topic"` // null: sent to this node alone
	Seq        *uint64 `json:"seq"`   // of its author's; null: none
	Data       string  `json:"data_b64"`
	ReceivedMS float64 `json:"received_ms"` // since the program started
	Via        string  `json:"via"`         // the neighbour that delivered it first
	Path       *string `json:"path"`        // direct or relayed, of what was sent to this node alone; else null

	data   []byte
	output string
	many   bool // topics
}

// subDoc is the document of pubsub sub.
type subDoc struct {
	Peer     *peer.ID  `json:"peer"` // null: it did not start
	Topics   []string  `json:"topics"`
	Messages int       `json:"messages"`
	Bytes    int       `json:"bytes"` // of payload
	Lost     uint64    `json:"lost"`  // came faster than they were taken
	Trace    *traceDoc `json:"trace"` // null without --trace
}

func newPubsubSub(e *env) spec {
	o := subOptions{Output: outputText}
	var flags []cli.Flag
	format := choiceFlag("", "output", "print `FORMAT`: text, b64 with one message a line, or raw, the payloads as they are with nothing between them", &o.Output, outputText, outputB64, outputRaw)
	format.Aliases = []string{"o"}
	flags = slices.Concat([]cli.Flag{
		&cli.BoolFlag{Name: "direct", Usage: "take messages that are sent to this node alone", Destination: &o.Direct},
		&cli.BoolFlag{Name: "trace", Usage: "tell of every copy of a message", Destination: &o.Trace},
		&cli.IntFlag{Name: "count", Aliases: []string{"c"}, Usage: "end after `N` messages; 0 waits until interrupted", Destination: &o.Count},
		format,
		listFlag("", "use-relay", "keep a reservation on `RELAY` and announce it (repeatable)", &o.Relays),
		&cli.BoolFlag{Name: "register", Usage: "keep registered in --namespace at each --rendezvous, so that others find this node", Destination: &o.Register},
		readyFileFlag(&o.ReadyFile),
	}, o.meeting().flags(), chainFlags(&o.Chain))
	return spec{
		name: "sub", usage: "receive the messages of topics, and those for this node alone", args: "[topic]...",
		about: `It stays connected to each --peer and to peers found, and waits for others to connect; messages come as they are and are
passed on to others who are subscribed. Where serve --pubsub runs on the state folder, and no --peer is named, they are those that come
to it. As text each is a line: author, sequence number and payload, in quotes if it is no printable text. With
--direct it also takes what dibber pubsub send brings. --trace tells of every copy: who delivered it first, how much later the others
were, and whether it was pushed (eager) or announced and fetched (lazy).

With --profile it hears the topics of a ParallelChain, or those named, and its own mailbox, and prints each message as what it is.`,
		examples: []string{
			"dibber pubsub sub news --peer @home --peers @peers.txt",
			"dibber pubsub sub --direct --use-relay @relay --peers @peers.txt --ndjson",
			"dibber pubsub sub --profile pchain-0.4 --boot 6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw@127.0.0.1:25519",
		},
		flags: flags, lends: o.lends(),
		options: &o, doc: subDoc{}, events: subEvents(), longLived: func() bool { return o.Count == 0 },
		validate: func(args []string) error { return o.validate(e, flags, args) },
		run: func(ctx context.Context, out *output) (any, error) {
			if o.Chain.on() {
				return o.runChain(ctx, out)
			}
			return o.run(ctx, out)
		},
	}
}

func subEvents() []event {
	list := slices.Concat([]event{{"ready", subReady{}}, {"message", messageLine{}}, {"copy", copyLine{}}}, meshEvents(), reservationEvents(), registrationEvents())
	for _, kind := range peeringKinds() {
		list = append(list, event{"peer." + string(kind), peerLine{}})
	}
	return append(append(list, event{"punch.ended", punchLine{}}), chainEvents(true)...)
}

// lends says that it can run on a node that speaks gossip, which itself looks after its peers.
func (o *subOptions) lends() *lends {
	l := o.meeting().lends("count", "output")
	l.flags = slices.DeleteFunc(l.flags, func(name string) bool { return name == "peer" })
	return l
}

func (o *subOptions) meeting() meeting { return meeting{&o.Gossip, &o.Host, &o.Sources} }

func (o *subOptions) validate(e *env, flags []cli.Flag, args []string) error {
	o.Topics = unique(args)
	if err := o.Chain.validateWith(e, flags, &o.Host, "count", "output", "ready-file"); err != nil {
		return err
	}
	if o.Chain.on() {
		for _, topic := range o.Topics {
			if err := o.Chain.checkTopic(topic); err != nil {
				return err
			}
		}
	}
	switch {
	case o.Count < 0:
		return usagef("--count must not be negative")
	case o.Chain.on():
		return nil
	case len(args) == 0 && !o.Direct:
		return usagef("pubsub sub needs a topic, or --direct")
	case o.Trace && len(args) == 0:
		return usagef("--trace is about the messages of a topic")
	case o.Register && (len(o.Sources.Rendezvous) == 0 || o.Sources.Namespace == ""):
		return usagef("--register needs --rendezvous and --namespace")
	case o.Host.NoDiscovery && len(o.Relays) > 0:
		return usagef("--no-discovery announces nothing: it excludes --use-relay")
	}
	for _, topic := range o.Topics {
		if err := checkTopic(topic); err != nil {
			return err
		}
	}
	return o.meeting().validate()
}

// lastWords is how long neighbours are given to read what was still to be passed on to them.
const lastWords = time.Second

// maxTraced is of how many neighbours the copies are counted one by one.
const maxTraced = 1024

func (o *subOptions) run(ctx context.Context, out *output) (doc any, err error) {
	ctx, done := context.WithCancel(ctx)
	defer done()
	s := &subscriber{o: o, out: out, done: done, trace: make(map[string]*tracedPeer), doc: subDoc{Topics: o.Topics}}
	if o.Output == outputRaw {
		if s.raw, err = out.stdout(); err != nil {
			return nil, err
		}
	}
	if l := out.e.lent; l != nil {
		return s.lent(ctx, l)
	}
	cfg := gossip.Config{Trace: o.Trace, On: s.happened, MaxMessage: o.Gossip.MaxMessage, Exchange: o.Gossip.Exchange}
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return nil, err
	}
	defer closing(&err, n.Close)
	roles, err := o.roles(out, n)
	if err != nil {
		return nil, err
	}
	for _, p := range roles.Peers {
		cfg.Trusted = append(cfg.Trusted, p.ID)
	}
	g, err := gossip.New(n, cfg)
	if err != nil {
		return nil, err
	}
	defer closing(&err, g.Close)
	subs, stop, err := s.subscribe(ctx, g)
	defer closing(&err, stop)
	if err != nil {
		return nil, err
	}
	if o.Direct {
		l := letter.Listen(n, letter.ListenConfig{Max: o.Gossip.MaxMessage, Take: s.take})
		defer closing(&err, l.Close)
	}
	peers, err := serve.New(n, roles)
	if err != nil {
		return nil, err
	}
	defer closing(&err, peers.Close)
	if err := s.ready(n); err != nil {
		return nil, err
	}
	<-ctx.Done()
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	g.Drain(within)
	return s.end(n, subs, ctx.Err())
}

// roles say whom the command keeps in touch with.
func (o *subOptions) roles(out *output, n *host.Node) (cfg serve.Config, err error) {
	h := &o.Host
	if cfg.Peers, err = h.infos(out, n.ID(), "--peer", o.Gossip.Peers); err != nil {
		return cfg, err
	}
	if cfg.Relays, err = h.infos(out, n.ID(), "--use-relay", o.Relays); err != nil {
		return cfg, err
	}
	if o.Sources.named() {
		look, err := o.Sources.config(out, h)
		if err != nil {
			return cfg, err
		}
		if o.Register { // where it is registered it looks as well
			for _, server := range look.Servers {
				cfg.Registrations = append(cfg.Registrations, serve.Registration{Server: server, Namespace: look.Namespace})
			}
			look.Servers = nil
		}
		if len(look.Servers) > 0 || look.MDNS != nil {
			cfg.Look = append(cfg.Look, look)
		}
	}
	cfg.Peering = &peering.Config{Require: gossip.Protocols()}
	if h.exchanges() {
		cfg.Punch, cfg.Natcheck = &punch.Config{}, &natcheck.ShareConfig{}
	}
	cfg.On = func(e serve.Event) { tellReached(out, e) }
	return cfg, nil
}

// tellReached tells of peers, reservations and registrations. Where stdout carries messages for a person, only what went wrong is told, on
// stderr.
func tellReached(out *output, e serve.Event) {
	switch {
	case out.e.shared.NDJSON:
		tellServe(out, e)
	case e.Peer != nil:
		out.lost("peer "+e.Peer.Peer.String(), errorText(e.Peer.Err))
	case e.Relay != nil:
		out.lost("relay "+e.Relay.Relay.String(), errorText(e.Relay.Err))
		for _, c := range e.Relay.Reservation.Circuits {
			if e.Relay.Kind == "reserved" {
				out.notice("through the relay: %s", c)
			}
		}
	case e.Registration != nil:
		out.lost("registration at "+e.Registration.Server.String(), errorText(e.Registration.Err))
	}
}

// hint is what to type on the other side.
func (r subReady) hint() string {
	if len(r.Topics) == 0 {
		return "on the other side: dibber pubsub send " + r.Addrs[0] + " 'hello'"
	}
	return fmt.Sprintf("on the other side: dibber pubsub pub %s 'hello' --peer %s", shellWord(r.Topics[0]), r.Addrs[0])
}

// line is the message for a person, or what --output asks for.
func (m messageLine) line() string {
	if m.output == outputB64 {
		return m.Data
	}
	seq := "-"
	if m.Seq != nil {
		seq = strconv.FormatUint(*m.Seq, 10)
	}
	place := ""
	switch {
	case m.Topic == nil:
		place, seq = "direct  ", *m.Path
	case m.many:
		place = plainText(*m.Topic) + "  "
	}
	return fmt.Sprintf("%s%s  %s  %s", place, m.From, seq, payloadText(m.data))
}

func (d subDoc) quiet() string { return strconv.Itoa(d.Messages) }
