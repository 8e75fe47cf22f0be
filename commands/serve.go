package commands

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/dialback"
	"dibber/netkit/host"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/serve"
	"dibber/netkit/store"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	Host hostOptions

	Relay       bool
	RelayLimits relay.Limits

	Rendezvous       bool
	RendezvousLimits rendezvous.Limits

	AutoNAT   bool
	NoAutoNAT bool
	DialBack  dialback.Config

	MDNS           bool
	MDNSInterfaces []string

	UseRelays    []string
	Register     []string
	Namespaces   []string
	TTL          time.Duration
	RecordFormat string
	Peers        []string

	Limits    host.Limits
	ReadyFile string
	Drain     time.Duration
}

// defaultPort is where serve listens, UDP and TCP, as libp2p nodes are wont to.
const defaultPort = 4001

func newServe(*env) spec {
	var o serveOptions
	return spec{
		name: "serve", usage: "run a node that helps others find and reach each other",
		about: `Roles combine: --relay carries circuits for peers behind NATs, --rendezvous keeps who is registered where,
--autonat tells peers whether they can be reached. --use-relay, --register and --peer make the node a client of other
servers as well. It listens on port 4001, UDP and TCP, unless --listen says otherwise, and keeps its identity and its
registrations in the state folder. SIGHUP reads the lists of --allow-* and --deny-* and the table of --peers again; SIGTERM and Ctrl-C end it in
order, a second one at once.`,
		examples: []string{
			"dibber serve --relay --rendezvous",
			"dibber serve --rendezvous --rendezvous-min-ttl 1m --listen /ip4/127.0.0.1/udp/4001/quic-v1",
			"dibber serve --use-relay @relay --register @relay --namespace chat --peers @peers.txt",
		},
		flags:   append(serveFlags(&o), hostFlags(&o.Host)...),
		options: &o, doc: serveDoc{}, events: serveEvents(), longLived: always,
		validate: o.validate,
		run:      func(ctx context.Context, out *output) (any, error) { return runServe(ctx, out, o) },
	}
}

func serveFlags(o *serveOptions) []cli.Flag {
	boolean := func(name, usage string, dest *bool) cli.Flag {
		return &cli.BoolFlag{Name: name, Usage: usage, Destination: dest}
	}
	count := func(name, usage string, dest *int) cli.Flag {
		return &cli.IntFlag{Name: name, Usage: usage, Destination: dest}
	}
	span := func(name, usage string, dest *time.Duration) cli.Flag {
		return &cli.DurationFlag{Name: name, Usage: usage, Destination: dest}
	}
	return []cli.Flag{
		boolean("relay", "carry circuits for others (circuit relay v2)", &o.Relay),
		count("relay-reservations", "hold at most `N` reservations; 0 means 1024", &o.RelayLimits.Reservations),
		count("relay-reservations-per-ip", "hold at most `N` reservations from one IP address; 0 means 256", &o.RelayLimits.ReservationsPerIP),
		count("relay-circuits", "carry at most `N` circuits for one peer; 0 means 64", &o.RelayLimits.CircuitsPerPeer),
		span("relay-duration", "end a circuit after `DURATION`; 0 means 2m", &o.RelayLimits.Duration),
		&cli.Int64Flag{Name: "relay-bytes", Usage: "end a circuit after `N` bytes one way; 0 means 131072", Destination: &o.RelayLimits.Bytes},
		boolean("relay-unlimited", "do not limit how long circuits last and what they carry", &o.RelayLimits.Unlimited),

		boolean("rendezvous", "keep registrations for others (libp2p rendezvous)", &o.Rendezvous),
		span("rendezvous-min-ttl", "grant no registration shorter than `DURATION`, 1m at least; 0 means 2h", &o.RendezvousLimits.MinTTL),
		span("rendezvous-max-ttl", "grant no registration longer than `DURATION`; 0 means 72h", &o.RendezvousLimits.MaxTTL),
		count("rendezvous-registrations", "keep at most `N` registrations; 0 means 100000", &o.RendezvousLimits.Total),
		count("rendezvous-per-peer", "let one peer be in at most `N` namespaces; 0 means 1000", &o.RendezvousLimits.PerPeer),

		boolean("autonat", "tell peers whether they can be reached (AutoNAT v1 and v2); on with --relay", &o.AutoNAT),
		boolean("no-autonat", "do not, even with --relay", &o.NoAutoNAT),
		count("autonat-per-minute", "dial back at most `N` times a minute; 0 means 60", &o.DialBack.PerMinute),
		count("autonat-per-peer", "dial one peer back at most `N` times a minute; 0 means 12", &o.DialBack.PerPeerPerMinute),

		boolean("mdns", "announce the node on the local network", &o.MDNS),
		listFlag("", "mdns-interface", "announce it on the network of `INTERFACE` only (repeatable)", &o.MDNSInterfaces),

		listFlag("", "use-relay", "keep a reservation on `RELAY` and announce it (repeatable)", &o.UseRelays),
		listFlag("", "register", "keep registered at `SERVER` in every --namespace (repeatable)", &o.Register),
		listFlag("", "namespace", "register in `NS` (repeatable)", &o.Namespaces),
		span("ttl", "ask for registrations of `DURATION`; 0 leaves it to the server", &o.TTL),
		recordFormatFlag(&o.RecordFormat),
		listFlag("", "peer", "stay connected to `PEER` (repeatable)", &o.Peers),

		count("conns", "hold at most `N` connections; 0 scales with the memory", &o.Limits.Conns),
		count("conns-per-ip", "hold at most `N` connections with one IP address; 0 means 256", &o.Limits.ConnsPerIP),
		&cli.Int64Flag{Name: "memory", Usage: "let libp2p reserve at most `N` bytes; 0 means an eighth of the machine's", Destination: &o.Limits.Memory},
		&cli.StringFlag{Name: "ready-file", Usage: "write the ready event to `FILE` once everything listens", Destination: &o.ReadyFile},
		&cli.DurationFlag{Name: "drain", Value: 10 * time.Second, Usage: "end within `DURATION` once told to", Destination: &o.Drain},
	}
}

