package commands

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/p2panda"
	"dibber/netkit/peering"
	"dibber/netkit/punch"
	"dibber/netkit/replicate"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/urfave/cli/v2"
)

// runOptions are the flags of replicate run.
type runOptions struct {
	Host         hostOptions
	Store        storeOptions
	Admit        admitOptions
	Peers        []string
	Relays       []string
	Register     []string
	Namespaces   []string
	MDNS         bool
	Interfaces   []string
	SyncInterval time.Duration
	ReadyFile    string
	Panda        pandaOptions
}

// runReady is the ready event of replicate run.
type runReady struct {
	Peer  peer.ID  `json:"peer"`
	Addrs []string `json:"addrs"` // each ends with /p2p/PEER; circuits come with reservation.reserved
	Root  string   `json:"root"`
	Admin string   `json:"admin"` // the control socket through which others use the store
}

// runDoc is the document of replicate run, printed at its end.
type runDoc struct {
	Peer     *peer.ID        `json:"peer"` // null: it did not start
	Sessions int             `json:"sessions"`
	Failed   int             `json:"failed"`
	Pulled   replicate.Count `json:"pulled"`
	Pushed   replicate.Count `json:"pushed"`
	Live     replicate.Count `json:"live"` // that came as they were signed, without a session
	Root     *string         `json:"root"`
}

// liveEvent is a run of entries that came as they were signed, and is on disk.
type liveEvent struct {
	Peer   peer.ID `json:"peer"` // the neighbour that it came from
	Author string  `json:"author"`
	Log    uint64  `json:"log"`
	From   uint64  `json:"from"`
	To     uint64  `json:"to"`
	Bytes  uint64  `json:"bytes"`
	// StoreMS is how long it took from when it was proven until it was on disk.
	StoreMS float64 `json:"store_ms"`
}

func tellLive(out *output, e replicate.Live) {
	out.emit("live", liveEvent{Peer: e.Via, Author: e.Author.String(), Log: e.Log, From: e.From, To: e.To, Bytes: e.Bytes, StoreMS: millis(e.Stored.Sub(e.Received))}, false)
}

// sessionEvent is a session that has ended.
type sessionEvent struct {
	Peer  peer.ID `json:"peer"`
	Path  string  `json:"path"`
	Began bool    `json:"began"` // by this side
	Error *string `json:"error"`
	replicate.Result
}

func (s sessionEvent) line() string {
	state := "differs"
	if s.Converged {
		state = "converged"
	}
	if s.Error != nil {
		state = "failed: " + *s.Error
	}
	return fmt.Sprintf("session with %s (%s)  pulled %d  pushed %d  %s", s.Peer, s.Path, s.Pulled.Entries, s.Pushed.Entries, state)
}

func newReplicateRun(*env) spec {
	var o runOptions
	return spec{
		name: "run", usage: "keep the store in step with those of peers",
		about: `Keeps connections with each --peer and with peers found by --mdns, or in each --namespace of --register, that take part as
well. Entries are told to them by gossip as they are signed. A session is held with each peer that appears, with those that gossip
does not reach when entries came, and with one of them now and then. Authors that the store knows nothing of are refused unless
--allow-author, --namespace-key or --accept-any says otherwise. Meanwhile replicate log goes through this process.`,
		examples: []string{
			"dibber replicate run --accept-any",
			"dibber replicate run --peer @home --peers @peers.txt --allow-author @authors.txt",
			"dibber replicate run --register @point --namespace notes --peers @peers.txt --ndjson",
		},
		flags: slices.Concat([]cli.Flag{
			listFlag("", "peer", "stay connected to `PEER` (repeatable)", &o.Peers),
			listFlag("", "use-relay", "keep a reservation on `RELAY` and announce it (repeatable)", &o.Relays),
			listFlag("", "register", "keep registered at `SERVER` in every --namespace, and connect with those found there (repeatable)", &o.Register),
			listFlag("", "namespace", "register in `NS` (repeatable)", &o.Namespaces),
			&cli.BoolFlag{Name: "mdns", Usage: "announce the node on the local network, and connect with those found there", Destination: &o.MDNS},
			listFlag("", "mdns-interface", "use the network of `INTERFACE` only (repeatable)", &o.Interfaces),
			intervalFlag(&o.SyncInterval), readyFileFlag(&o.ReadyFile), storeFlag(&o.Store),
		}, pandaFlags(&o.Panda, "exchange entries with nodes of p2panda (aquadoggo), too, by their own protocol"), admitFlags(&o.Admit), hostFlags(&o.Host)),
		options: &o, doc: runDoc{}, events: runEvents(), longLived: always,
		validate: o.validate,
		run:      func(ctx context.Context, out *output) (any, error) { return o.run(ctx, out) },
	}
}

