package blocks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/boxo/blockstore"
	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
)

// GetConfig says what to get and how. The zero value gets all that hangs together below a CID, from the store alone.
type GetConfig struct {
	// One gets the one block, whatever it refers to.
	One bool
	// Fetch is asked for a fetcher when the first block is missing; nil takes from the store alone.
	Fetch func(context.Context) (Fetcher, error)
	// Stalled is asked whenever nothing has come for StallAfter, with the blocks that are waited for; its error ends the get.
	// Nil waits for as long as the context lets it.
	Stalled func(context.Context, []cid.Cid) error
	// StallAfter is how long without a block is a stall; 0 means 2 s.
	StallAfter time.Duration
	// Window is how many blocks are fetched at once; 0 means 64.
	Window int
	// On is told of progress, by one goroutine; nil tells nobody.
	On func(Progress)
}

// Amount counts blocks and their bytes.
type Amount struct {
	Blocks int   `json:"blocks"`
	Bytes  int64 `json:"bytes"`
}

func (a *Amount) add(bytes int) {
	a.Blocks++
	a.Bytes += int64(bytes)
}

// Progress is how far a get has come.
type Progress struct {
	Fetched Amount `json:"fetched"`
	Local   Amount `json:"local"`
	// Total is how many bytes the blocks have in all, as the root says, which nobody has verified; null when it says nothing.
	Total *int64 `json:"total_bytes"`
}

// Got is what a get came to.
type Got struct {
	Progress
	// Repaired is how many blocks of the store were not what their CIDs say, and were fetched again.
	Repaired int `json:"repaired"`
}

// CodecError is a block whose references cannot be read.
type CodecError struct{ CID cid.Cid }

func (e *CodecError) Error() string {
	return fmt.Sprintf("block %s has the codec 0x%x: what it refers to is not known, as it is none of dag-pb, dag-cbor and raw", e.CID, e.CID.Prefix().Codec)
}

// NotFoundError is a block that nobody has.
type NotFoundError struct {
	CID cid.Cid
	// Asked is how many peers said that they have it not.
	Asked int
}

func (e *NotFoundError) Error() string {
	if e.Asked == 0 {
		return fmt.Sprintf("block %s is not in the store", e.CID)
	}
	return fmt.Sprintf("block %s is with none of the peers: %d said DONT_HAVE", e.CID, e.Asked)
}

const (
	defaultWindow     = 64
	defaultStallAfter = 2 * time.Second
)

// Get brings a block, and all that it refers to, into a store. What is there is not fetched, so that a get goes on where the last one
// ended. The result counts what there was by then, also with an error: a [NotFoundError], a [CorruptError], a [CodecError], or those
// of Fetch, Stalled and ctx.
func Get(ctx context.Context, st blockstore.Blockstore, root cid.Cid, cfg GetConfig) (Got, error) {
	if cfg.Window == 0 {
		cfg.Window = defaultWindow
	}
	if cfg.StallAfter == 0 {
		cfg.StallAfter = defaultStallAfter
	}
	ctx, cancel := context.WithCancel(ctx)
	g := &getter{cfg: cfg, st: st, root: root, todo: []cid.Cid{root}, seen: make(map[cid.Cid]bool), open: make(map[cid.Cid]bool), came: make(chan Fetched)}
	defer g.running.Wait()
	defer cancel()
	err := g.run(ctx)
	return g.got, err
}

// getter is one run of Get.
type getter struct {
	cfg  GetConfig
	st   blockstore.Blockstore
	root cid.Cid
	from Fetcher // nil until the first block is missing

	todo []cid.Cid        // a stack: blocks come about in the order of the file
	seen map[cid.Cid]bool // what was on it
	open map[cid.Cid]bool // what is being fetched
	came chan Fetched
	got  Got

	running sync.WaitGroup
}

