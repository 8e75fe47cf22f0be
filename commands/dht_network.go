package commands

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/route"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/urfave/cli/v2"
)

// networkOptions say in which network of a hash table a host takes part.
type networkOptions struct {
	Bootstrap   []string // targets
	Public      bool
	Prefix      string // empty means that of dibber, or the public one with Public
	Replication int    // 0 means 20
	Concurrency int    // 0 means 10
}

// networkFlags declares the flags of every command that takes part in the network of a hash table.
func networkFlags(o *networkOptions) []cli.Flag {
	return []cli.Flag{
		listFlag(groupSources, "bootstrap", "begin in the network of the hash table with `PEER`, an address or @name (repeatable)", &o.Bootstrap),
		&cli.BoolFlag{Category: groupSources, Name: "public", Usage: "use the public network of IPFS, and begin with the peers that it names", Destination: &o.Public},
		&cli.StringFlag{Category: groupSources, Name: "dht-prefix", Usage: "speak the protocol `PREFIX`/kad/1.0.0 (default: /dibber; /ipfs is the public network)", Destination: &o.Prefix},
		&cli.IntFlag{Category: groupSources, Name: "dht-replication", Usage: "keep a record at `N` peers; 0 means 20", Destination: &o.Replication},
		&cli.IntFlag{Category: groupSources, Name: "dht-concurrency", Usage: "ask `N` peers at once; 0 means 10", Destination: &o.Concurrency},
	}
}

// networkKeys are the names of those flags.
func networkKeys() []string {
	return []string{"bootstrap", "public", "dht-prefix", "dht-replication", "dht-concurrency"}
}

// validate finds the usage errors that need no file.
func (o *networkOptions) validate() error {
	if o.Prefix != "" && (!strings.HasPrefix(o.Prefix, "/") || strings.HasSuffix(o.Prefix, "/") || strings.Contains(o.Prefix, "//")) {
		return usagef("--dht-prefix: %q is no prefix of a protocol, as /dibber is", o.Prefix)
	}
	switch {
	case o.Replication < 0 || o.Concurrency < 0:
		return usagef("--dht-replication and --dht-concurrency must not be negative")
	case o.prefix() == route.PublicPrefix && o.Replication != 0 && o.Replication != route.DefaultReplication:
		return usagef("--dht-replication: the public network has %d", route.DefaultReplication)
	}
	if slices.Contains(o.Bootstrap, "-") {
		return usagef("--bootstrap: standard input cannot name peers")
	}
	return nil
}

// prefix is that of the protocol.
func (o *networkOptions) prefix() protocol.ID {
	switch {
	case o.Prefix != "":
		return protocol.ID(o.Prefix)
	case o.Public:
		return route.PublicPrefix
	}
	return route.DefaultPrefix
}

// knows reports whether there is anybody to begin with.
func (o *networkOptions) knows() bool { return len(o.Bootstrap) > 0 || o.Public }

// config turns the options into the configuration of a client.
func (o *networkOptions) config(out *output, h *hostOptions, own peer.ID) (route.Config, error) {
	cfg := route.Config{Prefix: o.prefix(), Replication: o.Replication, Concurrency: o.Concurrency, Walk: -1}
	boot, err := h.infos(out, own, "--bootstrap", o.Bootstrap)
	if err != nil {
		return cfg, err
	}
	cfg.Boot = boot
	if o.Public {
		cfg.Boot = append(cfg.Boot, dht.GetDefaultBootstrapPeerAddrInfos()...)
	}
	return cfg, nil
}

// dhtOptions are the flags of every verb of dht.
type dhtOptions struct {
	Host    hostOptions
	Sources networkSource
	Peers   []string
	Mode    string
	Wait    time.Duration
	Trace   bool
	Count   int // of what a verb counts
}

// networkSource is the network of commands without other sources.
type networkSource struct{ Network networkOptions }