func intervalFlag(dest *time.Duration) cli.Flag {
	return &cli.DurationFlag{Category: groupStore, Name: "sync-interval", Value: 45 * time.Second, Usage: "hold a session with one of the peers about every `DURATION`", Destination: dest}
}

func (o *runOptions) validate(args []string) error {
	o.Store.StateDir = o.Host.StateDir
	switch {
	case len(args) > 0:
		return usagef("replicate run takes no arguments, but got %q; name peers by --peer", args[0])
	case (len(o.Register) > 0) != (len(o.Namespaces) > 0):
		return usagef("--register and --namespace go together")
	case o.Host.NoDiscovery && (o.MDNS || len(o.Register) > 0 || len(o.Relays) > 0):
		return usagef("--no-discovery announces nothing: it excludes --mdns, --register and --use-relay")
	case len(o.Interfaces) > 0 && !o.MDNS:
		return usagef("--mdns-interface needs --mdns")
	case o.SyncInterval <= 0:
		return usagef("--sync-interval: %s is no time", o.SyncInterval)
	}
	for _, ns := range o.Namespaces {
		if len(ns) > 255 {
			return usagef("--namespace: %d bytes are more than 255", len(ns))
		}
	}
	return errors.Join(o.Panda.validate(), o.Admit.validate(), o.Host.validate())
}

func runEvents() []event {
	list := slices.Concat([]event{{"ready", runReady{}}, {"session", sessionEvent{}}, {"live", liveEvent{}}}, pandaEvents(), reservationEvents(), registrationEvents())
	for _, kind := range peeringKinds() {
		list = append(list, event{"peer." + string(kind), peerLine{}})
	}
	return append(list, event{"punch.ended", punchLine{}})
}

// config is what the node does besides p2panda.
func (o *runOptions) config(out *output, n *host.Node, r *replicate.Replica) (cfg serve.Config, err error) {
	cfg = serve.Config{
		MDNS: o.MDNS, Replicate: &serve.Replicate{Replica: r, Config: replicate.Config{Every: o.SyncInterval}},
		Peering: &peering.Config{Require: []protocol.ID{replicate.Protocol}},
	}
	if cfg.MDNSInterfaces, err = o.Host.mdnsInterfaces(o.MDNS, o.Interfaces); err != nil {
		return cfg, err
	}
	if cfg.Peers, err = o.Host.infos(out, n.ID(), "--peer", o.Peers); err != nil {
		return cfg, err
	}
	if cfg.Relays, err = o.Host.infos(out, n.ID(), "--use-relay", o.Relays); err != nil {
		return cfg, err
	}
	if o.Host.exchanges() {
		cfg.Punch = &punch.Config{}
	}
	cfg.Registrations, err = o.registrations(out, n.ID())
	return cfg, err
}

