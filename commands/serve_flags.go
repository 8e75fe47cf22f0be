package commands

import (
	"errors"
	"slices"
	"time"

	"dibber/netkit/rendezvous"

	"github.com/urfave/cli/v2"
)

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
	return slices.Concat(fullFlags(&o.Full), peeringFlags(&o.Peering), replicateFlags(o), blocksFlags(&o.Blocks), servePubsubFlags(&o.Pubsub), serveChainFlags(&o.Chain), routeFlags(&o.DHT), networkFlags(&o.Sources.Network), httpFlags(&o.HTTP), registryFlags(&o.Registry), []cli.Flag{
		adminFlag(&o.Host),
		boolean("relay", "carry circuits for others (circuit relay v2)", &o.Relay),
		count("relay-reservations", "hold at most `N` reservations; 0 means 1024", &o.RelayLimits.Reservations),
		count("relay-reservations-per-ip", "hold at most `N` reservations from one IPv4 address; 0 means 256", &o.RelayLimits.ReservationsPerIP),
		count("relay-reservations-per-prefix", "hold at most `N` reservations from one IPv6 /56; 0 means 256", &o.RelayLimits.ReservationsPerPrefix),
		count("relay-reservations-per-asn", "hold at most `N` reservations from one autonomous system by IPv6; 0 means half of all", &o.RelayLimits.ReservationsPerASN),
		count("relay-circuits", "carry at most `N` circuits for one peer; 0 means 64", &o.RelayLimits.CircuitsPerPeer),
		count("relay-circuits-total", "carry at most `N` circuits in all; 0 means 1024", &o.RelayLimits.Circuits),
		span("relay-duration", "end a circuit after `DURATION`; 0 means 2m", &o.RelayLimits.Duration),
		&cli.Int64Flag{Name: "relay-bytes", Usage: "end a circuit after `N` bytes one way; 0 means 131072", Destination: &o.RelayLimits.Bytes},
		&cli.Int64Flag{Name: "relay-rate", Usage: "carry at most `N` bytes a second one way of a circuit; 0 means any", Destination: &o.RelayLimits.Rate},
		boolean("relay-unlimited", "do not limit how long circuits last and what they carry", &o.RelayUnlimited),

		boolean("circuits-only", "hand out nobody's addresses but circuits: as a rendezvous point refuse who registers others, in peer exchange leave them out, as a relay carry no offers", &o.CircuitsOnly),

		boolean("rendezvous", "keep registrations for others (libp2p rendezvous)", &o.Rendezvous),
		span("rendezvous-min-ttl", "grant no registration shorter than `DURATION`, 1m at least; 0 means 2h", &o.RendezvousLimits.MinTTL),
		span("rendezvous-max-ttl", "grant no registration longer than `DURATION`; 0 means 72h", &o.RendezvousLimits.MaxTTL),
		count("rendezvous-registrations", "keep at most `N` registrations; 0 means 100000", &o.RendezvousLimits.Total),
		count("rendezvous-per-peer", "let one peer be in at most `N` namespaces; 0 means 1000", &o.RendezvousLimits.PerPeer),
		count("rendezvous-per-namespace", "let at most `N` peers be in one namespace; 0 means any", &o.RendezvousLimits.PerNamespace),
		count("rendezvous-per-prefix", "keep at most `N` registrations of one network, an IPv4 /24 or IPv6 /56; 0 means any", &o.RendezvousLimits.PerPrefix),
		listFlag("", "rendezvous-refuse", "refuse who registers no address but those of `KIND`: private, relayed or public (repeatable)", &o.RefuseAddrs),

		listFlag("", "allow-namespace", "keep registrations of the namespace `NS` only, or of all that begin like NS* (repeatable)", &o.RendezvousLimits.Namespaces),

		boolean("autonat", "tell peers whether they can be reached (AutoNAT v1 and v2); on with --relay and without a role", &o.AutoNAT),
		boolean("no-autonat", "do not, even with --relay or without a role", &o.NoAutoNAT),
		count("autonat-per-minute", "dial back at most `N` times a minute; 0 means 60", &o.DialBack.PerMinute),
		count("autonat-per-peer", "dial one peer back at most `N` times a minute; 0 means 12", &o.DialBack.PerPeerPerMinute),

		boolean("vantage", "show peers how they are seen from outside: answer on two more UDP ports, and one TCP port, of each address", &o.Vantage),
		count("vantage-per-prefix", "answer at most `N` datagrams a second from one network, an IPv4 /24 or IPv6 /56; 0 means 500", &o.VantageLimits.PerPrefix),
		count("vantage-per-peer", "answer at most `N` requests a minute of one peer; 0 means 60", &o.VantageLimits.PerPeer),

		boolean("perf", "let peers measure throughput (dibber perf); for --raw of theirs it opens a TCP port to them for that long", &o.Perf),

		boolean("mdns", "announce the node on the local network, and connect with those found there", &o.MDNS),
		listFlag("", "mdns-interface", "use the network of `INTERFACE` only (repeatable)", &o.MDNSInterfaces),

		listFlag("", "use-relay", "keep a reservation on `RELAY` and announce it (repeatable)", &o.UseRelays),
		listFlag("", "register", "keep registered at `SERVER` in every --namespace, and connect with those found there (repeatable)", &o.Register),
		listFlag("", "namespace", "register in `NS` (repeatable)", &o.Namespaces),
		span("ttl", "ask for registrations of `DURATION`; 0 leaves it to the server", &o.TTL),
		recordFormatFlag(&o.RecordFormat),
		listFlag("", "peer", "stay connected to `PEER` (repeatable)", &o.Peers),

		count("conns", "hold at most `N` connections; 0 scales with the memory", &o.Limits.Conns),
		count("conns-per-ip", "hold at most `N` connections with one IP address; 0 means 256", &o.Limits.ConnsPerIP),
		&cli.Int64Flag{Name: "memory", Usage: "let libp2p reserve at most `N` bytes; 0 means an eighth of the machine's", Destination: &o.Limits.Memory},
		readyFileFlag(&o.ReadyFile),
		&cli.DurationFlag{Name: "drain", Value: 10 * time.Second, Usage: "end within `DURATION` once told to", Destination: &o.Drain},
	})
}