// dhtFlags declares them.
func dhtFlags(o *dhtOptions, own ...cli.Flag) []cli.Flag {
	o.Mode = string(route.Client)
	return append(append(own,
		&cli.BoolFlag{Category: groupLookup, Name: "trace", Usage: "show whom the lookup asks: distance, hop, dial and query time, answer", Destination: &o.Trace},
		listFlag(groupLookup, "peer", "begin with `PEER` too, as --bootstrap (repeatable)", &o.Peers),
		choiceFlag(groupLookup, "dht-mode", "take part as `MODE`: client asks, server answers as well", &o.Mode, string(route.Client), string(route.Server)),
		ownHostFlag(&o.Host.OwnHost),
		&cli.DurationFlag{Category: groupLookup, Name: "query-timeout", Usage: "give a peer up that has not answered within `DURATION`; 0 means 10s", Destination: &o.Wait},
	), append(networkFlags(&o.Sources.Network), hostFlags(&o.Host)...)...)
}

// validate finds usage errors; want is how many arguments the verb takes.
func (o *dhtOptions) validate(verb string, args []string, want int, what string) error {
	switch {
	case len(args) > want && want == 0:
		return usagef("dht %s takes no arguments, but got %q", verb, args[0])
	case len(args) > want:
		return usagef("dht %s takes %s, but got %d arguments", verb, what, len(args))
	case len(args) < want:
		return usagef("dht %s needs %s", verb, what)
	case o.Wait < 0:
		return usagef("--query-timeout: %s is negative", o.Wait)
	case o.Host.NoDiscovery:
		return usagef("--no-discovery asks nobody: it excludes dht")
	}
	if err := o.Sources.Network.validate(); err != nil {
		return err
	}
	return o.Host.validate()
}

// lends says that the verb can run on a node that takes part in the same network. Flags that say how it takes part make a host of its own.
func (o *dhtOptions) lends(own ...string) *lends {
	l := o.Host.lends(append(own, "trace", "peer", "bootstrap", "public", "dht-prefix")...)
	l.fits = func(l *lending) error {
		if l.route == nil || l.route.Protocol() != route.ProtocolOf(o.Sources.Network.prefix()) {
			return errNoRole
		}
		return nil
	}
	return l
}

// taking joins the network and calls ask: with a host of its own, or with the node that is lent, which mostly has joined long ago.
func (o *dhtOptions) taking(ctx context.Context, out *output, ask func(*host.Node, *route.Service) error) (err error) {
	network := o.Sources.Network
	network.Bootstrap = append(append([]string{}, network.Bootstrap...), o.Peers...)
	if l := out.e.lent; l != nil {
		cfg, err := network.config(out, &o.Host, l.n.ID())
		if err != nil {
			return err
		}
		if err := l.route.JoinBy(ctx, cfg.Boot); err != nil {
			return err
		}
		return ask(l.n, l.route)
	}
	if !network.knows() {
		return &failure{
			Exit: exitUsage, Err: errors.New("there is nobody to begin with"),
			Hint: "give --bootstrap PEER, where dibber serve --dht runs, or --public for the network of IPFS; beside a serve --dht of the same --state-dir neither is needed",
		}
	}
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return err
	}
	defer closing(&err, n.Close)
	cfg, err := network.config(out, &o.Host, n.ID())
	if err != nil {
		return err
	}
	cfg.Mode, cfg.Timeout = route.Mode(o.Mode), o.Wait
	r, err := route.New(n, cfg)
	if err != nil {
		return err
	}
	defer closing(&err, r.Close)
	out.status("joining the network of %s", r.Protocol())
	if err := r.Join(ctx); err != nil {
		return err
	}
	return ask(n, r)
}

// stepLine is a step of a lookup as it happens.
type stepLine struct{ route.Step }

