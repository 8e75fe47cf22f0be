package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"dibber/netkit/addr"
	"dibber/netkit/dial"
	"dibber/netkit/discover"
	"dibber/netkit/gossip"
	"dibber/netkit/host"
	"dibber/netkit/letter"
	"dibber/netkit/peering"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

func newPubsub(e *env) spec {
	return spec{
		name: "pubsub", usage: "send messages to all who subscribe to a topic, or to one peer",
		about: `Messages travel by gossipsub: each is signed by its author and passed on by those who are subscribed. dibber serve --pubsub
passes on what its peers are subscribed to. Gossip needs direct connections; only pubsub send also goes through a relay.`,
		examples: []string{
			"dibber pubsub sub news",
			"dibber pubsub pub news 'hello' --peer @home --peers @peers.txt",
			"dibber pubsub send @home 'only for you' --peers @peers.txt",
		},
		subcommands: []spec{newPubsubSub(e), newPubsubPub(e), newPubsubSend(e), newPubsubPeers(e), newPubsubMesh(e)},
	}
}

// gossipOptions are those of the commands that speak gossip.
type gossipOptions struct {
	Peers      []string
	MaxMessage int
	Exchange   bool
}

// meeting is all that says whom such a command meets, and how.
type meeting struct {
	*gossipOptions
	host    *hostOptions
	sources *sourceOptions
}

// flags declares them.
func (o meeting) flags() []cli.Flag {
	return slices.Concat([]cli.Flag{
		listFlag("", "peer", "connect with `PEER`, and trust it (repeatable)", &o.Peers),
		maxMessageFlag("max-message", &o.MaxMessage),
		exchangeFlag(&o.Exchange),
		ownHostFlag(&o.host.OwnHost),
	}, sourceFlags(o.sources), hostFlags(o.host))
}

func maxMessageFlag(name string, dest *int) cli.Flag {
	return &cli.IntFlag{Name: name, Usage: "carry messages of at most `BYTES`, author and signature included; 0 means 1048576", Destination: dest}
}

func exchangeFlag(dest *bool) cli.Flag {
	return &cli.BoolFlag{Name: "peer-exchange", Usage: "tell peers of others on their topics, and connect with those that a --peer tells of", Destination: dest}
}

// minMessage is the least that a message may be allowed to take.
const minMessage = 1024

func (o meeting) validate() error {
	switch {
	case o.MaxMessage < 0 || o.MaxMessage > 0 && o.MaxMessage < minMessage:
		return usagef("--max-message: %d is less than %d", o.MaxMessage, minMessage)
	case slices.Contains(o.Peers, "-"):
		return usagef("--peer: standard input cannot name peers")
	case o.host.NoDiscovery && (o.Exchange || o.sources.named()):
		return usagef("--no-discovery leaves only the table: it excludes --peer-exchange, --rendezvous and --mdns")
	}
	return errors.Join(o.sources.validate(), o.host.validate())
}

// finds reports whether the command was told of anybody.
func (o meeting) finds() bool { return len(o.Peers) > 0 || o.sources.named() }

// named reports whether there is a source at all.
func (o *sourceOptions) named() bool { return len(o.Rendezvous) > 0 || o.MDNS }

// lends says that the command can run on a node that speaks gossip, with those whom that knows and those whom --peer names.
func (o meeting) lends(own ...string) *lends {
	l := o.host.lends(append(own, "peer")...)
	l.fits = func(l *lending) error {
		if l.gossip == nil {
			return errNoRole
		}
		return nil
	}
	return l
}

// errNobody refuses a command that would wait for nobody.
func errNobody() error {
	return &failure{
		Exit: exitUsage, Err: errors.New("there is nobody to talk to: give --peer ADDR, --rendezvous ADDR or --mdns"),
		Hint: "beside a serve --pubsub of the same --state-dir none is needed",
	}
}

// checkTopic refuses what is no name of a topic.
func checkTopic(topic string) error {
	if topic == "" || len(topic) > gossip.MaxTopicLen {
		return usagef("topic %q: a name has 1 to %d bytes", topic, gossip.MaxTopicLen)
	}
	return nil
}

