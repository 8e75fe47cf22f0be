package commands

import (
	"context"
	"slices"
	"strings"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/dial"
	"dibber/netkit/discover"
	"dibber/netkit/gossip"
	"dibber/netkit/host"
	"dibber/netkit/ping"
	"dibber/netkit/rendezvous"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/urfave/cli/v2"
)

// discoverOptions are the flags of discover.
type discoverOptions struct {
	Host         hostOptions
	Sources      sourceOptions
	DNSAddrs     []string
	Pubsub       string
	Peers        []string
	Register     bool
	TTL          time.Duration
	RecordFormat string
	Probe        bool
	Watch        bool
	For          time.Duration
	Interval     time.Duration
	Min          int
	Limit        int
	Output       string
}

// The words of --output.
const (
	outputText  = "text"
	outputAddrs = "addrs"
)

func newDiscover(e *env) spec {
	o := discoverOptions{Output: outputText}
	format := choiceFlag("", "output", "print `FORMAT`: text, or addrs, one dialable address a line", &o.Output, outputText, outputAddrs)
	format.Aliases = []string{"o"}
	return spec{
		name: "discover", usage: "find peers by rendezvous, mDNS, a hash table, topics, dnsaddr and the table",
		about: `Sources are asked in parallel and merged: one entry a peer, with the addresses of its newest signed record. A source
that fails hides nothing of the others. Without a source on the command line it listens to mDNS and the configured
servers for 5 s and announces nothing.

--dht looks in the network of a distributed hash table: for those who registered there in --namespace, or, without one,
for anybody on a random walk.

It ends when every source has answered. There is something to wait for with --mdns, --min and --register, 5 s unless
--for says how long; --min ends it earlier. While it goes on, and with --watch, rendezvous servers tell by push what changes where they
can, as dibber's do; the others are asked every --interval. via of a source says which.`,
		examples: []string{
			"dibber discover",
			"dibber discover --rendezvous /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm --namespace chat --probe",
			"dibber discover --rendezvous @home --peers @peers.txt --namespace chat --register --watch --ndjson",
		},
		flags: slices.Concat([]cli.Flag{
			listFlag("", "dnsaddr", "list the peers of this `NAME` of /dnsaddr (repeatable)", &o.DNSAddrs),
			&cli.StringFlag{Name: "pubsub", Usage: "list who is subscribed to `TOPIC`, as each --peer tells", Destination: &o.Pubsub},
			listFlag("", "peer", "ask this `PEER` who is subscribed; of others it tells with --peer-exchange (repeatable)", &o.Peers),
			&cli.BoolFlag{Name: "register", Usage: "register this host in --namespace while the command runs", Destination: &o.Register},
			&cli.DurationFlag{Name: "ttl", Usage: "register for `DURATION` at a time; 0 leaves it to the server", Destination: &o.TTL},
			recordFormatFlag(&o.RecordFormat),
			&cli.BoolFlag{Name: "probe", Usage: "dial each peer found: state, round trip and agent", Destination: &o.Probe},
			&cli.BoolFlag{Name: "watch", Usage: "keep looking until interrupted and tell who comes, changes and goes", Destination: &o.Watch},
			&cli.DurationFlag{Name: "for", Usage: "collect for `DURATION`", Destination: &o.For},
			&cli.DurationFlag{Name: "interval", Aliases: []string{"i"}, Value: discover.DefaultInterval, Usage: "ask again after `DURATION` whom no push tells what changes", Destination: &o.Interval},
			&cli.IntFlag{Name: "min", Usage: "end once `N` peers are known, exit 9 if there are fewer", Destination: &o.Min},
			&cli.IntFlag{Name: "limit", Usage: "print at most `N` peers; 0 means all", Destination: &o.Limit},
			format,
		}, sourceFlags(&o.Sources), hostFlags(&o.Host)),
		options: &o, doc: discoverDoc{}, events: discoverEvents(),
		longLived: func() bool { return o.Watch },
		validate:  func(args []string) error { return o.validate(e, args) },
		run:       func(ctx context.Context, out *output) (any, error) { return runDiscover(ctx, out, o) },
	}
}

