package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/boxo/blockstore"
	chunker "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"
)

// DefaultChunk is the size in bytes of the pieces that a file is cut into.
const DefaultChunk = 256 << 10

// AddConfig says how bytes become blocks. The zero value cuts a file as ipfs add --cid-version=1 does.
type AddConfig struct {
	// Raw makes one block of all, whose CID is of the bytes as they are.
	Raw bool
	// Chunk is the size in bytes of a piece; 0 means [DefaultChunk]. At most [MaxBlock].
	Chunk int
	// On is told how many bytes have been taken; nil tells nobody.
	On func(bytes int64)
}

// Added is what became of a file.
type Added struct {
	CID    cid.Cid
	Size   int64 // bytes of the file
	Blocks int   // with those that were there before
	Bytes  int64 // of the blocks
}

// Add puts a file into a store: cut into pieces, in a balanced tree of at most 174 links a node (UnixFS), or as one raw block, which
// fails with an [OversizeError] where it is larger than [MaxBlock].
func Add(ctx context.Context, st blockstore.Blockstore, r io.Reader, cfg AddConfig) (a Added, err error) {
	if cfg.Chunk == 0 {
		cfg.Chunk = DefaultChunk
	}
	if cfg.Chunk < 0 || cfg.Chunk > MaxBlock {
		return a, &OversizeError{Size: cfg.Chunk}
	}
	in := &counted{r: r, on: cfg.On}
	to := &adder{st: st}
	if cfg.Raw {
		a.CID, err = addRaw(ctx, to, in)
	} else {
		a.CID, err = addFile(ctx, to, in, int64(cfg.Chunk))
	}
	if err == nil {
		err = to.flush(ctx)
	}
	if err != nil {
		return a, fmt.Errorf("put blocks: %w", err)
	}
	a.Size, a.Blocks, a.Bytes = in.n, to.blocks, to.bytes
	return a, nil
}

func addRaw(ctx context.Context, to *adder, r io.Reader) (cid.Cid, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxBlock+1))
	if err != nil {
		return cid.Undef, err
	}
	if len(data) > MaxBlock {
		return cid.Undef, &OversizeError{Size: len(data)}
	}
	c, err := cid.NewPrefixV1(cid.Raw, multihash.SHA2_256).Sum(data)
	if err != nil {
		return c, err
	}
	b, err := block.NewBlockWithCid(data, c)
	if err != nil {
		return c, err
	}
	return c, to.put(ctx, b)
}

func addFile(ctx context.Context, to *adder, r io.Reader, size int64) (cid.Cid, error) {
	params := helpers.DagBuilderParams{Maxlinks: helpers.DefaultLinksPerBlock, RawLeaves: true, CidBuilder: merkledag.V1CidPrefix(), Dagserv: &dagAdder{adder: to, ctx: ctx}}
	builder, err := params.New(chunker.NewSizeSplitter(r, size))
	if err != nil {
		return cid.Undef, err
	}
	root, err := balanced.Layout(builder)
	if err != nil {
		return cid.Undef, err
	}
	return root.Cid(), nil
}

// counted counts what is read.
type counted struct {
	r  io.Reader
	n  int64
	on func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.on != nil && n > 0 {
		c.on(c.n)
	}
	return n, err
}

// adder puts blocks into a store, some at once.
type adder struct {
	st     blockstore.Blockstore
	room   []block.Block
	held   int // bytes of room
	blocks int
	bytes  int64
}

// roomBytes is how many bytes of blocks are put at once.
const roomBytes = 4 << 20

func (a *adder) put(ctx context.Context, b block.Block) error {
	a.room = append(a.room, b)
	a.held += len(b.RawData())
	a.blocks++
	a.bytes += int64(len(b.RawData()))
	if a.held < roomBytes {
		return nil
	}
	return a.flush(ctx)
}

func (a *adder) flush(ctx context.Context) error {
	err := errors.Join(ctx.Err(), a.st.PutMany(ctx, a.room))
	a.room, a.held = nil, 0
	return err
}

// dagAdder is as much of a DAG service as the builder of trees needs.
type dagAdder struct {
	ipld.DAGService
	*adder
	ctx context.Context //nolint:containedctx // the builder hands over none of its own
}

func (d *dagAdder) Add(_ context.Context, n ipld.Node) error { return d.put(d.ctx, n) }
