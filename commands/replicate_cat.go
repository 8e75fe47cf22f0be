package commands

import (
	"context"
	"io"
	"math"

	"dibber/netkit/bamboo"

	"github.com/urfave/cli/v2"
)

// entryEvent is one entry of a log.
type entryEvent struct {
	Author string  `json:"author"`
	Log    uint64  `json:"log"`
	Seq    uint64  `json:"seq"`
	ID     string  `json:"id"`
	TimeMS uint64  `json:"time_ms"` // since 1970, as its sender said
	Bytes  uint64  `json:"bytes"`
	Data   *[]byte `json:"payload_b64"` // null for one of more than 16 KiB
}

// catDoc says what was read.
type catDoc struct {
	Log     *logDoc `json:"log"`
	Entries int     `json:"entries"`
	Bytes   uint64  `json:"bytes"`
}

func newLogCat() spec {
	var o logOptions
	return spec{
		name: "cat", usage: "print the payloads of a log", args: "NAME|AUTHOR/NUMBER",
		about:    "Each payload is compared with its hash and ends with a line break. With --ndjson each entry is an event.",
		examples: []string{"dibber replicate log cat notes", "dibber replicate log cat notes --from 10 --to 20 --ndjson", "dibber replicate log cat notes --from 3 --to 3 --raw"},
		flags: append([]cli.Flag{
			&cli.Uint64Flag{Name: "from", Usage: "begin with entry `N`", Value: 1, Destination: &o.From},
			&cli.Uint64Flag{Name: "to", Usage: "end with entry `N`; 0 means the last one", Destination: &o.To},
			&cli.BoolFlag{Name: "raw", Usage: "print the payloads as they are, without line breaks", Destination: &o.Raw},
		}, storeFlags(&o.Store)...),
		options: &o, doc: catDoc{}, events: []event{{"entry", entryEvent{}}},
		validate: func(args []string) error {
			if len(args) != 1 {
				return usagef("replicate log cat needs one NAME or AUTHOR/NUMBER")
			}
			if o.To == 0 {
				o.To = math.MaxUint64
			}
			o.Name = args[0]
			return nil
		},
		run: func(ctx context.Context, out *output) (any, error) { return o.cat(ctx, out) },
	}
}

func (o *logOptions) cat(ctx context.Context, out *output) (any, error) {
	p := &entryPrinter{out: out, raw: o.Raw}
	if err := p.begin(); err != nil {
		return nil, err
	}
	err := o.Store.book(ctx, out, func(b logbook) error {
		return p.print(ctx, b, entryQuery{Name: o.Name, From: o.From, To: o.To, Last: math.MaxUint64})
	})
	return p.result(err)
}

// entryPrinter prints entries, and what was read at the end.
type entryPrinter struct {
	out *output
	raw bool
	w   io.Writer // nil with --json and --ndjson
	doc catDoc
}

func (p *entryPrinter) begin() (err error) {
	if !p.out.e.shared.JSON && !p.out.e.shared.NDJSON {
		p.w, err = p.out.stdout()
	}
	return err
}

// result is the document, if there is anything to tell.
func (p *entryPrinter) result(err error) (any, error) {
	if p.doc.Log == nil {
		return nil, err
	}
	return p.doc, err
}

// print prints entries as they come.
func (p *entryPrinter) print(ctx context.Context, b logbook, q entryQuery) error {
	return b.read(ctx, q, func(d logDoc) error {
		p.doc.Log = &d
		return nil
	}, func(l entryLine) error { return p.entry(ctx, b, &l) })
}

func (p *entryPrinter) entry(ctx context.Context, b logbook, l *entryLine) error {
	p.out.event("entry", l.entryEvent)
	if p.w != nil {
		if err := p.payload(ctx, b, l); err != nil {
			return err
		}
	}
	p.doc.Entries++
	p.doc.Bytes += l.Bytes
	return nil
}

// payload prints one payload.
func (p *entryPrinter) payload(ctx context.Context, b logbook, l *entryLine) error {
	var data []byte
	if l.Data != nil {
		data = *l.Data
	} else {
		hash, err := bamboo.ParseHash(l.Payload)
		if err == nil {
			err = b.payload(ctx, hash, p.w)
		}
		if err != nil {
			return err
		}
	}
	if !p.raw {
		data = append(data, '\n')
	}
	_, err := p.w.Write(data)
	return err
}
