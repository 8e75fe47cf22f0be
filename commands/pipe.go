package commands

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/dial"
	"dibber/netkit/host"
	"dibber/netkit/pipe"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// pipeOptions are the flags and arguments of pipe.
type pipeOptions struct {
	Host      hostOptions
	Sources   sourceOptions
	Target    []string
	TCP       string
	ListenTCP string
	Patience  time.Duration
	ReadyFile string
}

// pipeReady is the ready event of pipe with --listen-tcp.
type pipeReady struct {
	Peer  peer.ID  `json:"peer"`
	Addrs []string `json:"addrs"` // each ends with /p2p/PEER
	TCP   string   `json:"tcp"`   // takes connections
}

func newPipe(e *env) spec {
	var o pipeOptions
	return spec{
		name: "pipe", usage: "carry stdin and stdout, or TCP, to a peer by the best path", args: "<target>",
		about: `The other side runs dibber pipe listen. What is read here from stdin is written there to stdout, and the other way
round. It goes on, without loss, when the path changes from relayed to direct, and when the connection is broken for less
than --patience. With --listen-tcp each TCP connection made to this host is carried in a session of its own.`,
		examples: []string{
			"dibber pipe /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm",
			"dibber pipe @home --peers @peers.txt --listen-tcp 127.0.0.1:8080",
			"dibber pipe @home --peers @peers.txt --tcp 127.0.0.1:22 --json",
		},
		flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "listen-tcp", Usage: "carry each TCP connection made to `HOST:PORT` here", Destination: &o.ListenTCP},
			tcpFlag(&o.TCP), patienceFlag(&o.Patience), readyFileFlag(&o.ReadyFile), ownHostFlag(&o.Host.OwnHost),
		}, sourceFlags(&o.Sources), hostFlags(&o.Host)),
		lends:   o.lends(),
		options: &o, doc: pipeDoc{}, events: append([]event{{"ready", pipeReady{}}}, pipeEvents()...), longLived: func() bool { return o.ListenTCP != "" },
		validate:    o.validate,
		run:         func(ctx context.Context, out *output) (any, error) { return runPipe(ctx, out, o) },
		subcommands: []spec{newPipeListen(e)},
	}
}

// lends says that it can run on another's node, except for what listens.
func (o *pipeOptions) lends() *lends {
	l := o.Host.lends("tcp", "patience")
	l.stdin = true
	return l
}

func tcpFlag(dest *string) cli.Flag {
	return &cli.StringFlag{Name: "tcp", Usage: "carry a TCP connection to `HOST:PORT` instead of stdin and stdout", Destination: dest}
}

func patienceFlag(dest *time.Duration) cli.Flag {
	return &cli.DurationFlag{Name: "patience", Value: 30 * time.Second, Usage: "outlive a broken connection for `DURATION`", Destination: dest}
}

func (o *pipeOptions) validate(args []string) error {
	o.Target = args
	switch {
	case o.TCP != "" && o.ListenTCP != "":
		return usagef("--tcp and --listen-tcp exclude each other")
	case o.ReadyFile != "" && o.ListenTCP == "":
		return usagef("--ready-file needs --listen-tcp")
	}
	for flag, at := range map[string]string{"--tcp": o.TCP, "--listen-tcp": o.ListenTCP} {
		if err := checkHostPort(flag, at); err != nil {
			return err
		}
	}
	if o.Patience <= 0 {
		return usagef("--patience: %s is no time", o.Patience)
	}
	if err := o.Sources.validate(); err != nil {
		return err
	}
	return o.Host.needTargets("pipe", args, addr.Options{})
}

func (r pipeReady) line() string { return "listening on " + r.TCP }

// checkHostPort refuses what is no HOST:PORT; empty is fine.
func checkHostPort(flag, at string) error {
	if at == "" {
		return nil
	}
	if _, port, err := net.SplitHostPort(at); err != nil || port == "" {
		return usagef("%s: %q is not of the form HOST:PORT", flag, at)
	}
	return nil
}