func (o *runOptions) run(ctx context.Context, out *output) (doc any, err error) {
	out.readyFirst()
	r, closeStore, err := o.Admit.replica(ctx, out, &o.Store, true)
	if err != nil {
		return nil, err
	}
	defer closing(&err, closeStore)
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return nil, err
	}
	defer closing(&err, n.Close)
	cfg, err := o.config(out, n, r)
	if err != nil {
		return nil, err
	}
	if o.Panda.On {
		cfg.Peering.Require = append(cfg.Peering.Require, p2panda.ProtocolID)
		pandaCfg := o.Panda.config(r)
		pandaCfg.On = func(e p2panda.Event) { tellPanda(out, e) }
		// Before the parts that hold the streams of its protocol, which they then leave to it.
		var panda *p2panda.Service
		if panda, err = p2panda.New(n, pandaCfg); err != nil {
			return nil, err
		}
		defer closing(&err, panda.Close)
	}
	result := runDoc{Peer: new(n.ID())}
	events := make(chan serve.Event, 64)
	cfg.On = func(e serve.Event) {
		if e.Replicated == nil && e.Lived == nil {
			tellServe(out, e)
			return
		}
		select {
		case events <- e:
		case <-ctx.Done():
		}
	}
	s, err := serve.New(n, cfg)
	if err != nil {
		return nil, err
	}
	defer closing(&err, s.Close)
	socket, err := o.Store.socket(ctx, out, n, r)
	if err != nil {
		return nil, err
	}
	defer closing(&err, socket.Close)
	own := readyOf(n)
	ready := runReady{Peer: own.Peer, Addrs: own.Addrs, Admin: socket.Socket()}
	if ready.Root, err = rootOf(r); err != nil {
		return nil, err
	}
	if err := writeReady(out, ready, o.ReadyFile); err != nil {
		return nil, fmt.Errorf("ready file: %w", err)
	}
	out.event("ready", ready)
	for {
		select {
		case e := <-events:
			result.add(e)
			tellServe(out, e)
		case <-ctx.Done():
			root, err := rootOf(r)
			result.Root = known(root)
			return result, err
		}
	}
}

// registrations are those to keep: in every namespace at every server.
func (o *runOptions) registrations(out *output, own peer.ID) (list []serve.Registration, err error) {
	servers, err := o.Host.infos(out, own, "--register", o.Register)
	for _, s := range servers {
		for _, ns := range unique(o.Namespaces) {
			list = append(list, serve.Registration{Server: s, Namespace: ns})
		}
	}
	return list, err
}

func (d *runDoc) add(event serve.Event) {
	if l := event.Lived; l != nil {
		d.Live.Entries += int(l.To - l.From + 1)
		d.Live.Bytes += l.Bytes
		return
	}
	e := event.Replicated
	d.Sessions++
	if e.Err != nil {
		d.Failed++
	}
	for _, c := range [][2]*replicate.Count{{&d.Pulled, &e.Result.Pulled}, {&d.Pushed, &e.Result.Pushed}} {
		c[0].Entries += c[1].Entries
		c[0].Bytes += c[1].Bytes
	}
}

// tellSession tells of a session that has ended; one that found nothing to do is no news to a person.
func tellSession(out *output, e replicate.Event) {
	line := sessionEvent{Peer: e.Peer, Path: e.Path, Began: e.Began, Error: errorText(e.Err), Result: e.Result}
	out.emit("session", line, e.Err != nil || e.Result.Pulled.Entries+e.Result.Pushed.Entries > 0 || !e.Result.Converged)
}

// rootOf is the root of a replica's store as it is now.
func rootOf(r *replicate.Replica) (root string, err error) {
	v, err := r.Store.View()
	if err != nil {
		return "", err
	}
	defer closing(&err, v.Close)
	sum := v.Root()
	return hex.EncodeToString(sum[:]), nil
}

// line is what a person sees first.
func (r runReady) line() string {
	if len(r.Addrs) == 0 {
		return "listening nowhere"
	}
	return "on the other side: dibber replicate sync " + r.Addrs[0]
}

func (d runDoc) quiet() string {
	if d.Root == nil {
		return ""
	}
	return *d.Root
}

func (d runDoc) renderText(t *text) {
	t.line("sessions %d, failed %d  pulled %d entries (%s)  pushed %d entries (%s)  live %d entries (%s)", d.Sessions, d.Failed,
		d.Pulled.Entries, sizeText(d.Pulled.Bytes), d.Pushed.Entries, sizeText(d.Pushed.Bytes), d.Live.Entries, sizeText(d.Live.Bytes))
}