// gossiper is a host that speaks gossip, and what it was told of others.
type gossiper struct {
	*gossip.Service
	n     *host.Node
	out   *output
	named []addr.Target
	find  finder
	close closers
}

// open starts the host and gossip on it. cfg tunes the gossip; what the flags say is filled in. A node that is lent is taken as it is,
// and tells nothing by cfg.On.
func (o meeting) open(ctx context.Context, out *output, cfg gossip.Config) (g *gossiper, err error) {
	g = &gossiper{out: out}
	if len(o.Peers) > 0 {
		if g.named, err = o.host.targets(out, o.Peers, addr.Options{}); err != nil {
			return nil, fmt.Errorf("--peer: %w", err)
		}
	}
	if g.find, err = o.sources.finder(out, o.host, g.named); err != nil {
		return nil, err
	}
	if l := out.e.lent; l != nil {
		g.n, g.Service = l.n, l.gossip
		return g, nil
	}
	if !o.finds() {
		return nil, errNobody()
	}
	if g.n, err = o.host.open(ctx, out, hostDefaults{}); err != nil {
		return nil, err
	}
	g.close.add(g.n.Close)
	stop := o.host.punching(g.n)
	g.close.add(func() error { stop(); return nil })
	cfg.MaxMessage, cfg.Exchange = o.MaxMessage, o.Exchange
	for _, t := range g.named {
		cfg.Trusted = append(cfg.Trusted, t.ID)
	}
	if g.Service, err = gossip.New(g.n, cfg); err != nil {
		return nil, errors.Join(err, g.close.close())
	}
	g.close.add(g.Service.Close)
	return g, nil
}

// reach connects with the peers that were named, at once, and looks for others where that was asked for until the gossiper is closed.
// It fails only if there were some and none could be reached.
func (g *gossiper) reach(ctx context.Context, o meeting) error {
	if err := g.look(o); err != nil {
		return err
	}
	if len(g.named) == 0 {
		return nil
	}
	errs := make([]error, len(g.named))
	var all sync.WaitGroup
	for i := range g.named {
		all.Go(func() { errs[i] = g.dial(ctx, g.named[i]) })
	}
	all.Wait()
	failed := 0
	for _, err := range errs {
		if err != nil {
			failed++
		}
	}
	if failed == len(errs) && !o.sources.named() {
		return errors.Join(errs...)
	}
	for _, err := range errs {
		if err != nil {
			g.out.warn("%v", err)
		}
	}
	return nil
}

func (g *gossiper) dial(ctx context.Context, t addr.Target) error {
	if err := g.find.complete(ctx, g.n, &t); err != nil {
		return err
	}
	g.out.status("connecting with %s", t.ID)
	_, err := dial.Do(ctx, g.n, t.ID, t.Addrs, dial.Config{On: func(e dial.Event) { tellDial(g.out, t, e, false) }})
	return err
}

// look connects with those found by the sources that speak gossip.
func (g *gossiper) look(o meeting) error {
	if !o.sources.named() {
		return nil
	}
	look, err := o.sources.config(g.out, o.host)
	if err != nil {
		return err
	}
	s, err := serve.New(g.n, serve.Config{
		Look: []discover.Config{look}, Peering: &peering.Config{Require: gossip.Protocols()},
		On: func(e serve.Event) { tellServe(g.out, e) },
	})
	if err != nil {
		return err
	}
	g.close.add(s.Close)
	return nil
}

// reachingEvents are those of finding and reaching peers.
func reachingEvents() []event {
	list := reachEvents()
	for _, kind := range peeringKinds() {
		list = append(list, event{"peer." + string(kind), peerLine{}})
	}
	return list
}