func (o *discoverOptions) validate(e *env, args []string) error {
	if !e.named("rendezvous", "mdns", "dnsaddr", "pubsub", "peers", "dht") && !o.Host.NoDiscovery && o.Host.hidden() == "" && o.Host.Join == "" {
		o.Sources.MDNS = true // the bare command
	}
	asks := len(o.Sources.Rendezvous) > 0
	switch {
	case len(args) > 0:
		return usagef("discover takes no arguments, but got %q; name servers by --rendezvous", args[0])
	case o.Register && (!asks && !o.Sources.DHT || o.Sources.Namespace == ""):
		return usagef("--register needs --namespace, and --rendezvous or --dht")
	case (o.Pubsub != "") != (len(o.Peers) > 0):
		return usagef("--pubsub and --peer go together")
	case len(o.Pubsub) > gossip.MaxTopicLen:
		return usagef("--pubsub: a topic has at most %d bytes", gossip.MaxTopicLen)
	case slices.Contains(o.Peers, "-"):
		return usagef("--peer: standard input cannot name peers")
	case o.TTL != 0 && !o.Register:
		return usagef("--ttl needs --register")
	case o.TTL < 0 || o.TTL%time.Second != 0:
		return usagef("--ttl: %s is not a number of whole seconds", o.TTL)
	case o.For < 0 || o.Min < 0 || o.Limit < 0:
		return usagef("--for, --min and --limit must not be negative")
	case o.Interval < 100*time.Millisecond: // servers let a peer ask 20 times a second
		return usagef("--interval: %s is less than 100ms", o.Interval)
	case o.Limit > 0 && o.Min > o.Limit:
		return usagef("--min %d is more than --limit %d", o.Min, o.Limit)
	case o.Watch && (o.For != 0 || o.Min != 0 || o.Limit != 0):
		return usagef("--watch has no end: it excludes --for, --min and --limit")
	case o.Host.NoDiscovery && (asks || o.Sources.MDNS || o.Sources.DHT || len(o.DNSAddrs) > 0 || o.Pubsub != ""):
		return usagef("--no-discovery leaves only the table: it excludes --rendezvous, --mdns, --dht, --dnsaddr and --pubsub")
	case o.Host.SOCKS != "" && len(o.DNSAddrs) > 0:
		return usagef("--socks5 and --dnsaddr exclude each other: whoever answers would learn who is looked for")
	case o.Output == outputAddrs && (e.shared.JSON || e.shared.NDJSON):
		return usagef("--output addrs excludes --json and --ndjson, whose documents have the addresses too")
	}
	if _, err := dnsAddrs(o.DNSAddrs); err != nil {
		return err
	}
	if err := o.Sources.validate(); err != nil {
		return err
	}
	return o.Host.validate()
}

// dnsAddrs reads names of /dnsaddr, bare or as multiaddrs.
func dnsAddrs(names []string) ([]ma.Multiaddr, error) {
	var out []ma.Multiaddr
	for _, name := range names {
		text := name
		if !strings.HasPrefix(name, "/") {
			text = "/dnsaddr/" + strings.TrimPrefix(name, "_dnsaddr.")
		}
		a, err := addr.ParseAddr(text)
		if err != nil {
			return nil, usagef("--dnsaddr: %w", err)
		}
		if a[0].Code() != ma.P_DNSADDR {
			return nil, usagef("--dnsaddr: %s is no name", name)
		}
		out = append(out, a)
	}
	return out, nil
}

// config turns the options into the configuration of the search.
func (o *discoverOptions) config(out *output) (discover.Config, error) {
	cfg, err := o.Sources.config(out, &o.Host)
	if err != nil {
		return cfg, err
	}
	if cfg.DNSAddrs, err = dnsAddrs(o.DNSAddrs); err != nil {
		return cfg, err
	}
	if o.Pubsub != "" {
		cfg.Pubsub = &discover.Pubsub{Topic: o.Pubsub}
		if cfg.Pubsub.Peers, err = o.Host.infos(out, "", "--peer", o.Peers); err != nil {
			return cfg, err
		}
	}
	table, err := o.Host.table()
	if err != nil {
		return cfg, err
	}
	if table != nil {
		cfg.Table = []peer.AddrInfo{}
		for _, t := range table.Peers() {
			cfg.Table = append(cfg.Table, t.AddrInfo())
		}
	}
	if cfg.MDNS != nil {
		cfg.MDNS.Interval = o.Interval
	}
	cfg.Format = recordFormat(o.RecordFormat)
	cfg.Register, cfg.TTL = o.Register, o.TTL
	cfg.For, cfg.Interval, cfg.Min, cfg.Limit = o.For, o.Interval, o.Min, o.Limit
	told := make(map[string]bool)
	cfg.On = func(e discover.Event) {
		tellDiscover(out, o, e)
		if s := e.Source; s != nil && s.More && !told[sourceText(*s)] {
			told[sourceText(*s)] = true
			out.warn("%s has more entries than the %d that are kept of one source; the rest is left out", plainText(sourceText(*s)), discover.MaxPerSource)
		}
	}
	return cfg, nil
}

