package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dibber/netkit/blocks"

	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"
)

// blockGetOptions are the flags and arguments of block get.
type blockGetOptions struct {
	Host    hostOptions
	Sources sourceOptions
	Store   storeOptions
	From    fromOptions
	Out     string // empty: into the store alone
	One     bool
	CID     cid.Cid
}

func (o *blockGetOptions) peers() *blockPeers { return &blockPeers{o.From, &o.Host, &o.Sources} }

// blockGetDoc is the document of block get.
type blockGetDoc struct {
	CID *string `json:"cid"` // null: not read
	blocks.Got
	File   *string     `json:"file"` // null: into the store alone
	Size   *int64      `json:"size"` // bytes of the file; null without one
	Peers  []blockPeer `json:"peers"`
	TookMS float64     `json:"took_ms"`
}

func newBlockGet(*env) spec {
	var o blockGetOptions
	return spec{
		name: "get", usage: "get a block and all below it from peers", args: "<cid>",
		about: `Blocks come from every --peer at once, or from those found by --rendezvous, --mdns or --dht, or else from the peers of a node that
runs with serve --blocks and owns the store; that node is also what asks a --peer, but where -o writes a file at once. Each is compared with its hash before it is kept. They are kept in the store, so that
what was interrupted goes on where it ended; with -o the file is put together under another name and then renamed.`,
		examples: []string{
			"dibber block get " + exampleCID + " -o notes.txt --peer /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm",
			"dibber block get " + exampleCID + " --peer @home,@work --peers @peers.txt --trace",
			"dibber block get " + exampleCID + " -o - --rendezvous @point --namespace notes --peers @peers.txt",
		},
		flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "put the file together in `FILE`, or on stdout as -", Destination: &o.Out},
			&cli.BoolFlag{Name: "one", Usage: "get the one block, not what it refers to", Destination: &o.One},
			ownHostFlag(&o.Host.OwnHost),
			blockStoreFlag(&o.Store.Dir), adminFlag(&o.Host),
		}, blockPeerFlags(&o.From, &o.Sources, &o.Host)),
		lends:   o.peers().lends("one"),
		options: &o, doc: blockGetDoc{},
		events: append(reachEvents(), event{"path.changed", pathLine{}}, event{"message", blockMessage{}}, event{"progress", blocks.Progress{}}),
		validate: func(args []string) (err error) {
			switch {
			case len(args) != 1:
				return usagef("block get takes one CID, but got %d", len(args))
			case o.One && o.Out != "" && o.Out != "-" && strings.HasSuffix(o.Out, string(filepath.Separator)):
				return usagef("-o %s: that is a folder", o.Out)
			}
			if o.CID, err = parseCID(args[0]); err != nil {
				return err
			}
			return o.peers().validate()
		},
		run: func(ctx context.Context, out *output) (any, error) { return o.run(ctx, out) },
	}
}

func (o *blockGetOptions) run(ctx context.Context, out *output) (doc any, err error) {
	started := time.Now()
	d := blockGetDoc{CID: new(o.CID.String()), Peers: []blockPeer{}}
	var to io.Writer
	if o.Out == "-" {
		if to, err = out.stdout(); err != nil {
			return nil, err
		}
	}
	k, err := (&blockStoreOptions{Dir: o.Store.Dir, Host: &o.Host}).open(ctx, out)
	if err != nil {
		return nil, err
	}
	defer closing(&err, k.close)
	var x *exchange
	cfg := blocks.GetConfig{One: o.One, On: o.progress(out)}
	switch {
	case o.peers().named():
		cfg.Fetch = func(ctx context.Context) (f blocks.Fetcher, err error) {
			if x, err = o.peers().open(ctx, out, k, o.CID); err != nil {
				return nil, err
			}
			return o.firstAsked(ctx, x)
		}
		cfg.Stalled = func(ctx context.Context, list []cid.Cid) error { return x.s.Missing(ctx, list) }
	case k.owner != nil && !o.Host.OwnHost:
		cfg.Fetch = func(context.Context) (blocks.Fetcher, error) { return k.owner, nil }
	}
	d.Got, err = blocks.Get(ctx, k, o.CID, cfg)
	if missing := new(blocks.NotFoundError); cfg.Fetch == nil && errors.As(err, &missing) {
		err = fmt.Errorf("%w: %w", err, blocks.ErrNoPeers)
	}
	if x != nil {
		d.Peers = x.list()
		err = errors.Join(err, x.close())
	}
	d.TookMS = millis(time.Since(started))
	if err = errors.Join(err, k.sync(context.WithoutCancel(ctx))); err != nil {
		return d, err
	}
	err = o.write(ctx, k, to, &d)
	d.TookMS = millis(time.Since(started))
	return d, err
}

