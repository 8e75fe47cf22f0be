package commands

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"dibber/netkit/blocks"
	"dibber/netkit/control"

	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"golang.org/x/sync/errgroup"
)

// blocksDoc says of a running node what its store of blocks is.
type blocksDoc struct {
	Store string `json:"store"`
}

// blockDoc is a block on its way over the control socket.
type blockDoc struct {
	CID  string `json:"cid"`
	Size int    `json:"size"`
	Data []byte `json:"data_b64"` // null where only the size was asked for
}

// blocksPut are blocks to be kept.
type blocksPut struct {
	Blocks []blockDoc `json:"blocks"`
	Sync   bool       `json:"sync"` // make everything durable
}

// maxBlocksPut bounds a request to keep blocks: what is put at once, in base64, and a block more.
const maxBlocksPut = 12 << 20

// blockVerbs are what can be asked of a node that serves blocks.
func (op *operator) blockVerbs() []control.Verb {
	if op.blocks == nil {
		return nil
	}
	s, store := op.s.Blocks(), op.blocks
	verb := func(pattern string, body int64, do func(ctx context.Context, c control.Call) (any, error), query ...string) control.Verb {
		return control.Verb{Pattern: pattern, Query: query, MaxBody: body, Do: func(ctx context.Context, c control.Call) ([]byte, error) {
			doc, err := do(ctx, c)
			if err != nil {
				return nil, refusalOf(err)
			}
			return encode(doc)
		}}
	}
	return []control.Verb{
		verb("GET /blocks", 0, func(context.Context, control.Call) (any, error) { return blocksDoc{Store: store.dir}, nil }),
		verb("POST /blocks", maxBlocksPut, func(ctx context.Context, c control.Call) (any, error) {
			return struct{}{}, keepBlocks(ctx, s, store.Sync, c.Body)
		}),
		verb("GET /blocks/{cid}", 0, func(ctx context.Context, c control.Call) (any, error) { return giveBlock(ctx, s, c) }, "only"),
		verb("POST /roots/{cid}", 0, func(ctx context.Context, c control.Call) (any, error) { return op.provide(ctx, store.AddRoot, c) }),
		verb("POST /blocks/{cid}", 0, func(ctx context.Context, c control.Call) (any, error) { return fetchBlock(ctx, s, c) }),
	}
}

// rootDoc is a CID that was noted.
type rootDoc struct {
	// Kept is how many peers of the hash table know that the node has it; null: no such network, or nobody there takes it now.
	Kept *int `json:"kept"`
}

// provide notes a CID and tells the network of the hash table. Where that fails it is tried again by itself.
func (op *operator) provide(ctx context.Context, note func(cid.Cid) error, c control.Call) (d rootDoc, err error) {
	name, err := parseCID(c.Value("cid"))
	if err != nil {
		return d, err
	}
	if err := note(name); err != nil {
		return d, err
	}
	if n, err := op.s.Provide(ctx, name); err == nil {
		d.Kept = &n
	}
	return d, nil
}

// keepBlocks puts blocks, which are compared with their CIDs, into the node's store.
func keepBlocks(ctx context.Context, s *blocks.Service, sync func() error, body []byte) error {
	var put blocksPut
	if err := json.Unmarshal(body, &put); err != nil {
		return usagef("the body is no list of blocks: %w", err)
	}
	var list []block.Block
	for _, b := range put.Blocks {
		name, err := parseCID(b.CID)
		if err != nil {
			return err
		}
		if err := blocks.Verify(name, b.Data); err != nil {
			return usagef("block %s: %w", b.CID, err)
		}
		one, err := block.NewBlockWithCid(b.Data, name)
		if err != nil {
			return err
		}
		list = append(list, one)
	}
	if err := s.Store().PutMany(ctx, list); err != nil {
		return err
	}
	if put.Sync {
		if err := sync(); err != nil {
			return err
		}
	}
	return s.Added(ctx, list...)
}

// giveBlock reads a block of the node's store, or its size alone.
func giveBlock(ctx context.Context, s *blocks.Service, c control.Call) (d blockDoc, err error) {
	name, err := parseCID(c.Value("cid"))
	if err != nil {
		return d, err
	}
	d.CID = name.String()
	if c.Value("only") == "size" {
		d.Size, err = s.Store().GetSize(ctx, name)
	} else {
		var b block.Block
		if b, err = s.Store().Get(ctx, name); err == nil {
			d.Data, d.Size = b.RawData(), len(b.RawData())
		}
	}
	if ipld.IsNotFound(err) {
		err = &blocks.NotFoundError{CID: name}
	}
	return d, err
}

