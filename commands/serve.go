package commands

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"dibber/netkit/backup"
	"dibber/netkit/dialback"
	"dibber/netkit/etcd"
	"dibber/netkit/host"
	"dibber/netkit/join"
	"dibber/netkit/natcheck"
	"dibber/netkit/perf"
	"dibber/netkit/punch"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/replicate"
	"dibber/netkit/serve"
	"dibber/netkit/store"
	"dibber/netkit/vantage"

	"github.com/libp2p/go-libp2p/core/peer"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	Host hostOptions
	Full fullOptions

	Relay          bool
	RelayLimits    relay.Limits
	RelayUnlimited bool
	CircuitsOnly   bool

	Rendezvous       bool
	RendezvousLimits rendezvous.Limits
	RefuseAddrs      []string
	Registry         registryOptions

	AutoNAT   bool
	NoAutoNAT bool
	DialBack  dialback.Config

	Vantage       bool
	VantageLimits vantage.Config

	MDNS           bool
	MDNSInterfaces []string

	Perf    bool
	DHT     routeOptions
	Sources networkSource

	Replicate    bool
	Store        storeOptions
	Admit        admitOptions
	SyncInterval time.Duration

	Blocks serveBlocks
	Pubsub servePubsubOptions
	Chain  chainOptions

	UseRelays    []string
	Register     []string
	Namespaces   []string
	TTL          time.Duration
	RecordFormat string
	Peers        []string

	Peering peeringOptions

	HTTP httpOptions

	Limits    host.Limits
	ReadyFile string
	Drain     time.Duration
}

// defaultPort is where serve listens, UDP and TCP, as libp2p nodes are wont to.
const defaultPort = 4001

func newServe(e *env) spec {
	var o serveOptions
	return spec{
		name: "serve", usage: "run a node that helps others find and reach each other",
		about: `Without --relay, --rendezvous and --autonat it is a full node, which takes its roles by itself: it tells peers whether
they can be reached, and asks them the same. Confirmed public, it relays for others, in small measure; confirmed
private, it reserves on two relays among its peers; and it gives up either when that changes.

Roles combine: --relay carries circuits for peers behind NATs, --rendezvous keeps who is registered where,
--autonat tells peers whether they can be reached, --vantage shows them how their NAT treats them, --replicate keeps the
store of logs in step with those of connected peers, --perf lets them measure throughput, --dht takes part in the network
of a distributed hash table, which it joins by --bootstrap, or begins, --pubsub passes on messages of the topics that peers
are subscribed to. --profile takes part in the network of a ParallelChain and in nothing else: it listens on TCP port 25519,
prints what it hears, and passes on the mail of peers that cannot reach each other where their version allows that.
--use-relay, --register and --peer make the node a client of other servers as well. With --mdns, and in the namespaces where it is
registered, it finds peers and connects with them. It listens on port 4001, UDP and TCP, unless --listen says otherwise,
and keeps its identity and its registrations in the state folder. dibber ctl shows what it does and changes its limits
while it runs. SIGHUP reads the lists of --allow-* and --deny-*, the
table of --peers and, from the configuration file, the limits of relay and rendezvous again; SIGTERM and Ctrl-C end it in
order, a second one at once.`,
		examples: []string{
			"dibber serve --peer @friend --peers @peers.txt",
			"dibber serve --relay --rendezvous",
			"dibber serve --use-relay @relay --register @relay --namespace chat --peers @peers.txt",
		},
		flags:   append(serveFlags(&o), hostFlags(&o.Host)...),
		options: &o, doc: serveDoc{}, events: serveEvents(), longLived: always,
		validate: func(args []string) error { return o.validate(e, args) },
		run:      func(ctx context.Context, out *output) (any, error) { return runServe(ctx, out, o) },
	}
}

// relayLimits are the relay's limits as the flags have them.
func (o *serveOptions) relayLimits() relay.Limits {
	l := o.RelayLimits
	if o.RelayUnlimited {
		l.Duration, l.Bytes = relay.NoLimit, relay.NoLimit
	}
	return l
}

// rendezvousLimits are the rendezvous point's limits as the flags have them.
func (o *serveOptions) rendezvousLimits() rendezvous.Limits {
	l := o.RendezvousLimits
	l.CircuitsOnly = o.CircuitsOnly
	for _, word := range o.RefuseAddrs {
		l.RefuseAddrs |= addrKinds()[word]
	}
	return l
}