// recordFormatFlag declares the choice of signed record flavours.
func recordFormatFlag(dest *string) cli.Flag {
	*dest = "auto"
	return choiceFlag("", "record-format", "sign records as `FORMAT`: auto, standard as go and js, legacy as rust", dest, "auto", "standard", "legacy")
}

// recordFormat is the rendezvous client's name for a word of --record-format.
func recordFormat(word string) rendezvous.Format {
	if word == "auto" {
		return rendezvous.FormatAuto
	}
	return rendezvous.Format(word)
}

func (o *serveOptions) validate(args []string) error {
	switch {
	case len(args) > 0:
		return usagef("serve takes no arguments, but got %q", args[0])
	case o.AutoNAT && o.NoAutoNAT:
		return usagef("--autonat and --no-autonat exclude each other")
	case len(o.Register) > 0 && len(o.Namespaces) == 0:
		return usagef("--register needs --namespace")
	case len(o.Namespaces) > 0 && len(o.Register) == 0:
		return usagef("--namespace needs --register: where should the node be registered?")
	case o.Rendezvous && o.RendezvousLimits.MinTTL != 0 && o.RendezvousLimits.MinTTL < time.Minute:
		return usagef("--rendezvous-min-ttl: %s is less than 1m", o.RendezvousLimits.MinTTL)
	case o.RendezvousLimits.MaxTTL != 0 && o.RendezvousLimits.MaxTTL < max(o.RendezvousLimits.MinTTL, time.Minute):
		return usagef("--rendezvous-max-ttl: %s is less than the shortest registration", o.RendezvousLimits.MaxTTL)
	case o.TTL != 0 && o.TTL < time.Second, o.TTL%time.Second != 0:
		return usagef("--ttl: %s is not a number of whole seconds", o.TTL)
	case len(o.MDNSInterfaces) > 0 && !o.MDNS:
		return usagef("--mdns-interface needs --mdns")
	case o.Drain < 0:
		return usagef("--drain: %s is negative", o.Drain)
	case o.Host.NoDiscovery && (o.MDNS || len(o.Register) > 0):
		return usagef("--no-discovery announces nothing: it excludes --mdns and --register")
	}
	for _, ns := range o.Namespaces {
		if len(ns) > 255 {
			return usagef("--namespace: %d bytes are more than 255", len(ns))
		}
	}
	if err := o.counts(); err != nil {
		return err
	}
	return o.Host.validate()
}