func runPipe(ctx context.Context, out *output, o pipeOptions) (doc any, err error) {
	targets, err := o.Host.oneTarget(out, "pipe", o.Target, addr.Options{})
	if err != nil {
		return nil, err
	}
	find, err := o.Sources.finder(out, &o.Host, targets)
	if err != nil {
		return nil, err
	}
	t := &pipes{out: out, peer: &targets[0].ID}
	var ends func(context.Context) (ends, error)
	if o.ListenTCP == "" {
		if ends, err = t.near(o.TCP); err != nil {
			return nil, err
		}
	}
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return nil, err
	}
	defer closing(&err, o.Host.used(out, n))
	if err := find.complete(ctx, n, &targets[0]); err != nil {
		return t.doc(), err
	}
	out.status("connecting with %s", targets[0].ID)
	if _, err := dial.Do(ctx, n, targets[0].ID, targets[0].Addrs, dial.Config{}); err != nil {
		return t.doc(), err
	}
	begin := func(ctx context.Context) (*pipe.Session, error) {
		return pipe.Dial(ctx, n, targets[0].AddrInfo(), pipe.Config{Patience: o.Patience, On: t.path})
	}
	if o.ListenTCP != "" {
		err = t.accept(ctx, n, o, begin)
		return t.doc(), err
	}
	s, err := begin(ctx)
	if err != nil {
		return t.doc(), err
	}
	err = t.join(ctx, targets[0].ID, s, ends)
	return t.doc(), err
}

// accept carries each TCP connection that is made to --listen-tcp.
func (t *pipes) accept(ctx context.Context, n *host.Node, o pipeOptions, begin func(context.Context) (*pipe.Session, error)) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.ListenTCP)
	if err != nil {
		return &failure{Code: "listen", Phase: "listen", Err: err, Hint: "another program may have the port; choose one with --listen-tcp"}
	}
	own := readyOf(n)
	ready := pipeReady{own.Peer, own.Addrs, l.Addr().String()}
	if err := writeReady(t.out, ready, o.ReadyFile); err != nil {
		return errors.Join(fmt.Errorf("ready file: %w", err), l.Close())
	}
	t.out.event("ready", ready)
	defer t.running.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
		t.running.Go(func() {
			s, err := begin(ctx)
			if err != nil {
				_ = c.Close() // the caller of it learns of nothing else
				t.out.warn("%v", err)
				return
			}
			_ = t.join(ctx, *t.peer, s, func(context.Context) (ends, error) { return tcpEnds(c), nil })
		})
	}
}

// pipeFailure gives the errors of pipes their class.
func pipeFailure(err error) (failure, bool) {
	switch {
	case errors.Is(err, pipe.ErrUnsupported):
		return failure{Exit: exitProtocol, Code: "missing_protocol", Phase: "pipe", Hint: "run dibber pipe listen there"}, true
	case errors.Is(err, pipe.ErrAborted):
		return failure{Exit: exitUnreachable, Code: "aborted", Phase: "pipe", Retryable: true}, true
	case errors.Is(err, pipe.ErrLost):
		return failure{Exit: exitUnreachable, Code: "connection_lost", Phase: "pipe", Retryable: true}, true
	}
	return failure{}, false
}

// pipeDoc is the document of pipe and of pipe listen.
type pipeDoc struct {
	Peer     *peer.ID `json:"peer"`     // the other side; null: none or several
	Sessions int      `json:"sessions"` // that were begun
	Sent     int64    `json:"sent"`     // bytes, of all sessions
	Received int64    `json:"received"`
	Path     *string  `json:"path"` // the last one taken; null: none
	Addr     *string  `json:"addr"`
}

func (d pipeDoc) quiet() string { return "" }

func (d pipeDoc) renderText(t *text) {
	if d.Sessions > 0 {
		t.line("sessions %d  sent %d bytes  received %d bytes", d.Sessions, d.Sent, d.Received)
	}
}