func runDiscover(ctx context.Context, out *output, o discoverOptions) (doc any, err error) {
	cfg, err := o.config(out)
	if err != nil {
		return nil, err
	}
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return nil, err
	}
	defer closing(&err, n.Close)
	if o.Probe {
		cfg.Probe = func(ctx context.Context, p peer.ID, addrs []ma.Multiaddr) discover.Probe {
			return probePeer(ctx, n, p, addrs)
		}
	}
	out.status("looking for peers")
	search := discover.Do
	if o.Watch {
		search = discover.Watch
	}
	r, err := search(ctx, n, cfg)
	if o.Output == outputAddrs {
		warnSources(out, r)
	}
	return discoverDoc{Result: r, o: &o}, err
}

// warnSources tells of failed sources where the result has no room for it.
func warnSources(out *output, r discover.Result) {
	for _, s := range r.Sources {
		if s.Error != nil {
			out.warn("%s", plainText(oneLine(sourceText(s)+": "+*s.Error)))
		}
	}
}

// probePeer dials a peer and pings it once.
func probePeer(ctx context.Context, n *host.Node, p peer.ID, addrs []ma.Multiaddr) discover.Probe {
	r, err := dial.Do(ctx, n, p, addrs, dial.Config{Ping: ping.Config{Count: 1}})
	out := discover.Probe{State: discover.Unreachable}
	switch {
	case r.Path == nil:
		out.Error = errorText(err)
		return out
	case *r.Path == dial.Relayed:
		out.State = discover.Relayed
	default:
		out.State = discover.Reachable
	}
	if r.Identify != nil {
		out.Agent = known(r.Identify.Agent)
	}
	if r.Ping != nil {
		out.RTT = r.Ping.Avg
	}
	return out
}

// discoverEvents are the lines of --ndjson before the summary.
func discoverEvents() []event {
	list := []event{{string(discover.SourceAsked), discover.SourceResult{}}}
	for _, kind := range []discover.EventKind{discover.PeerAdded, discover.PeerUpdated, discover.PeerExpired} {
		list = append(list, event{string(kind), discover.Peer{}})
	}
	for _, kind := range []rendezvous.RegistrarEventKind{
		rendezvous.RegistrarRegistered, rendezvous.RegistrarRefreshed, rendezvous.RegistrarLost, rendezvous.RegistrarWaiting,
		rendezvous.RegistrarFailed, rendezvous.RegistrarUnregistered,
	} {
		list = append(list, event{"registration." + string(kind), registrationLine{}})
	}
	return list
}

// tellDiscover turns a step of a search into an event; those that watch see peers as lines, too.
func tellDiscover(out *output, o *discoverOptions, e discover.Event) {
	switch {
	case e.Source != nil:
		out.event(string(e.Kind), *e.Source)
		if o.Watch {
			out.lost(sourceText(*e.Source), e.Source.Error)
		} else if !e.Source.OK {
			out.status("%s: %s", sourceText(*e.Source), *e.Source.Error)
		}
	case e.Registration != nil && o.Watch && o.Output == outputText:
		tellRegistration(out, *e.Registration)
	case e.Registration != nil:
		out.event("registration."+string(e.Registration.Kind), quietRegistration(registrationOf(*e.Registration)))
	case o.Watch && o.Output == outputAddrs:
		if e.Kind != discover.PeerExpired && e.Peer.State != discover.Unreachable && len(e.Peer.Addrs) > 0 {
			out.event(string(e.Kind), addrLines{*e.Peer})
		}
	case o.Watch:
		out.event(string(e.Kind), peerLines{*e.Peer, e.Kind})
	default:
		out.event(string(e.Kind), *e.Peer)
	}
}
