package commands

import (
	"context"
	"errors"
	"math"
	"time"

	"dibber/netkit/control"
	"dibber/netkit/logstore"
	"dibber/netkit/store"

	"github.com/urfave/cli/v2"
)

func newLogTail() spec {
	var o logOptions
	return spec{
		name: "tail", usage: "print the last payloads of a log, and those to come", args: "NAME|AUTHOR/NUMBER",
		about: `Without --follow it ends there. With it, payloads are printed as they are stored, by whatever process: log append, or what
came from peers to replicate run, serve --replicate and sync. It leaves the store to others while it waits, and waits for a log of
another author that is not here yet. Ctrl-C ends it.`,
		examples: []string{"dibber replicate log tail notes", "dibber replicate log tail notes --follow", "dibber replicate log tail notes -f -n 0 --ndjson"},
		flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with entries that come later", Destination: &o.Follow},
			&cli.Uint64Flag{Name: "entries", Aliases: []string{"n"}, Usage: "begin with the last `N` entries that are there", Value: 10, Destination: &o.Last},
			&cli.BoolFlag{Name: "raw", Usage: "print the payloads as they are, without line breaks", Destination: &o.Raw},
		}, storeFlags(&o.Store)...),
		options: &o, doc: catDoc{}, events: []event{{"entry", entryEvent{}}},
		longLived: func() bool { return o.Follow }, data: true,
		validate: func(args []string) error {
			if len(args) != 1 {
				return usagef("replicate log tail needs one NAME or AUTHOR/NUMBER")
			}
			o.Name = args[0]
			return nil
		},
		run: func(ctx context.Context, out *output) (any, error) { return o.tail(ctx, out) },
	}
}

const (
	// tailPoll is how often a store is looked at that nobody has open.
	tailPoll = 100 * time.Millisecond
	// tailRead is how often one is read whose guard does not tell whether something was written.
	tailRead = 2 * time.Second
)

func (o *logOptions) tail(ctx context.Context, out *output) (any, error) {
	p := &entryPrinter{out: out, raw: o.Raw}
	if err := p.begin(); err != nil {
		return nil, err
	}
	cfg, err := o.Store.config(out.e)
	if err != nil {
		return nil, err
	}
	t := &tail{o: o, cfg: cfg, p: p, q: entryQuery{Name: o.Name, From: 1, To: math.MaxUint64, Last: o.Last}}
	for {
		before, counted := logstore.Acknowledged(cfg)
		err := t.once(ctx, out)
		if err == nil && o.Follow {
			err = t.wait(ctx, before, counted)
		}
		switch {
		case o.Follow && ctx.Err() != nil: // whatever that looks like further down
			return p.result(ctx.Err())
		case err != nil || !o.Follow:
			return p.result(err)
		}
	}
}

// tail follows a log from process to process.
type tail struct {
	o   *logOptions
	cfg logstore.Config
	p   *entryPrinter
	q   entryQuery
}

// once prints what there is, and what comes as long as another process has the store open.
func (t *tail) once(ctx context.Context, out *output) error {
	err := t.o.Store.book(ctx, out, func(b logbook) error {
		q := t.q
		_, far := b.(*farBook)
		q.Follow = far && t.o.Follow
		return b.read(ctx, q, func(d logDoc) error {
			t.p.doc.Log = &d
			t.q.begin(d.Height)
			return nil
		}, func(l entryLine) error {
			t.q.From = l.Seq + 1
			return t.p.entry(ctx, b, &l)
		})
	})
	var locked *store.LockedError
	switch {
	case !t.o.Follow || ctx.Err() != nil:
		return err
	case errors.Is(err, errOwnerLost), errors.Is(err, control.ErrNotRunning), errors.As(err, &locked):
		return nil
	}
	q := t.q
	q.Follow = true
	if q.awaits(err) {
		t.q.Last = math.MaxUint64 // all of it is still to come
		return nil
	}
	return err
}

// wait returns when there may be something to read: another process has the store open, or had it and wrote.
func (t *tail) wait(ctx context.Context, before uint64, counted bool) error {
	tick := time.NewTicker(tailPoll)
	defer tick.Stop()
	started := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if ownerOf(ctx, t.cfg.Dir) != nil {
			return nil
		}
		now, ok := logstore.Acknowledged(t.cfg)
		if ok && counted && now != before || (!ok || !counted) && time.Since(started) >= tailRead {
			return nil
		}
	}
}