// readyFileFlag is how long-lived commands tell scripts that they are up.
func readyFileFlag(dest *string) cli.Flag {
	return &cli.StringFlag{Name: "ready-file", Usage: "write the ready event to `FILE` once everything listens", Destination: dest}
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

// replicateFlags declares the role that keeps a store in step.
func replicateFlags(o *serveOptions) []cli.Flag {
	return append([]cli.Flag{
		&cli.BoolFlag{Name: "replicate", Usage: "keep the store of logs in step with those of connected peers", Destination: &o.Replicate},
		storeFlag(&o.Store), intervalFlag(&o.SyncInterval),
	}, admitFlags(&o.Admit)...)
}

func (o *serveOptions) validate(e *env, args []string) error {
	o.Store.StateDir = o.Host.StateDir
	switch {
	case len(args) > 0:
		return usagef("serve takes no arguments, but got %q", args[0])
	case o.AutoNAT && o.NoAutoNAT:
		return usagef("--autonat and --no-autonat exclude each other")
	case len(o.Register) > 0 && len(o.Namespaces) == 0:
		return usagef("--register needs --namespace")
	case len(o.Namespaces) > 0 && len(o.Register) == 0:
		return usagef("--namespace needs --register: where should the node be registered?")
	case o.TTL != 0 && o.TTL < time.Second, o.TTL%time.Second != 0:
		return usagef("--ttl: %s is not a number of whole seconds", o.TTL)
	case o.Drain < 0:
		return usagef("--drain: %s is negative", o.Drain)
	case o.Host.NoDiscovery && (o.MDNS || len(o.Register) > 0 || len(o.UseRelays) > 0):
		return usagef("--no-discovery announces nothing: it excludes --mdns, --register and --use-relay")
	}
	if err := o.validateLimits(); err != nil {
		return err
	}
	for _, flag := range []string{"relay-duration", "relay-bytes"} {
		if o.RelayUnlimited && e.named(flag) {
			return usagef("--relay-unlimited and --%s exclude each other", flag)
		}
	}
	for _, ns := range o.Namespaces {
		if len(ns) > 255 {
			return usagef("--namespace: %d bytes are more than 255", len(ns))
		}
	}
	if err := errors.Join(o.validateFull(), o.validateHidden()); err != nil {
		return err
	}
	if err := o.Chain.validateServe(e, serveFlags(&serveOptions{})); err != nil {
		return err
	}
	if err := o.needs(e); err != nil {
		return err
	}
	if err := o.validateRoute(); err != nil {
		return err
	}
	if o.Replicate && o.SyncInterval <= 0 {
		return usagef("--sync-interval: %s is no time", o.SyncInterval)
	}
	if err := errors.Join(o.Admit.validate(), o.Pubsub.validate(o.Host.NoDiscovery)); err != nil {
		return err
	}
	if err := o.Registry.validate(); err != nil {
		return err
	}
	if err := o.HTTP.validate(); err != nil {
		return err
	}
	if err := o.Blocks.validate(); err != nil {
		return err
	}
	if err := o.Peering.validate(e, o.MDNS || len(o.Register) > 0); err != nil {
		return err
	}
	return o.Host.validate()
}

// needs refuses flags that would do nothing for want of the role they belong to.
func (o *serveOptions) needs(e *env) error {
	for _, n := range []struct {
		role  string
		on    bool
		flags []string
	}{
		{"--relay", o.Relay, relayLimitKeys()},
		{"--rendezvous", o.Rendezvous, append(rendezvousLimitKeys(), "registry")},
		{"--registry", o.Registry.At != "", registryKeys()},
		{"--autonat or --relay", o.dialsBack(), []string{"autonat-per-minute", "autonat-per-peer"}},
		{"--http", o.HTTP.Addr != "", httpKeys()},
		{"--vantage", o.Vantage, []string{"vantage-per-prefix", "vantage-per-peer"}},
		{"--blocks", o.Blocks.On, blocksKeys()},
		{"--mdns", o.MDNS, []string{"mdns-interface"}},
		{"--pubsub", o.Pubsub.On, servePubsubKeys()},
		{"--register", len(o.Register) > 0, []string{"ttl", "record-format"}},
		{"--dht", o.DHT.On, append(routeKeys(), networkKeys()...)},
		{"--replicate", o.Replicate, []string{"store", "sync-interval", "allow-author", "namespace-key", "accept-any", "quota-author", "quota-namespace", "quota-peer", "quota-store", "min-free"}},
	} {
		for _, f := range n.flags {
			if !n.on && e.named(f) {
				return usagef("--%s needs %s", f, n.role)
			}
		}
	}
	return nil
}

// dialsBack reports whether the node answers AutoNAT. A hidden one does so only when told to: what it can reach is what the server
// that it dials through can.
func (o *serveOptions) dialsBack() bool {
	return o.AutoNAT || (o.Relay || o.isFull()) && !o.NoAutoNAT && o.Host.hidden() == ""
}

// unique drops repetitions and keeps the order.
func unique(list []string) []string {
	var out []string
	for _, v := range list {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// counts refuses negative numbers, which no limit can mean.
func (o *serveOptions) counts() error {
	for flag, n := range map[string]int64{
		"relay-reservations": int64(o.RelayLimits.Reservations), "relay-reservations-per-ip": int64(o.RelayLimits.ReservationsPerIP),
		"relay-circuits": int64(o.RelayLimits.CircuitsPerPeer), "relay-duration": int64(o.RelayLimits.Duration), "relay-bytes": o.RelayLimits.Bytes,
		"relay-reservations-per-prefix": int64(o.RelayLimits.ReservationsPerPrefix), "relay-reservations-per-asn": int64(o.RelayLimits.ReservationsPerASN),
		"relay-circuits-total": int64(o.RelayLimits.Circuits), "relay-rate": o.RelayLimits.Rate,
		"rendezvous-registrations": int64(o.RendezvousLimits.Total), "rendezvous-per-peer": int64(o.RendezvousLimits.PerPeer),
		"rendezvous-per-namespace": int64(o.RendezvousLimits.PerNamespace), "rendezvous-per-prefix": int64(o.RendezvousLimits.PerPrefix),
		"autonat-per-minute": int64(o.DialBack.PerMinute), "autonat-per-peer": int64(o.DialBack.PerPeerPerMinute),
		"vantage-per-prefix": int64(o.VantageLimits.PerPrefix), "vantage-per-peer": int64(o.VantageLimits.PerPeer),
		"conns": int64(o.Limits.Conns), "conns-per-ip": int64(o.Limits.ConnsPerIP), "memory": o.Limits.Memory,
	} {
		if n < 0 {
			return usagef("--%s must not be negative", flag)
		}
	}
	return nil
}
