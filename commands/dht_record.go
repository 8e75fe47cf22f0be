package commands

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"dibber/netkit/host"
	"dibber/netkit/route"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// maxRecordInput bounds what dht put reads: no peer takes more than 8 KiB.
const maxRecordInput = 64 << 10

// putOptions are the flags of dht put.
type putOptions struct {
	dhtOptions
	TTL    time.Duration
	Seq    uint64
	Record bool
	File   string

	name, value string
	given       bool // the value is an argument
}

// recordDoc is what is known of a record.
type recordDoc struct {
	Key       string     `json:"key"`
	Kind      *string    `json:"kind"` // dibber, ipns or pk; null: not known
	Author    *peer.ID   `json:"author"`
	Seq       *uint64    `json:"seq"`        // null: a public key has none
	Expires   *time.Time `json:"expires"`    // null: it does not
	ValueB64  *[]byte    `json:"value_b64"`  // null: there is none
	Value     *string    `json:"value"`      // the same as text; null: it is none
	RecordB64 *[]byte    `json:"record_b64"` // as peers keep it
}

// of fills in a record.
func (d *recordDoc) of(key string, signed []byte) error {
	i, err := route.Describe(key, signed)
	if err != nil {
		return err
	}
	d.Key, d.Kind, d.Author, d.Seq, d.Expires = route.KeyText(key), &i.Kind, &i.Author, i.Seq, i.Expires
	d.ValueB64, d.RecordB64 = &i.Value, &signed
	if utf8.Valid(i.Value) {
		d.Value = new(string(i.Value))
	}
	return nil
}

// putDoc is the document of dht put.
type putDoc struct {
	recordDoc
	route.Kept
	lookupDoc
}

func newDHTPut(*env) spec {
	o := new(putOptions)
	own := []cli.Flag{
		&cli.DurationFlag{Name: "ttl", Value: 24 * time.Hour, Usage: "let the record expire after `DURATION`", Destination: &o.TTL},
		&cli.Uint64Flag{Name: "seq", Usage: "give the record the number `N`, of which the highest counts; 0 takes the time in seconds", Destination: &o.Seq},
		&cli.BoolFlag{Name: "record", Usage: "the value is a record that is signed already", Destination: &o.Record},
		&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "read the value from `FILE`", Destination: &o.File},
	}
	return dhtVerb(&o.dhtOptions, spec{
		name: "put", usage: "sign a record and have the closest peers keep it", args: "<name|key> [value|-]",
		about: `A NAME becomes /dibber/AUTHOR/NAME, where AUTHOR is the peer id of --identity, whose key signs the record. Nobody else can
put a record there. /ipns/PEERID takes a path such as /ipfs/CID, /pk/PEERID no value; networks of IPFS take only
these two. Peers check each record, keep the one with the highest number, and drop it when it expires or after two
days: put it again before.`,
		examples: []string{
			"dibber dht put motd 'hello' --identity me.key --bootstrap @hub --peers @peers.txt",
			"dibber dht put motd --file motd.txt --ttl 1h --identity me.key --bootstrap @hub --peers @peers.txt --trace",
			"dibber dht put /ipns/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm /ipfs/bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e --identity me.key --public",
		},
		flags: dhtFlags(&o.dhtOptions, own...), options: o, doc: putDoc{}, lends: o.lends("record"),
		validate: o.validatePut,
		run:      o.put,
	})
}

func (o *putOptions) validatePut(args []string) error {
	want := min(max(len(args), 1), 2)
	if err := o.validate("put", args, want, "a name or key and a value"); err != nil {
		return err
	}
	o.name, o.given = args[0], len(args) == 2
	if o.given {
		o.value = args[1]
	}
	switch {
	case o.Host.Identity == "" && !o.Record:
		return &failure{
			Exit: exitUsage, Err: errors.New("dht put needs --identity: its key signs the record"),
			Hint: "--identity FILE makes one if it is missing; with --identity ephemeral nobody can ever replace the record",
		}
	case o.given && o.File != "":
		return usagef("--file and a value exclude each other")
	case !o.given && o.File == "" && !strings.HasPrefix(o.name, "/pk/"):
		return usagef("dht put needs a value, or --file")
	case (o.given || o.File != "") && strings.HasPrefix(o.name, "/pk/") && !o.Record:
		return usagef("a record under /pk is the key of --identity: it takes no value")
	case o.TTL < time.Second:
		return usagef("--ttl: %s is less than 1s", o.TTL)
	case o.Record && !strings.HasPrefix(o.name, "/"):
		return usagef("--record needs the whole key: %q is a name", o.name)
	}
	if strings.HasPrefix(o.name, "/") {
		_, err := route.ParseKey(o.name)
		return usage(err)
	}
	return usage(route.CheckName(o.name))
}