// awaitSubscribers waits for so many neighbours on a topic, and says what was missing if they do not come in time.
func (g *gossiper) awaitSubscribers(ctx context.Context, t *gossip.Topic, least int, patience time.Duration) error {
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := t.AwaitPeers(within, least)
	if err == nil || ctx.Err() != nil {
		return err
	}
	have := len(t.Peers())
	switch relayed, direct := g.conns(); {
	case relayed+direct == 0:
		return &failure{
			Exit: exitNotFound, Code: "no_peers", Phase: "connect", Retryable: true,
			Err: fmt.Errorf("nobody is connected after %s", patience), Hint: "see who is there: dibber discover",
		}
	case direct == 0:
		return &failure{
			Exit: exitRelayedOnly, Phase: "upgrade", Retryable: true, Err: errors.New("all peers are reached through relays only, and gossip needs direct connections"),
			Hint: "see why no direct path is made: dibber holepunch <target>; a single peer gets a message through a relay by dibber pubsub send",
		}
	case len(g.Service.Peers()) == 0:
		return &failure{
			Exit: exitProtocol, Code: "missing_protocol", Phase: "pubsub", Err: errors.New("no peer speaks gossipsub"),
			Hint: "the other side runs dibber pubsub sub, or dibber serve --pubsub",
		}
	case have > 0:
		return &failure{
			Exit: exitNotFound, Code: "too_few", Phase: "pubsub", Retryable: true,
			Err: fmt.Errorf("%d of %d peers are subscribed to %q after %s", have, least, t.Name(), patience), Hint: "wait longer by --wait, or ask for fewer by --min",
		}
	}
	return &failure{
		Exit: exitNotFound, Code: "no_subscriber", Phase: "pubsub", Retryable: true,
		Err: fmt.Errorf("no peer is subscribed to %q after %s", t.Name(), patience), Hint: "see who is subscribed to what: dibber pubsub peers --peer <target>",
	}
}

// conns counts the peers by their best path.
func (g *gossiper) conns() (relayed, direct int) {
	for _, p := range g.n.Network().Peers() {
		if c := g.n.Conns(p); len(c) > 0 && !c[0].Stat().Limited {
			direct++
		} else if len(c) > 0 {
			relayed++
		}
	}
	return relayed, direct
}

// gossipFailure gives the errors of gossip and letters their class.
func gossipFailure(err error) (failure, bool) {
	var no *letter.RefusedError
	switch {
	case errors.Is(err, gossip.ErrBadTopic):
		return failure{Exit: exitUsage}, true
	case errors.Is(err, gossip.ErrTooLarge), errors.Is(err, letter.ErrTooLarge):
		return failure{Exit: exitRefused, Code: "oversize", Phase: "pubsub", Hint: "--max-message raises the limit where the others raise it as well; dibber replicate carries what is larger"}, true
	case errors.Is(err, gossip.ErrRefused):
		return failure{Exit: exitRefused, Code: "invalid", Phase: "pubsub"}, true
	case errors.As(err, &no):
		return failure{Exit: exitRefused, Phase: "send", Retryable: no.Busy}, true
	case errors.Is(err, letter.ErrUnsupported):
		return failure{Exit: exitProtocol, Code: "missing_protocol", Phase: "send", Hint: "run dibber pubsub sub --direct there"}, true
	case errors.Is(err, letter.ErrLost):
		return failure{Exit: exitUnreachable, Code: "no_answer", Phase: "send", Retryable: true}, true
	case errors.Is(err, letter.ErrNotConnected):
		return failure{Exit: exitUnreachable, Code: "connection_lost", Phase: "send", Retryable: true}, true
	}
	return failure{}, false
}

// peerNames are peer ids as strings, none as an empty list.
func peerNames(ids []peer.ID) []string {
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		out = append(out, id.String())
	}
	return out
}

// shellWord is a word as a shell takes it.
func shellWord(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%+,", r)
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// payloadText is a payload on a line of its own: as it is if it is printable text, and quoted otherwise.
func payloadText(data []byte) string {
	s := string(data)
	if !utf8.ValidString(s) {
		return strconv.QuoteToGraphic(s)
	}
	return plainText(s)
}