// addrKinds are the words for kinds of addresses.
func addrKinds() map[string]rendezvous.AddrKinds {
	return map[string]rendezvous.AddrKinds{
		"public": rendezvous.AddrPublic, "relayed": rendezvous.AddrRelayed, "private": rendezvous.AddrPrivate,
	}
}

// point configures the rendezvous point, by itself in a database or with others in a space; nil without the role.
func (o *serveOptions) point(db *store.DB, space *etcd.Space) *rendezvous.ServerConfig {
	switch {
	case !o.Rendezvous:
		return nil
	case space != nil:
		return &rendezvous.ServerConfig{Limits: o.rendezvousLimits(), Space: space}
	default:
		return &rendezvous.ServerConfig{Limits: o.rendezvousLimits(), DB: db}
	}
}

// config turns the options into the roles' configuration.
func (o *serveOptions) config(out *output, own peer.ID, point *rendezvous.ServerConfig) (serve.Config, error) {
	var cfg serve.Config
	if o.Relay {
		cfg.Relay = &relay.Config{Limits: o.relayLimits(), NoIntro: o.CircuitsOnly}
	}
	cfg.Rendezvous = point
	if o.dialsBack() {
		cfg.DialBack = &o.DialBack
	}
	cfg.Full = o.full()
	if o.Vantage {
		cfg.Vantage = &o.VantageLimits
	}
	if o.Perf {
		cfg.Perf = &perf.ServerConfig{}
	}
	cfg.MDNS = o.MDNS
	var err error
	if cfg.MDNSInterfaces, err = o.Host.mdnsInterfaces(o.MDNS, o.MDNSInterfaces); err != nil {
		return cfg, err
	}
	for flag, list := range map[string]struct {
		values []string
		dest   *[]peer.AddrInfo
	}{"--use-relay": {o.UseRelays, &cfg.Relays}, "--peer": {o.Peers, &cfg.Peers}} {
		infos, err := o.Host.infos(out, own, flag, list.values)
		if err != nil {
			return cfg, err
		}
		*list.dest = infos
	}
	servers, err := o.Host.infos(out, own, "--register", o.Register)
	if err != nil {
		return cfg, err
	}
	for _, s := range servers {
		for _, ns := range unique(o.Namespaces) {
			cfg.Registrations = append(cfg.Registrations, serve.Registration{Server: s, Namespace: ns, TTL: o.TTL, Format: recordFormat(o.RecordFormat)})
		}
	}
	if !o.Chain.on() {
		cfg.Join = &join.Config{Book: invitations(o.Host.stateDir(out.e))}
	}
	cfg.Peering, cfg.Pubsub = o.Peering.config(), o.Pubsub.config()
	if o.Host.exchanges() && !o.Chain.on() {
		cfg.Punch, cfg.Natcheck = &punch.Config{}, &natcheck.ShareConfig{}
	}
	return cfg, o.Chain.role(out, &o.Host, own, &cfg)
}

// replicate opens the store that is kept in step, and its socket; nothing without the role.
func (o *serveOptions) replicate(ctx context.Context, out *output, n *host.Node, open *closers) (*serve.Replicate, error) {
	if !o.Replicate {
		return nil, nil
	}
	r, closeStore, err := o.Admit.replica(ctx, out, &o.Store, true)
	if err != nil {
		return nil, err
	}
	open.add(closeStore)
	socket, err := o.Store.socket(ctx, out, n, r)
	if err != nil {
		return nil, err
	}
	open.add(socket.Close)
	return &serve.Replicate{Replica: r, Config: replicate.Config{Every: o.SyncInterval}}, nil
}

// startHost starts the host, and reports whether everybody may connect.
func (o *serveOptions) startHost(out *output, web dashboard) (n *host.Node, everybody bool, err error) {
	cfg, err := o.hostConfig(out)
	if err != nil {
		return nil, false, err
	}
	cfg.CircuitsOnly = o.CircuitsOnly
	cfg.Limits, cfg.EachAddress, cfg.Metrics = o.Limits, o.Vantage, web.registerer()
	if n, err = host.New(cfg); err != nil {
		return nil, false, err
	}
	if len(n.ListenAddrs()) == 0 && !o.Host.RelayOnly {
		return nil, false, errors.Join(usagef("nothing to listen on: wss needs --tls-cert and --tls-key, other transports a --listen of their own"), n.Close())
	}
	return n, cfg.Access.Open() && !cfg.KnownOnly, nil
}