// fetchBlock has the node fetch a block from its peers.
func fetchBlock(ctx context.Context, s *blocks.Service, c control.Call) (d blockDoc, err error) {
	name, err := parseCID(c.Value("cid"))
	if err != nil {
		return d, err
	}
	_, err = blocks.Get(ctx, s.Store(), name, blocks.GetConfig{
		One: true, Stalled: s.Missing,
		Fetch: func(ctx context.Context) (blocks.Fetcher, error) { return s.Session(ctx), nil },
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return d, &control.Error{Status: http.StatusGatewayTimeout, Code: "timeout", Message: "the block has not come yet"}
	}
	if err != nil {
		return d, err
	}
	return giveBlock(ctx, s, c)
}

// owner is a running node's store of blocks, over its control socket.
type owner struct {
	ask func(ctx context.Context, method, path string, body, answer any) error
}

var errOwned = errors.New("the running node keeps its blocks")

// missing turns the node's word for a block that is not there into ours.
func missing(c cid.Cid, err error) error {
	var refused *control.Error
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return ipld.ErrNotFound{Cid: c}
	}
	return err
}

func (o *owner) get(ctx context.Context, c cid.Cid, query string) (d blockDoc, err error) {
	err = missing(c, o.ask(ctx, http.MethodGet, "/blocks/"+c.String()+query, nil, &d))
	return d, err
}

// GetSize returns the size of a block in bytes.
func (o *owner) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	d, err := o.get(ctx, c, "?only=size")
	return d.Size, err
}

// Has reports whether the node has a block.
func (o *owner) Has(ctx context.Context, c cid.Cid) (bool, error) {
	_, err := o.GetSize(ctx, c)
	if ipld.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// Get returns a block, compared with its CID by the node.
func (o *owner) Get(ctx context.Context, c cid.Cid) (block.Block, error) {
	d, err := o.get(ctx, c, "")
	if err != nil {
		return nil, err
	}
	return block.NewBlockWithCid(d.Data, c)
}

// Put keeps a block.
func (o *owner) Put(ctx context.Context, b block.Block) error {
	return o.PutMany(ctx, []block.Block{b})
}

// PutMany keeps blocks.
func (o *owner) PutMany(ctx context.Context, list []block.Block) error {
	put := blocksPut{Blocks: []blockDoc{}}
	for _, b := range list {
		put.Blocks = append(put.Blocks, blockDoc{CID: b.Cid().String(), Size: len(b.RawData()), Data: b.RawData()})
	}
	return o.ask(ctx, http.MethodPost, "/blocks", put, &struct{}{})
}

// sync returns when all that was put is on disk.
func (o *owner) sync(ctx context.Context) error {
	return o.ask(ctx, http.MethodPost, "/blocks", blocksPut{Blocks: []blockDoc{}, Sync: true}, &struct{}{})
}

// root has the node note a CID, and provide it.
func (o *owner) root(ctx context.Context, c cid.Cid) (*int, error) {
	var d rootDoc
	err := o.ask(ctx, http.MethodPost, "/roots/"+c.String(), nil, &d)
	return d.Kept, err
}

// DeleteBlock and AllKeysChan are the node's alone.
func (o *owner) DeleteBlock(context.Context, cid.Cid) error { return errOwned }

// AllKeysChan fails.
func (o *owner) AllKeysChan(context.Context) (<-chan cid.Cid, error) { return nil, errOwned }

// ownerFetches is how many blocks the node is asked for at once; its socket serves 32 requests.
const ownerFetches = 16

// Fetch has the node fetch blocks from the peers it is connected with, into its store.
func (o *owner) Fetch(ctx context.Context, list []cid.Cid) (<-chan blocks.Fetched, error) {
	out := make(chan blocks.Fetched)
	var all errgroup.Group
	all.SetLimit(ownerFetches)
	go func() {
		defer close(out)
		for _, c := range list {
			all.Go(func() error {
				var f blocks.Fetched
				f.Block, f.Err = o.fetch(ctx, c)
				select {
				case out <- f:
				case <-ctx.Done():
				}
				return nil
			})
		}
		_ = all.Wait() // each has told its own error
	}()
	return out, nil
}

// fetch waits for one block, asking again as long as it may still come.
func (o *owner) fetch(ctx context.Context, c cid.Cid) (block.Block, error) {
	for {
		var d blockDoc
		err := o.ask(ctx, http.MethodPost, "/blocks/"+c.String(), nil, &d)
		var refused *control.Error
		switch {
		case err == nil:
			return block.NewBlockWithCid(d.Data, c)
		case errors.As(err, &refused) && refused.Code == "timeout":
		default:
			return nil, err
		}
	}
}
