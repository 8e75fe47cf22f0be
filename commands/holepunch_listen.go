package commands

import (
	"context"
	"fmt"
	"slices"
	"time"

	"dibber/netkit/discover"
	"dibber/netkit/host"
	"dibber/netkit/natcheck"
	"dibber/netkit/peering"
	"dibber/netkit/punch"
	"dibber/netkit/reach"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/urfave/cli/v2"
)

// listenOptions are the flags of holepunch listen.
type listenOptions struct {
	Host      hostOptions
	Relays    []string
	Sources   sourceOptions // of relays
	ReadyFile string
	Method    string
	Every     time.Duration
	Servers   []string
	NoPortMap bool
}

// listenReady is the ready event of holepunch listen and pipe listen.
type listenReady struct {
	Peer  peer.ID  `json:"peer"`
	Addrs []string `json:"addrs"` // each ends with /p2p/PEER; circuits come with reservation.reserved
}

// readyOf tells who n is and where it listens.
func readyOf(n *host.Node) listenReady {
	ready := listenReady{Peer: n.ID()}
	for _, a := range n.ListenAddrs() {
		ready.Addrs = append(ready.Addrs, a.String()+"/p2p/"+n.ID().String())
	}
	return ready
}

// listenDoc is the document of holepunch listen, printed at its end.
type listenDoc struct {
	Peer  *peer.ID `json:"peer"` // null: it did not start
	Runs  int      `json:"runs"`
	Tally tally    `json:"outcomes"`
}

// tally counts punches by how they ended.
type tally struct {
	Direct        int `json:"direct"`
	AlreadyDirect int `json:"already_direct"`
	Failed        int `json:"failed"`
}

func (t *tally) add(outcome string) {
	switch outcome {
	case punch.Direct:
		t.Direct++
	case punch.AlreadyDirect:
		t.AlreadyDirect++
	default:
		t.Failed++
	}
}

func newHolepunchListen(*env) spec {
	var o listenOptions
	return spec{
		name: "listen", usage: "wait on a relay for others to punch through to this host",
		about: `Keeps a reservation on each --relay, or on two of the relays found by --rendezvous, --mdns or --dht that are near and
whose circuits carry something, replaces those it loses, and prints the command for the other side. Whoever calls through the relay
is connected directly if the NATs allow it; each punch is reported as both ends saw it.`,
		examples: []string{
			"dibber holepunch listen --relay /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm",
			"dibber holepunch listen --rendezvous @hub --namespace relays --peers @peers.txt --transport tcp",
			"dibber holepunch listen --relay @relay --peers @peers.txt --identity listen.key --ndjson",
		},
		flags: slices.Concat([]cli.Flag{
			listFlag("", "relay", "keep a reservation on `RELAY` (repeatable)", &o.Relays),
			methodFlag(&o.Method),
			serverFlag(&o.Servers),
			noPortMapFlag(&o.NoPortMap),
			&cli.DurationFlag{Name: "every", Value: time.Minute, Usage: "do more than DCUtR with the same peer at most once in `DURATION`", Destination: &o.Every},
			readyFileFlag(&o.ReadyFile),
		}, sourceFlags(&o.Sources), hostFlags(&o.Host)),
		options: &o, doc: listenDoc{}, events: listenEvents(), longLived: always,
		validate: o.validate,
		run:      func(ctx context.Context, out *output) (any, error) { return runHolepunchListen(ctx, out, o) },
	}
}

func (o *listenOptions) validate(args []string) error {
	switch {
	case len(args) > 0:
		return usagef("holepunch listen takes no arguments, but got %q; name relays by --relay", args[0])
	case len(o.Relays) == 0 && !o.finds():
		return usagef("holepunch listen needs --relay, or --rendezvous, --mdns or --dht to find one")
	case o.Every <= 0:
		return usagef("--every must be more than 0")
	case o.Host.NoDiscovery:
		return usagef("--no-discovery announces nothing: it excludes holepunch listen")
	}
	if err := o.Sources.validate(); err != nil {
		return err
	}
	if err := o.Host.shows("holepunch listen"); err != nil {
		return err
	}
	return o.Host.validate()
}

