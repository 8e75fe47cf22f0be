package commands

import (
	"context"
	"io"
	"math"

	"dibber/netkit/logstore"

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
	var doc catDoc
	var w io.Writer
	if !out.e.shared.JSON && !out.e.shared.NDJSON {
		var err error
		if w, err = out.stdout(); err != nil {
			return nil, err
		}
	}
	err := o.Store.with(out.e, func(s *logstore.Store) (err error) {
		v, err := s.View()
		if err != nil {
			return err
		}
		defer closing(&err, v.Close)
		h, err := findLog(v, o.Name)
		if err != nil {
			return err
		}
		d := describeLog(h)
		doc.Log = &d
		return v.Run(h.Author, h.Log, o.From, o.To, func(r logstore.Record) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			doc.Entries++
			doc.Bytes += r.PayloadSize
			ev := entryEvent{Author: r.Author.String(), Log: r.Log, Seq: r.Seq, ID: r.ID.String(), TimeMS: r.Time, Bytes: r.PayloadSize}
			if r.Payload != nil {
				ev.Data = &r.Payload
			}
			out.event("entry", ev)
			if w == nil {
				return nil
			}
			return o.print(w, s, &r)
		})
	})
	if doc.Log == nil {
		return nil, err
	}
	return doc, err
}

// print writes one payload.
func (o *logOptions) print(w io.Writer, s *logstore.Store, r *logstore.Record) error {
	payload := r.Payload
	if payload == nil {
		if err := s.ReadPayload(w, r.PayloadHash); err != nil {
			return err
		}
	}
	if !o.Raw {
		payload = append(payload, '\n')
	}
	_, err := w.Write(payload)
	return err
}