// stores opens what of the state folder the roles keep, and configures them.
func (o *serveOptions) stores(ctx context.Context, out *output, n *host.Node, dir string, open *closers) (roles serve.Config, k keeps, err error) {
	space, err := o.Registry.open()
	if err != nil {
		return roles, k, err
	}
	if space != nil {
		open.add(space.Close)
		k.shared = o.Registry.At
	} else if o.Rendezvous {
		if k.registry, err = store.Open(filepath.Join(dir, "registry"), store.Config{}); err != nil {
			return roles, k, err
		}
		open.add(k.registry.Close)
	}
	if roles, err = o.config(out, n.ID(), o.point(k.registry, space)); err != nil {
		return roles, k, err
	}
	if roles.Replicate, err = o.replicate(ctx, out, n, open); err != nil {
		return roles, k, err
	}
	k.logs, k.logsDir = roles.Replicate, o.Store.dir(out.e)
	if k.blocks, err = o.Blocks.open(out.e, &o.Host, &roles, open); err != nil {
		return roles, k, err
	}
	closeRoute, err := o.route(out, n, dir, &roles)
	if err != nil {
		return roles, k, err
	}
	open.add(closeRoute)
	if roles.Route != nil {
		k.records = roles.Route.DB
	}
	return roles, k, nil
}

func runServe(ctx context.Context, out *output, o serveOptions) (doc any, err error) {
	out.readyFirst()
	var open closers
	defer func() { err = errors.Join(err, open.close()) }()
	dir, err := o.Host.ownState(out, &open)
	if err != nil {
		return nil, err
	}
	if err := forgetReady(o.ReadyFile); err != nil {
		return nil, err
	}
	web, err := o.HTTP.open(ctx)
	if err != nil {
		return nil, err
	}
	open.add(web.close) // ended by drain, but for a start that fails
	n, everybody, err := o.startHost(out, web)
	if err != nil {
		return nil, err
	}
	open.add(n.Close)
	if err := o.Host.keepPresenting(ctx, out, n, &open); err != nil {
		return nil, err
	}
	if err := backup.Clean(dir); err != nil {
		return nil, err
	}
	book, err := openBans(dir, n)
	if err != nil {
		return nil, err
	}
	roles, kept, err := o.stores(ctx, out, n, dir, &open)
	if err != nil {
		return nil, err
	}
	roles.On = func(e serve.Event) {
		web.note(e)
		tellServe(out, e)
	}
	s, err := serve.New(n, roles)
	if err != nil {
		return nil, err
	}
	op := &operator{out: out, n: n, s: s, limits: &liveLimits{s: s, o: o}, dir: dir, bans: book, keeps: kept, blocks: kept.blocks, drains: make(chan time.Duration, 1), web: web}
	if err := op.open(ctx, o.Host.Admin); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	web.attach(n, s)
	if err := announceReady(out, readyEvent{o: o, n: n, s: s, open: everybody, dir: dir, admin: op.socket.Socket(), http: web.url()}.doc(), o.ReadyFile); err != nil {
		return nil, errors.Join(err, op.socket.Close(), web.close(), s.Close())
	}
	manager := supervisor{out}
	manager.ready()
	unwatch := manager.watch(op.alive)
	stop := reloadOnHangup(out, n, op.limits, manager)
	most := op.await(ctx, o.Drain)
	stop()
	unwatch()
	manager.stopping()
	result := serveDoc{Peer: new(n.ID()), Roles: s.Roles(), Reachability: stateWord(s.Reachability()), UptimeS: time.Since(out.e.start).Round(time.Millisecond).Seconds(), Rendezvous: holdingsOf(s.Stats())}
	result.Drained, err = drain(ctx, op, most)
	result.Relay = relayTotalsOf(s.Relayed()) // with what the end has closed
	if !result.Drained {
		// Roles still run: nothing may be closed under them. The process ends now,
		// and the store is made to survive that.
		open = nil
	}
	return result, err
}