func (g *getter) run(ctx context.Context) error {
	stall := time.NewTimer(g.cfg.StallAfter)
	defer stall.Stop()
	for {
		if err := g.fill(ctx); err != nil {
			return err
		}
		if len(g.open) == 0 && len(g.todo) == 0 {
			return nil
		}
		select {
		case f := <-g.came:
			if f.Err != nil {
				return f.Err
			}
			stall.Reset(g.cfg.StallAfter)
			b := f.Block
			if !g.open[b.Cid()] {
				continue
			}
			delete(g.open, b.Cid())
			g.got.Fetched.add(len(b.RawData()))
			if err := g.take(b); err != nil {
				return err
			}
		case <-stall.C:
			if err := g.stalled(ctx); err != nil {
				return err
			}
			stall.Reset(g.cfg.StallAfter)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *getter) stalled(ctx context.Context) error {
	if g.cfg.Stalled == nil {
		return nil
	}
	var list []cid.Cid
	for c := range g.open {
		list = append(list, c)
	}
	return g.cfg.Stalled(ctx, list)
}

// fill takes what the store has, and asks for what it lacks as far as the window has room.
func (g *getter) fill(ctx context.Context) error {
	var batch []cid.Cid
	if len(g.open) > g.cfg.Window/2 {
		return nil // a few at once cost less than one by one
	}
	for len(g.todo) > 0 && len(g.open)+len(batch) < g.cfg.Window {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := g.todo[len(g.todo)-1]
		g.todo = g.todo[:len(g.todo)-1]
		if g.seen[c] {
			continue
		}
		g.seen[c] = true
		b, err := g.local(ctx, c)
		if err != nil {
			return err
		}
		if b == nil {
			batch = append(batch, c)
			continue
		}
		g.got.Local.add(len(b.RawData()))
		if err := g.take(b); err != nil {
			return err
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return g.fetch(ctx, batch)
}

// local takes a block from the store, nil when it has to be fetched.
func (g *getter) local(ctx context.Context, c cid.Cid) (block.Block, error) {
	b, err := g.st.Get(ctx, c)
	var corrupt *CorruptError
	switch {
	case err == nil:
		return b, nil
	case errors.As(err, &corrupt) && g.cfg.Fetch != nil:
		g.got.Repaired++
		return nil, g.st.DeleteBlock(ctx, c)
	case !ipld.IsNotFound(err):
		return nil, err
	case g.cfg.Fetch == nil:
		return nil, &NotFoundError{CID: c}
	}
	return nil, nil
}

func (g *getter) fetch(ctx context.Context, batch []cid.Cid) (err error) {
	if g.from == nil {
		if g.from, err = g.cfg.Fetch(ctx); err != nil {
			return err
		}
	}
	in, err := g.from.Fetch(ctx, batch)
	if err != nil {
		return fmt.Errorf("fetch blocks: %w", err)
	}
	for _, c := range batch {
		g.open[c] = true
	}
	g.running.Go(func() {
		for f := range in {
			select {
			case g.came <- f:
			case <-ctx.Done():
			}
		}
	})
	return nil
}

// take counts a block and puts what it refers to on the stack, the first on top.
func (g *getter) take(b block.Block) error {
	if !g.cfg.One {
		links, err := Links(b)
		if err != nil {
			return err
		}
		if b.Cid() == g.root && b.Cid().Prefix().Codec == cid.DagProtobuf {
			total := int64(len(b.RawData()))
			for _, l := range links {
				total += int64(min(l.Size, 1<<50))
			}
			g.got.Total = &total
		}
		for _, l := range slices.Backward(links) {
			if !g.seen[l.Cid] {
				g.todo = append(g.todo, l.Cid)
			}
		}
	}
	if b.Cid() == g.root && g.got.Total == nil {
		g.got.Total = new(int64(len(b.RawData())))
	}
	if g.cfg.On != nil {
		g.cfg.On(g.got.Progress)
	}
	return nil
}
