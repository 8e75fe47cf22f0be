package commands

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dibber/netkit/gossip"
	"dibber/netkit/ping"

	"github.com/urfave/cli/v2"
)

// payloadOptions say what is sent.
type payloadOptions struct {
	Texts []string // arguments; "-" is standard input, a message a line
	Files []string
	B64   bool
}

func payloadFlags(o *payloadOptions) []cli.Flag {
	return []cli.Flag{
		listFlag("", "file", "send the content of `FILE` as one message, - for all of stdin (repeatable)", &o.Files),
		&cli.BoolFlag{Name: "b64", Usage: "arguments and lines are base64 of what is to be sent", Destination: &o.B64},
	}
}

// streams reports whether messages come for as long as standard input lasts.
func (o *payloadOptions) streams() bool { return slices.Contains(o.Texts, "-") }

func (o *payloadOptions) validate(command string) error {
	switch {
	case len(o.Texts) == 0 && len(o.Files) == 0:
		return usagef("%s needs a text, - for the lines of stdin, or --file", command)
	case len(o.Texts) > 1:
		return usagef("%s takes one text, but got %d: quote it, or send lines by -", command, len(o.Texts))
	case o.streams() && slices.Contains(o.Files, "-"):
		return usagef("stdin cannot be both lines and a file")
	case o.B64 && len(o.Texts) == 0:
		return usagef("--b64 is for a text or for the lines of stdin; files are sent as they are")
	}
	if o.B64 && !o.streams() {
		_, err := decode64([]byte(o.Texts[0]))
		return err
	}
	return nil
}

// decode64 reads base64, standard or for URLs, with padding or without.
func decode64(text []byte) ([]byte, error) {
	text = bytes.TrimRight(text, "=")
	enc := base64.RawStdEncoding
	if bytes.ContainsAny(text, "-_") {
		enc = base64.RawURLEncoding
	}
	out := make([]byte, enc.DecodedLen(len(text)))
	n, err := enc.Decode(out, text)
	if err != nil {
		return nil, usagef("--b64: %q is no base64", shorten(string(text)))
	}
	return out[:n], nil
}