// on tells of steps, if they are asked for.
func (o *dhtOptions) on(out *output) func(route.Step) {
	return func(s route.Step) {
		if o.Trace {
			out.event("step", stepLine{s})
		} else {
			out.status("asked %s at hop %d", s.Peer, s.Hop)
		}
	}
}

// lookupDoc is how a lookup went; it is part of every document of dht.
type lookupDoc struct {
	// Network is the protocol of the network.
	Network string        `json:"network"`
	Lookup  *route.Lookup `json:"lookup"` // null: it did not begin
	Trace   *[]route.Step `json:"trace"`  // null without --trace
}

// lookupDoc is that of a lookup that has not begun.
func (o *dhtOptions) lookupDoc() lookupDoc {
	return lookupDoc{Network: string(route.ProtocolOf(o.Sources.Network.prefix()))}
}

// looked takes how a lookup went.
func (d *lookupDoc) looked(o *dhtOptions, l route.Lookup) {
	d.Lookup = &l
	if o.Trace {
		d.Trace = &l.Steps
	}
}

// routeFailure gives the errors of the hash table their class.
func routeFailure(err error) (failure, bool) {
	var join *route.JoinError
	var mismatch sec.ErrPeerIDMismatch
	switch {
	case errors.Is(err, route.ErrKey):
		return failure{Exit: exitUsage, Code: "bad_key", Hint: "keys are /dibber/AUTHOR/NAME, /pk/PEERID and /ipns/PEERID"}, true
	case errors.Is(err, route.ErrPublic), errors.Is(err, route.ErrMode):
		return failure{Exit: exitUsage}, true
	case errors.Is(err, route.ErrRecord):
		return failure{Exit: exitIdentity, Code: "bad_record", Phase: "verify", Hint: "a record is signed by the author that its key names, for this key, and has not expired"}, true
	case errors.Is(err, route.ErrNotKept) && errors.Is(err, route.ErrRefused):
		return failure{Exit: exitRefused, Phase: "put", Retryable: true, Hint: "they keep a newer one, have no room, or keep no such records: --trace shows each answer"}, true
	case errors.Is(err, route.ErrNotKept):
		return failure{Exit: exitUnreachable, Code: "not_kept", Phase: "put", Retryable: true, Hint: "--trace shows who was asked"}, true
	case errors.Is(err, route.ErrOff):
		return failure{Exit: exitProtocol, Code: "no_records", Phase: "put"}, true
	case errors.Is(err, route.ErrNoBoot):
		return failure{Exit: exitUnreachable, Code: "no_peers", Phase: "join", Retryable: true, Hint: "give --bootstrap PEER, where dibber serve --dht runs"}, true
	case errors.Is(err, route.ErrNoAnswer):
		return failure{Exit: exitUnreachable, Code: "no_answer", Phase: "lookup", Retryable: true, Hint: "--trace shows who was asked"}, true
	case errors.Is(err, route.ErrNotFound):
		return failure{Exit: exitNotFound, Phase: "lookup", Retryable: true, Hint: "--trace shows who was asked; another network has another --dht-prefix"}, true
	case errors.As(err, &join) && errors.Is(err, route.ErrNoDHT):
		return failure{Exit: exitProtocol, Code: "no_dht", Phase: "join", Hint: "run dibber serve --dht there, with the same --dht-prefix"}, true
	case errors.As(err, &join) && errors.As(err, &mismatch):
		return failure{Exit: exitIdentity, Code: "id_mismatch", Phase: "join", Hint: "another peer answers there: ask for its current address, or for its new peer id"}, true
	case errors.As(err, &join) && errors.Is(err, route.ErrRefused):
		return failure{Exit: exitRefused, Phase: "join", Retryable: true, Hint: "the peer's lists, limits or rate do not allow it"}, true
	case errors.As(err, &join):
		return failure{Exit: exitUnreachable, Phase: "join", Retryable: true, Hint: "see why: dibber dial PEER"}, true
	}
	return failure{}, false
}