// finds reports whether relays are looked for.
func (o *listenOptions) finds() bool {
	return len(o.Sources.Rendezvous) > 0 || o.Sources.MDNS || o.Sources.DHT
}

// serving is what the host does while it waits.
func (o *listenOptions) serving(out *output, n *host.Node) (cfg serve.Config, err error) {
	if cfg.Relays, err = o.Host.infos(out, n.ID(), "--relay", o.Relays); err != nil {
		return cfg, err
	}
	servers, err := o.Host.infos(out, n.ID(), "--server", o.Servers)
	if err != nil {
		return cfg, err
	}
	cfg.Punch = &punch.Config{Method: o.Method, Every: o.Every, Servers: servers, PortMap: !o.NoPortMap}
	cfg.Natcheck = &natcheck.ShareConfig{Servers: servers}
	if !o.finds() {
		return cfg, nil
	}
	look, err := o.Sources.config(out, &o.Host)
	if err != nil {
		return cfg, err
	}
	cfg.Full = &serve.Full{Fixed: reach.Private, NoRelay: true}
	// The hash table is walked by the node's own part in it, which looks for relays near its key.
	cfg.Route, cfg.Full.FindRelays, look.DHT = look.DHT, look.DHT != nil, nil
	if len(look.Servers) > 0 || look.MDNS != nil {
		cfg.Look = []discover.Config{look}
		cfg.Peering = &peering.Config{Require: []protocol.ID{proto.ProtoIDv2Hop}}
	}
	return cfg, nil
}

// listenEvents are the lines of --ndjson before the summary.
func listenEvents() []event {
	return slices.Concat([]event{{"ready", listenReady{}}}, reservationEvents(), []event{{"step", punchStep{}}, {"punch.ended", punchLine{}}})
}

func runHolepunchListen(ctx context.Context, out *output, o listenOptions) (doc any, err error) {
	out.readyFirst()
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return nil, err
	}
	defer closing(&err, n.Close)
	cfg, err := o.serving(out, n)
	if err != nil {
		return nil, err
	}
	ready := readyOf(n)
	result := listenDoc{Peer: new(n.ID())}
	ended := make(chan punch.Report, 16)
	cfg.On = func(e serve.Event) {
		tellListen(out, n, e)
		if e.Punch != nil && e.Punch.Report != nil {
			select {
			case ended <- *e.Punch.Report:
			case <-ctx.Done():
			}
		}
	}
	s, err := serve.New(n, cfg)
	if err != nil {
		return nil, err
	}
	defer closing(&err, s.Close)
	if err := writeReady(out, ready, o.ReadyFile); err != nil {
		return nil, fmt.Errorf("ready file: %w", err)
	}
	out.event("ready", ready)
	for {
		select {
		case r := <-ended:
			result.Runs++
			result.Tally.add(r.Outcome)
		case <-ctx.Done():
			return result, nil
		}
	}
}

// tellListen turns what happened into an event.
func tellListen(out *output, n *host.Node, e serve.Event) {
	switch {
	case e.Relay != nil:
		tellReservation(out, *e.Relay)
		if e.Relay.Kind == "reserved" {
			suggest(out, n, reservationOf(*e.Relay).Circuits)
		}
	case e.Punch != nil && e.Punch.Step != nil:
		out.event("step", stepOf(*e.Punch))
	case e.Punch != nil:
		out.event("punch.ended", punchLine{*e.Punch.Report})
	}
}

// suggest prints the command for the other side. The relay may be known to it under
// any of its addresses; the first is the preferred one.
func suggest(out *output, n *host.Node, circuits []string) {
	if len(circuits) > 0 {
		out.notice("on the other side: dibber holepunch %s/p2p/%s", circuits[0], n.ID())
	}
}

func (d listenDoc) quiet() string { return d.Peer.String() }

func (d listenDoc) renderText(t *text) {
	t.line("punches %d  direct %d  already direct %d  failed %d", d.Runs, d.Tally.Direct, d.Tally.AlreadyDirect, d.Tally.Failed)
}

func (r listenReady) line() string {
	return "peer id    " + r.Peer.String() + "\nready      Ctrl-C ends it"
}
