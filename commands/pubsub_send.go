package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/dial"
	"dibber/netkit/gossip"
	"dibber/netkit/letter"
	"dibber/netkit/pchain"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// sendOptions are the flags and arguments of pubsub send.
type sendOptions struct {
	Host       hostOptions
	Chain      chainOptions
	Sources    sourceOptions
	Payload    payloadOptions
	Target     string
	MaxMessage int
}

// sendDoc is the document of pubsub send.
type sendDoc struct {
	Peer         *peer.ID `json:"peer"`
	Path         *string  `json:"path"` // direct or relayed, of the last message; null: not connected
	Addr         *string  `json:"addr"`
	Sent         int      `json:"sent"`         // messages
	Acknowledged *int     `json:"acknowledged"` // of them, those that the peer said it took; null: peers of a ParallelChain do not say
	Bytes        int      `json:"bytes"`        // of payload: acknowledged, or sent where nobody says
	// Address is the receiver's on the network of a ParallelChain; null elsewhere. Drained is what the neighbours did with the
	// messages there.
	Address *pchain.Address `json:"address"`
	Drained *gossip.Drained `json:"drained"`
}

func newPubsubSend(e *env) spec {
	var o sendOptions
	flags := slices.Concat(payloadFlags(&o.Payload), []cli.Flag{
		maxMessageFlag("max-message", &o.MaxMessage),
	}, sourceFlags(&o.Sources), hostFlags(&o.Host), chainFlags(&o.Chain))
	return spec{
		name: "send", usage: "send messages to one peer and wait until it has them", args: "<target> <text>|-",
		about: `The other side runs dibber pubsub sub --direct. Each message is acknowledged when it was taken there, in order, and may
go through a relay. The exit code is 0 only if all were acknowledged, 6 if the peer refused one, 124 if it did not answer in time.

With --profile the target is an ADDRESS of a ParallelChain, or ADDRESS@HOST:PORT, and gets the messages in its mailbox. Its peers
acknowledge nothing: the exit code is 0 if all are on their way to it, or to a neighbour that passes its mail on.`,
		examples: []string{
			"dibber pubsub send /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm 'hello'",
			"dibber pubsub send @home - --peers @peers.txt",
			"dibber pubsub send 6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw@127.0.0.1:25519 --file vote --profile pchain-0.4",
		},
		flags: flags, lends: o.lends(),
		options: &o, doc: sendDoc{}, events: append(append(reachEvents(), event{"sent", letter.Result{}}, event{"chain.sent", chainSent{}}), chainEvents(false)...), timeout: 30 * time.Second,
		extra: func() time.Duration {
			if o.Payload.streams() {
				return -1
			}
			return 0
		},
		validate: func(args []string) error { return o.validate(e, flags, args) },
		run: func(ctx context.Context, out *output) (any, error) {
			if o.Chain.on() {
				return o.runChain(ctx, out)
			}
			return o.run(ctx, out)
		},
	}
}

func (o *sendOptions) lends() *lends {
	l := o.Host.lends("b64", "max-message")
	l.stdin = true
	return l
}

func (o *sendOptions) validate(e *env, flags []cli.Flag, args []string) error {
	if len(args) == 0 {
		return usagef("pubsub send needs a target and a text")
	}
	o.Target, o.Payload.Texts = args[0], args[1:]
	switch {
	case o.Target == "-":
		return usagef("pubsub send takes one peer, not those of stdin")
	case o.MaxMessage < 0 || o.MaxMessage > 0 && o.MaxMessage < minMessage:
		return usagef("--max-message: %d is less than %d", o.MaxMessage, minMessage)
	}
	if err := o.Chain.validateWith(e, flags, &o.Host, "file", "b64"); err != nil {
		return err
	}
	if o.Chain.on() {
		return o.Payload.validate("pubsub send")
	}
	return errors.Join(o.Payload.validate("pubsub send"), o.Sources.validate(), o.Host.needTargets("pubsub send", args[:1], addr.Options{}))
}

func (o *sendOptions) run(ctx context.Context, out *output) (doc any, err error) {
	targets, err := o.Host.oneTarget(out, "pubsub send", []string{o.Target}, addr.Options{})
	if err != nil {
		return nil, err
	}
	t := targets[0]
	find, err := o.Sources.finder(out, &o.Host, targets)
	if err != nil {
		return nil, err
	}
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return nil, err
	}
	defer closing(&err, o.Host.used(out, n))
	d := sendDoc{Peer: &t.ID, Acknowledged: new(int)}
	if err := find.complete(ctx, n, &t); err != nil {
		return d, err
	}
	out.status("connecting with %s", t.ID)
	reached, err := dial.Do(ctx, n, t.ID, t.Addrs, dial.Config{On: func(e dial.Event) { tellDial(out, t, e, false) }})
	d.Path, d.Addr = reached.Path, reached.Addr
	if err != nil {
		return d, err
	}
	most := o.MaxMessage
	if most == 0 {
		most = letter.DefaultMax
	}
	err = o.Payload.each(out, most, func(data []byte) error {
		out.status("waiting for %s to take %d bytes", t.ID, len(data))
		d.Sent++
		r, err := letter.Do(ctx, n, t.ID, data, letter.Config{Max: most})
		d.Path, d.Addr = r.Path, r.Addr
		if r.Path != nil {
			out.event("sent", r)
		}
		if err != nil {
			return err
		}
		*d.Acknowledged++
		d.Bytes += len(data)
		return nil
	})
	return d, err
}

func (d sendDoc) quiet() string { return "" }

func (d sendDoc) renderText(t *text) {
	switch {
	case d.Sent > 0 && d.Acknowledged == nil:
		t.line("sent %d  %s  to %s", d.Sent, sizeText(uint64(d.Bytes)), *d.Address)
	case d.Sent > 0:
		t.line("%s", fmt.Sprintf("acknowledged %d of %d  %s  %s by %s", *d.Acknowledged, d.Sent, sizeText(uint64(d.Bytes)), *d.Peer, orDash(d.Path)))
	}
}
