package commands

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"dibber/netkit/blocks"

	"github.com/ipfs/go-cid"

	"github.com/urfave/cli/v2"
)

// blockPutOptions are the flags and arguments of block put.
type blockPutOptions struct {
	Host  hostOptions // of which only where a running node is
	Store storeOptions
	Raw   bool
	Chunk int
	Files []string
}

// putFile is a file that was put.
type putFile struct {
	File   string `json:"file"` // - is standard input
	CID    string `json:"cid"`
	Size   int64  `json:"size"`   // bytes of the file
	Blocks int    `json:"blocks"` // with those that were there before
	Bytes  int64  `json:"bytes"`  // of the blocks
	// Provided is how many peers of the hash table know now that the running node has it; null: no node with serve --dht, or nobody
	// there has taken it yet.
	Provided *int `json:"provided"`

	root cid.Cid
}

func (p putFile) line() string {
	return fmt.Sprintf("%s  %s", p.CID, p.File)
}

// blockPutDoc is the document of block put.
type blockPutDoc struct {
	Files []putFile `json:"files"`
	Store *string   `json:"store"` // null: that of a running node
}

func newBlockPut(*env) spec {
	var o blockPutOptions
	return spec{
		name: "put", usage: "put files into the store of blocks and print their CIDs", args: "<file>...",
		about: `A file, or standard input as -, is cut into blocks of 256 KiB, as ipfs add --cid-version=1 does; with --raw it is
one block, of 2 MiB at most. When the CIDs are printed everything is on disk. A node that runs with serve --blocks and owns the store
takes the blocks, and serves them at once.`,
		examples: []string{"dibber block put notes.txt", "dibber block put --raw - --json", "dibber block put photo.jpg notes.txt --store /srv/blocks"},
		flags: slices.Concat([]cli.Flag{
			&cli.BoolFlag{Name: "raw", Usage: "make one block of the bytes as they are", Destination: &o.Raw},
			&cli.IntFlag{Name: "chunk", Value: blocks.DefaultChunk, Usage: "cut into blocks of `N` bytes, 2097152 at most", Destination: &o.Chunk},
			blockStoreFlag(&o.Store.Dir), stateDirFlag(&o.Host), adminFlag(&o.Host),
		}),
		options: &o, doc: blockPutDoc{}, events: []event{{"put", putFile{}}},
		validate: func(args []string) error {
			o.Files = args
			switch {
			case len(args) == 0:
				return usagef("block put needs a file, or - for standard input")
			case o.Chunk < 1 || o.Chunk > blocks.MaxBlock:
				return usagef("--chunk: %d is not a number from 1 to %d", o.Chunk, blocks.MaxBlock)
			}
			return nil
		},
		run: func(ctx context.Context, out *output) (any, error) { return o.run(ctx, out) },
	}
}

func (o *blockPutOptions) run(ctx context.Context, out *output) (doc any, err error) {
	k, err := (&blockStoreOptions{Dir: o.Store.Dir, Host: &o.Host}).open(ctx, out)
	if err != nil {
		return nil, err
	}
	defer closing(&err, k.close)
	d := blockPutDoc{Files: []putFile{}}
	if k.owner == nil {
		dir, err := blockDir(out.e, o.Store.Dir, &o.Host)
		if err != nil {
			return nil, err
		}
		d.Store = &dir
	}
	for _, name := range o.Files {
		f, err := o.put(ctx, out, k, name)
		if err != nil {
			return d, err
		}
		d.Files = append(d.Files, f)
	}
	if err := k.sync(ctx); err != nil {
		return d, err
	}
	for i := range d.Files {
		f := &d.Files[i]
		if f.Provided, err = k.root(ctx, f.root); err != nil {
			return d, err
		}
		out.emit("put", *f, false)
	}
	return d, nil
}

func (o *blockPutOptions) put(ctx context.Context, out *output, k *keeper, name string) (f putFile, err error) {
	f.File = name
	in, size := out.stdin(), int64(0)
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return f, err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return f, err
		}
		if info.IsDir() {
			return f, usagef("%s is a folder: block put takes files", name)
		}
		in, size = file, info.Size()
	}
	bar := newBar(out, name)
	a, err := blocks.Add(ctx, k, in, blocks.AddConfig{Raw: o.Raw, Chunk: o.Chunk, On: func(n int64) { bar.show(n, size) }})
	f.root = a.CID
	f.CID, f.Size, f.Blocks, f.Bytes = a.CID.String(), a.Size, a.Blocks, a.Bytes
	return f, err
}

// bar is a progress line.
type bar struct {
	out   *output
	what  string
	began time.Time
	told  time.Time
}

func newBar(out *output, what string) *bar { return &bar{out: out, what: what, began: time.Now()} }

// due reports whether it is time to tell again.
func (b *bar) due() bool {
	if time.Since(b.told) < progressEvery {
		return false
	}
	b.told = time.Now()
	return true
}

// show draws the line; all is 0 where that is not known.
func (b *bar) show(done, all int64) {
	if b.due() {
		b.draw(done, all)
	}
}

func (b *bar) draw(done, all int64) {
	passed := max(time.Since(b.began).Seconds(), 0.001)
	rate := float64(done) / passed
	if all <= 0 {
		b.out.status("%s  %s  %s/s", b.what, sizeText(uint64(done)), sizeText(uint64(rate)))
		return
	}
	part := min(float64(done)/float64(all), 1)
	b.out.status("%s  %s %3.0f %%  %s of %s  %s/s  %.0f s left", b.what, barText(part), 100*part, sizeText(uint64(done)), sizeText(uint64(all)),
		sizeText(uint64(rate)), float64(all-min(done, all))/max(rate, 1))
}

func (d blockPutDoc) quiet() string {
	if len(d.Files) == 0 {
		return ""
	}
	return d.Files[len(d.Files)-1].CID
}

func (d blockPutDoc) renderText(t *text) {
	for _, f := range d.Files {
		t.line("%s", f.line())
	}
}