// firstAsked asks every peer for the root before anything is fetched: when all lack it that is known at once.
func (o *blockGetOptions) firstAsked(ctx context.Context, x *exchange) (blocks.Fetcher, error) {
	x.out.status("asking for %s", o.CID)
	if err := x.s.Missing(ctx, []cid.Cid{o.CID}); err != nil {
		return nil, err
	}
	return x.s.Session(ctx), nil
}

// progress tells how far it has come.
func (o *blockGetOptions) progress(out *output) func(blocks.Progress) {
	b := newBar(out, o.CID.String())
	return func(p blocks.Progress) {
		if !b.due() {
			return
		}
		out.event("progress", p)
		all := int64(0)
		if p.Total != nil {
			all = *p.Total
		}
		b.draw(p.Fetched.Bytes+p.Local.Bytes, all)
	}
}

// write puts the file together: on stdout, or in a new file that then takes the name.
func (o *blockGetOptions) write(ctx context.Context, k *keeper, to io.Writer, d *blockGetDoc) error {
	if o.Out == "" {
		return nil
	}
	if to != nil {
		n, err := o.copyTo(ctx, k, to)
		d.Size = &n
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(o.Out), ".block-*")
	if err != nil {
		return err
	}
	n, err := o.copyTo(ctx, k, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), o.Out)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d.File, d.Size = &o.Out, &n
	return nil
}

// copyTo writes the file, or the one block as it is.
func (o *blockGetOptions) copyTo(ctx context.Context, k *keeper, to io.Writer) (int64, error) {
	if !o.One {
		return blocks.WriteFile(ctx, to, k, o.CID)
	}
	b, err := k.Get(ctx, o.CID)
	if err != nil {
		return 0, err
	}
	n, err := to.Write(b.RawData())
	return int64(n), err
}

func (d blockGetDoc) quiet() string {
	if d.CID == nil {
		return ""
	}
	return *d.CID
}

func (d blockGetDoc) renderText(t *text) {
	if d.Fetched.Blocks+d.Local.Blocks == 0 {
		return
	}
	rate := ""
	if d.TookMS > 0 && d.Fetched.Bytes > 0 {
		rate = fmt.Sprintf("  %s/s", sizeText(uint64(float64(d.Fetched.Bytes)/d.TookMS*1000)))
	}
	t.line("fetched %d blocks (%s), %d were here (%s) in %.1f s%s", d.Fetched.Blocks, sizeText(uint64(d.Fetched.Bytes)), d.Local.Blocks, sizeText(uint64(d.Local.Bytes)), d.TookMS/1000, rate)
	for _, p := range d.Peers {
		path := "none"
		if p.Path != nil {
			path = *p.Path
		}
		t.line("from %s  path %s  blocks %d (%s)", p.Peer, path, p.Received.Block, sizeText(uint64(p.Bytes)))
	}
	if d.Repaired > 0 {
		t.line("mended %d blocks of the store", d.Repaired)
	}
	if d.File != nil {
		t.line("wrote %s  %s", *d.File, sizeText(uint64(*d.Size)))
	}
}