// counts refuses negative numbers, which no limit can mean.
func (o *serveOptions) counts() error {
	for flag, n := range map[string]int64{
		"relay-reservations": int64(o.RelayLimits.Reservations), "relay-reservations-per-ip": int64(o.RelayLimits.ReservationsPerIP),
		"relay-circuits": int64(o.RelayLimits.CircuitsPerPeer), "relay-duration": int64(o.RelayLimits.Duration), "relay-bytes": o.RelayLimits.Bytes,
		"rendezvous-registrations": int64(o.RendezvousLimits.Total), "rendezvous-per-peer": int64(o.RendezvousLimits.PerPeer),
		"autonat-per-minute": int64(o.DialBack.PerMinute), "autonat-per-peer": int64(o.DialBack.PerPeerPerMinute),
		"conns": int64(o.Limits.Conns), "conns-per-ip": int64(o.Limits.ConnsPerIP), "memory": o.Limits.Memory,
	} {
		if n < 0 {
			return usagef("--%s must not be negative", flag)
		}
	}
	return nil
}

// config turns the options into the roles' configuration.
func (o *serveOptions) config(out *output, db *store.DB) (serve.Config, error) {
	var cfg serve.Config
	if o.Relay {
		cfg.Relay = &o.RelayLimits
	}
	if o.Rendezvous {
		cfg.Rendezvous = &rendezvous.ServerConfig{Limits: o.RendezvousLimits, DB: db}
	}
	if o.AutoNAT || o.Relay && !o.NoAutoNAT {
		cfg.DialBack = &o.DialBack
	}
	cfg.MDNS, cfg.MDNSInterfaces = o.MDNS, o.MDNSInterfaces
	for flag, list := range map[string]struct {
		values []string
		dest   *[]peer.AddrInfo
	}{"--use-relay": {o.UseRelays, &cfg.Relays}, "--peer": {o.Peers, &cfg.Peers}} {
		infos, err := o.infos(out, flag, list.values)
		if err != nil {
			return cfg, err
		}
		*list.dest = infos
	}
	servers, err := o.infos(out, "--register", o.Register)
	if err != nil {
		return cfg, err
	}
	for _, s := range servers {
		for _, ns := range o.Namespaces {
			cfg.Registrations = append(cfg.Registrations, serve.Registration{Server: s, Namespace: ns, TTL: o.TTL, Format: recordFormat(o.RecordFormat)})
		}
	}
	return cfg, nil
}

// infos reads the peers that a flag names; each needs an address.
func (o *serveOptions) infos(out *output, flag string, values []string) ([]peer.AddrInfo, error) {
	if len(values) == 0 {
		return nil, nil
	}
	targets, err := o.Host.targets(out, values, addr.Options{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	var infos []peer.AddrInfo
	for _, t := range targets {
		if len(t.Addrs) == 0 {
			return nil, usagef("%s: %s has no address", flag, t.ID)
		}
		infos = append(infos, t.AddrInfo())
	}
	return infos, nil
}

func runServe(ctx context.Context, out *output, o serveOptions) (doc any, err error) {
	dir := o.Host.stateDir(out.e)
	lock, err := store.Lock(dir)
	if err != nil {
		return nil, err
	}
	defer closing(&err, lock.Close)
	cfg, err := o.Host.config(out, hostDefaults{port: defaultPort, identity: identityFile})
	if err != nil {
		return nil, err
	}
	cfg.Limits = o.Limits
	n, err := host.New(cfg)
	if err != nil {
		return nil, err
	}
	defer closing(&err, n.Close)
	var db *store.DB
	if o.Rendezvous {
		if db, err = store.Open(filepath.Join(dir, "registry"), store.Config{}); err != nil {
			return nil, err
		}
		defer closing(&err, db.Close)
	}
	roles, err := o.config(out, db)
	if err != nil {
		return nil, err
	}
	roles.On = func(e serve.Event) { tellServe(out, e) }
	s, err := serve.New(n, roles)
	if err != nil {
		return nil, err
	}
	if err := announceReady(out, readyEvent{o: o, n: n, s: s, open: cfg.Access.Open() && !cfg.KnownOnly, dir: dir}.doc(), o.ReadyFile); err != nil {
		return nil, joinClose(err, s.Close)
	}
	stop := reloadOnHangup(out, &o.Host, n)
	<-ctx.Done()
	stop()
	result := serveDoc{Peer: n.ID(), Roles: s.Roles(), UptimeS: time.Since(out.e.start).Round(time.Millisecond).Seconds(), Rendezvous: s.Stats()}
	result.Drained, err = drain(out, o.Drain, s.Close)
	return result, err
}
