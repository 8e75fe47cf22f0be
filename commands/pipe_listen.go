package commands

import (
	"context"
	"fmt"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/natcheck"
	"dibber/netkit/pipe"
	"dibber/netkit/punch"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/urfave/cli/v2"
)

// pipeListenOptions are the flags of pipe listen.
type pipeListenOptions struct {
	Host      hostOptions
	Relays    []string
	TCP       string
	Patience  time.Duration
	ReadyFile string
}

func newPipeListen(*env) spec {
	var o pipeListenOptions
	return spec{
		name: "listen", usage: "wait for dibber pipe at the other side",
		about: `Without --tcp it takes one session, joins it to stdin and stdout, and ends with it. With --tcp every session gets
a TCP connection of its own to that address, until the command is interrupted. The addresses to give to the other side are
printed on stderr; with --relay the node can be reached behind a NAT as well. Whoever knows the address may connect: the lists
of --allow-peer and --allow-cidr say who else may not.`,
		examples: []string{
			"dibber pipe listen",
			"dibber pipe listen --relay @relay --peers @peers.txt > got.tar",
			"dibber pipe listen --tcp 127.0.0.1:22 --allow-peer 12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm --ndjson",
		},
		flags: slices.Concat([]cli.Flag{
			listFlag("", "relay", "keep a reservation on `RELAY` (repeatable)", &o.Relays),
			tcpFlag(&o.TCP), patienceFlag(&o.Patience), readyFileFlag(&o.ReadyFile),
		}, hostFlags(&o.Host)),
		options: &o, doc: pipeDoc{}, events: pipeListenEvents(), longLived: func() bool { return o.TCP != "" },
		validate: o.validate,
		run:      func(ctx context.Context, out *output) (any, error) { return runPipeListen(ctx, out, o) },
	}
}

func (o *pipeListenOptions) validate(args []string) error {
	switch {
	case len(args) > 0:
		return usagef("pipe listen takes no arguments, but got %q", args[0])
	case o.Patience <= 0:
		return usagef("--patience: %s is no time", o.Patience)
	case o.Host.NoDiscovery && len(o.Relays) > 0:
		return usagef("--no-discovery announces nothing: it excludes --relay")
	}
	if err := checkHostPort("--tcp", o.TCP); err != nil {
		return err
	}
	return o.Host.validate()
}

func pipeListenEvents() []event {
	return slices.Concat([]event{{"ready", listenReady{}}}, reservationEvents(), pipeEvents())
}

// taken is a session that a peer began.
type taken struct {
	peer peer.ID
	s    *pipe.Session
	over chan struct{} // closed when it was carried
}

func runPipeListen(ctx context.Context, out *output, o pipeListenOptions) (doc any, err error) {
	out.readyFirst()
	t := &pipes{out: out}
	near, err := t.near(o.TCP)
	if err != nil {
		return nil, err
	}
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return nil, err
	}
	defer closing(&err, n.Close)
	relays, err := o.Host.infos(out, n.ID(), "--relay", o.Relays)
	if err != nil {
		return nil, err
	}
	sessions := make(chan taken)
	cfg := pipe.ListenConfig{Config: pipe.Config{Patience: o.Patience, On: t.path}}
	if o.TCP == "" {
		cfg.Sessions = 1
	}
	l := pipe.Listen(n, cfg, func(p peer.ID, s *pipe.Session) {
		one := taken{p, s, make(chan struct{})}
		select {
		case sessions <- one:
			<-one.over
		case <-ctx.Done():
		}
	})
	defer closing(&err, l.Close)
	roles := serve.Config{Relays: relays, On: func(e serve.Event) { t.reserved(n, e) }}
	if o.Host.exchanges() {
		roles.Punch, roles.Natcheck = &punch.Config{}, &natcheck.ShareConfig{}
	}
	s, err := serve.New(n, roles)
	if err != nil {
		return nil, err
	}
	defer closing(&err, s.Close)
	if err := t.ready(n, o); err != nil {
		return nil, err
	}
	err = t.serve(ctx, sessions, near, o.TCP == "")
	return t.doc(), err
}

// ready tells where the node can be reached. With a relay the command to copy is the one
// through that, and told with the reservation.
func (t *pipes) ready(n *host.Node, o pipeListenOptions) error {
	ready := readyOf(n)
	if err := writeReady(t.out, ready, o.ReadyFile); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	t.out.event("ready", ready)
	if len(o.Relays) == 0 {
		t.suggest(n, n.ListenAddrs())
	}
	return nil
}

// suggest prints the command for the other side with the one of some addresses that works
// from the farthest away, and from where it does.
func (t *pipes) suggest(n *host.Node, addrs []ma.Multiaddr) {
	a, from := farthest(addrs)
	if a != nil {
		t.out.notice("%s: dibber pipe %s/p2p/%s", from, a, n.ID())
	}
}

// farthest is the first of the addresses that can be reached from the farthest away, and a
// word for from where; nil if none can be from anywhere.
func farthest(addrs []ma.Multiaddr) (best ma.Multiaddr, from string) {
	for _, step := range []struct {
		scopes []addr.Scope
		from   string
	}{
		{[]addr.Scope{addr.ScopePublic, addr.ScopeDNS}, "on the other side"},
		{[]addr.Scope{addr.ScopePrivate, addr.ScopeUnknown}, "in the same network"},
		{[]addr.Scope{addr.ScopeLoopback}, "on this machine"},
	} {
		if i := slices.IndexFunc(addrs, func(a ma.Multiaddr) bool { return slices.Contains(step.scopes, addr.ScopeOf(a)) }); i >= 0 {
			return addrs[i], step.from
		}
	}
	return nil, ""
}

// reserved tells of reservations.
func (t *pipes) reserved(n *host.Node, e serve.Event) {
	if e.Relay == nil {
		return
	}
	tellReservation(t.out, *e.Relay)
	if e.Relay.Kind != "reserved" {
		return
	}
	if c, _ := farthest(e.Relay.Reservation.Circuits); c != nil {
		t.out.notice("on the other side: dibber pipe %s/p2p/%s", c, n.ID())
	}
	t.suggest(n, slices.DeleteFunc(n.ListenAddrs(), func(a ma.Multiaddr) bool { return addr.ScopeOf(a) == addr.ScopeLoopback }))
}

// serve carries sessions as they come, or one and no more.
func (t *pipes) serve(ctx context.Context, sessions <-chan taken, near func(context.Context) (ends, error), once bool) error {
	defer t.running.Wait()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case one := <-sessions:
			if once {
				defer close(one.over)
				t.peer = &one.peer
				return t.join(ctx, one.peer, one.s, near)
			}
			t.running.Go(func() {
				defer close(one.over)
				if err := t.join(ctx, one.peer, one.s, near); err != nil && ctx.Err() == nil {
					t.out.warn("%v", err)
				}
			})
		}
	}
}