// input reads the value.
func (o *putOptions) input(out *output) ([]byte, error) {
	var from io.Reader = strings.NewReader(o.value)
	switch {
	case o.File != "" && o.File != "-":
		f, err := os.Open(o.File)
		if err != nil {
			return nil, usagef("--file: %w", err)
		}
		defer f.Close()
		from = f
	case o.File == "-" || o.given && o.value == "-":
		from = out.stdin()
	}
	b, err := io.ReadAll(io.LimitReader(from, maxRecordInput+1))
	if err != nil {
		return nil, fmt.Errorf("read value: %w", err)
	}
	if len(b) > maxRecordInput {
		return nil, usagef("the value is longer than %s", sizeText(maxRecordInput))
	}
	return b, nil
}

func (o *putOptions) put(ctx context.Context, out *output) (any, error) {
	doc := &putDoc{lookupDoc: o.lookupDoc()}
	value, err := o.input(out)
	if err != nil {
		return nil, err
	}
	err = o.taking(ctx, out, func(n *host.Node, r *route.Service) error {
		key, signed, err := o.sign(n, value)
		if err != nil {
			return err
		}
		doc.Key = route.KeyText(key)
		if err := doc.of(key, signed); err != nil {
			return err
		}
		kept, l, err := r.Put(ctx, key, signed, o.on(out))
		doc.looked(&o.dhtOptions, l)
		doc.Kept = kept
		return err
	})
	return doc, err
}

// sign makes the record, or takes one that is signed already.
func (o *putOptions) sign(n *host.Node, value []byte) (key string, signed []byte, err error) {
	if o.Record {
		key, err = route.ParseKey(o.name)
		return key, value, err
	}
	now := time.Now()
	d := route.Draft{Key: o.name, Value: value, Seq: o.Seq, Expires: now.Add(o.TTL).Truncate(time.Second)}
	if d.Seq == 0 {
		d.Seq = uint64(now.Unix())
	}
	return d.Sign(n.Peerstore().PrivKey(n.ID()))
}

// getOptions are the flags of dht get.
type getOptions struct {
	dhtOptions
	Output string
	Raw    bool
}

// getDoc is the document of dht get.
type getDoc struct {
	recordDoc
	lookupDoc
}

func newDHTGet(*env) spec {
	o := new(getOptions)
	var text, key string
	own := []cli.Flag{
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the value to `FILE`, or - for stdout", Destination: &o.Output},
		&cli.BoolFlag{Name: "record", Usage: "write the record as peers keep it, with its signature", Destination: &o.Raw},
	}
	return dhtVerb(&o.dhtOptions, spec{
		name: "get", usage: "find a record and check it", args: "<key>",
		about: "All of the peers closest to the key are asked, and the record with the highest number counts. Those that are forged or expired are dropped.",
		examples: []string{
			"dibber dht get /dibber/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm/motd --bootstrap @hub --peers @peers.txt",
			"dibber dht get /dibber/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm/motd -o motd.txt --bootstrap @hub --peers @peers.txt",
			"dibber dht get /ipns/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm --public --trace --json",
		},
		flags: dhtFlags(&o.dhtOptions, own...), options: o, doc: getDoc{}, lends: o.lends("record"),
		validate: func(args []string) (err error) {
			if err := o.validate("get", args, 1, "a key, as /dibber/AUTHOR/NAME"); err != nil {
				return err
			}
			if o.Raw && o.Output == "" {
				return usagef("--record needs --output")
			}
			text = args[0]
			key, err = route.ParseKey(text)
			return usage(err)
		},
		run: func(ctx context.Context, out *output) (any, error) {
			doc := getDoc{recordDoc: recordDoc{Key: text}, lookupDoc: o.lookupDoc()}
			write, err := o.writer(out)
			if err != nil {
				return nil, err
			}
			return &doc, o.taking(ctx, out, func(_ *host.Node, r *route.Service) error {
				signed, l, err := r.Get(ctx, key, o.on(out))
				doc.looked(&o.dhtOptions, l)
				if err != nil {
					return err
				}
				if err := doc.of(key, signed); err != nil {
					return err
				}
				if o.Raw {
					return write(signed)
				}
				return write(*doc.ValueB64)
			})
		},
	})
}

// writer is where the value goes; nowhere but into the document without --output.
func (o *getOptions) writer(out *output) (func([]byte) error, error) {
	switch o.Output {
	case "":
		return func([]byte) error { return nil }, nil
	case "-":
		w, err := out.stdout()
		return func(b []byte) error {
			_, err := io.Copy(w, bytes.NewReader(b))
			return err
		}, err
	}
	return func(b []byte) error { return os.WriteFile(o.Output, b, 0o644) }, nil
}