// shorten keeps a message about a long text readable.
func shorten(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

// each calls send for every message, as they come. No message is read further than most bytes.
func (o *payloadOptions) each(out *output, most int, send func(data []byte) error) error {
	for _, name := range o.Files {
		data, err := readWhole(out, name, most)
		if err == nil {
			err = send(data)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, text := range o.Texts {
		if text == "-" {
			return o.lines(out.stdin(), most, send)
		}
		data := []byte(text)
		if o.B64 {
			var err error
			if data, err = decode64(data); err != nil {
				return err
			}
		}
		if err := send(data); err != nil {
			return err
		}
	}
	return nil
}

// readWhole reads a file, or standard input, as far as it matters whether it is too long.
func readWhole(out *output, name string, most int) ([]byte, error) {
	src := out.stdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		src = f
	}
	return io.ReadAll(io.LimitReader(src, int64(most)+1))
}

// lines sends each line of src without its end.
func (o *payloadOptions) lines(src io.Reader, most int, send func(data []byte) error) error {
	long := most + 1
	if o.B64 {
		long = base64.StdEncoding.EncodedLen(most) + 4
	}
	lines := bufio.NewReader(src)
	for number := 1; ; number++ {
		line, err := readLine(lines, long)
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("stdin: %w", err)
		}
		data, failed := line, error(nil)
		if o.B64 {
			data, failed = decode64(line)
		}
		if failed == nil {
			failed = send(data)
		}
		if failed != nil {
			return fmt.Errorf("line %d: %w", number, failed)
		}
		if err != nil {
			return nil // the last one had no end
		}
	}
}

// readLine reads a line, or as much of it as long bytes.
func readLine(src *bufio.Reader, long int) (line []byte, err error) {
	for len(line) < long {
		part, err := src.ReadSlice('\n')
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		return bytes.TrimSuffix(line, []byte("\n")), err
	}
	return line, nil
}

// pubOptions are the flags and arguments of pubsub pub.
type pubOptions struct {
	Host    hostOptions
	Sources sourceOptions
	Chain   chainOptions
	Gossip  gossipOptions
	Payload payloadOptions
	Topic   string
	Min     int
	Wait    time.Duration
}

// publishedLine is a message that is on its way.
type publishedLine struct {
	Topic  string   `json:"topic"`
	Seq    *uint64  `json:"seq"`
	Bytes  int      `json:"bytes"`
	Peers  []string `json:"peers"`  // neighbours that it is sent to
	Missed []string `json:"missed"` // neighbours whose queue was full
}

// pubDoc is the document of pubsub pub.
type pubDoc struct {
	Topic     string          `json:"topic"`
	Published int             `json:"published"`
	Bytes     int             `json:"bytes"` // of payload
	Peers     []string        `json:"peers"` // neighbours that anything was sent to
	Missed    int             `json:"missed"`
	Drained   *gossip.Drained `json:"drained"` // what the neighbours did with it; null: it did not come to that, or a running node sends it
	Members   []gossip.Member `json:"members"` // neighbours on the topic, at the end
}

// published adds a message of so many bytes to the document, and tells of it.
func (d *pubDoc) published(out *output, r gossip.Receipt, size int) {
	to := peerNames(r.Peers)
	d.Peers = slices.Compact(slices.Sorted(slices.Values(append(d.Peers, to...))))
	d.Published++
	d.Bytes += size
	d.Missed += len(r.Missed)
	out.event("published", publishedLine{Topic: d.Topic, Seq: r.Seq, Bytes: size, Peers: to, Missed: peerNames(r.Missed)})
}

func newPubsubPub(e *env) spec {
	o := pubOptions{Min: 1, Wait: 10 * time.Second}
	flags := slices.Concat(payloadFlags(&o.Payload), []cli.Flag{
		&cli.IntFlag{Name: "min", Value: o.Min, Usage: "wait until `N` neighbours are subscribed", Destination: &o.Min},
		&cli.DurationFlag{Name: "wait", Value: o.Wait, Usage: "wait for them for `DURATION`", Destination: &o.Wait},
	}, o.meeting().flags(), chainFlags(&o.Chain))
	return spec{
		name: "pub", usage: "send messages to all who subscribe to a topic", args: "<topic> <text>|-",
		about: `The text is one message; with - each line of stdin is one, sent as it comes, without its end. Bytes are sent as they are. It
connects with each --peer and with those found, waits up to --wait until one of them is subscribed, sends, and ends when the neighbours
have read everything. That they pass it on is up to them. Where serve --pubsub runs on the state folder the message is its own, to its
neighbours, and --peer is not needed.

With --profile the topic is one of a ParallelChain, and each message what belongs there, encoded as borsh; what is not is refused.`,
		examples: []string{
			"dibber pubsub pub news 'hello' --peer /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm",
			"dibber pubsub pub news - --peer @home --peers @peers.txt",
			"dibber pubsub pub mempool --file transaction --profile pchain-0.4 --boot 6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw@127.0.0.1:25519",
		},
		flags: flags, lends: o.lends(),
		options: &o, doc: pubDoc{}, events: append(append(reachingEvents(), event{"published", publishedLine{}}), chainEvents(false)...), timeout: time.Minute,
		extra: func() time.Duration {
			if o.Payload.streams() {
				return -1
			}
			return o.Wait
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

func (o *pubOptions) lends() *lends {
	l := o.meeting().lends("b64", "min", "wait")
	l.stdin = true
	return l
}

func (o *pubOptions) meeting() meeting { return meeting{&o.Gossip, &o.Host, &o.Sources} }

func (o *pubOptions) validate(e *env, flags []cli.Flag, args []string) error {
	if len(args) == 0 {
		return usagef("pubsub pub needs a topic and a text")
	}
	o.Topic, o.Payload.Texts = args[0], args[1:]
	switch {
	case o.Min < 1:
		return usagef("--min: %d is less than 1", o.Min)
	case o.Wait <= 0:
		return usagef("--wait: %s is no time", o.Wait)
	}
	if err := o.Chain.validateWith(e, flags, &o.Host, "file", "b64", "min", "wait"); err != nil {
		return err
	}
	if o.Chain.on() {
		return errors.Join(checkTopic(o.Topic), o.Chain.needPeers("pubsub pub", o.Gossip.Peers), o.Chain.checkTopic(o.Topic), o.Payload.validate("pubsub pub"))
	}
	return errors.Join(checkTopic(o.Topic), o.Payload.validate("pubsub pub"), o.meeting().validate())
}

// drainTime is how long the neighbours are given to read what was sent.
const drainTime = 5 * time.Second

// answerTime is how long those of them that say nothing have to answer a ping.
const answerTime = 2 * time.Second

func (o *pubOptions) run(ctx context.Context, out *output) (doc any, err error) {
	g, err := o.meeting().open(ctx, out, gossip.Config{})
	if err != nil {
		return nil, err
	}
	defer closing(&err, func() error { return g.close.close() })
	d := pubDoc{Topic: o.Topic}
	if err := g.reach(ctx, o.meeting()); err != nil {
		return d, err
	}
	topic, err := g.Join(o.Topic, gossip.TopicConfig{})
	if err != nil {
		return d, err
	}
	defer closing(&err, topic.Close)
	err = o.Payload.each(out, g.MaxPayload(o.Topic), func(data []byte) error {
		out.status("waiting for subscribers of %s", o.Topic)
		if err := g.awaitSubscribers(ctx, topic, o.Min, o.Wait); err != nil {
			return err
		}
		r, err := topic.Publish(ctx, data)
		if err != nil {
			return err
		}
		d.published(out, r, len(data))
		return nil
	})
	d.Members = g.Mesh(o.Topic).Members
	if d.Published > 0 && out.e.lent == nil { // a node that stays goes on sending
		out.status("waiting until it is read")
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		d.Drained = new(g.Drain(within))
		if err == nil && d.Drained.Silent > 0 && d.Drained.Confirmed == 0 {
			err = g.stillThere(within, d.Drained.Silent)
		}
	}
	return d, err
}

// stillThere tells neighbours that are at work but do not say that they have read everything, as those of js-libp2p, which leave a
// stream open when this node has closed its half, from those that have come to a halt, with which it fails.
func (g *gossiper) stillThere(ctx context.Context, silent int) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
	defer cancel()
	var alive atomic.Bool
	var all sync.WaitGroup
	for _, p := range g.Service.Peers() {
		all.Go(func() {
			if r, err := ping.Do(ctx, g.n, p.Peer, ping.Config{}); err == nil && r.Received > 0 {
				alive.Store(true)
			}
		})
	}
	all.Wait()
	if alive.Load() {
		g.out.warn("of %d neighbours none has said within %s that it read everything; they are connected and answer", silent, drainTime)
		return nil
	}
	return &failure{
		Exit: exitUnreachable, Code: "no_answer", Phase: "pubsub", Retryable: true,
		Err: fmt.Errorf("none of %d neighbours confirmed within %s that it read everything", silent, drainTime),
	}
}

func (d pubDoc) quiet() string { return "" }

func (d pubDoc) renderText(t *text) {
	if d.Published == 0 {
		return
	}
	t.line("published %d  %s  to %d neighbours", d.Published, sizeText(uint64(d.Bytes)), len(d.Peers))
	if d.Missed > 0 {
		t.line("missed %d: queues of neighbours were full", d.Missed)
	}
}
