package blocks

import (
	"context"
	"errors"

	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
)

// Nothing is a store that has and keeps nothing: for who only asks.
type Nothing struct{}

var errKeepsNothing = errors.New("nothing is kept")

// Has reports that the block is not there.
func (Nothing) Has(context.Context, cid.Cid) (bool, error) { return false, nil }

// Get does not find the block.
func (Nothing) Get(_ context.Context, c cid.Cid) (block.Block, error) {
	return nil, ipld.ErrNotFound{Cid: c}
}

// GetSize does not find the block.
func (Nothing) GetSize(_ context.Context, c cid.Cid) (int, error) {
	return 0, ipld.ErrNotFound{Cid: c}
}

// Put fails.
func (Nothing) Put(context.Context, block.Block) error { return errKeepsNothing }

// PutMany fails.
func (Nothing) PutMany(context.Context, []block.Block) error { return errKeepsNothing }

// DeleteBlock has nothing to delete.
func (Nothing) DeleteBlock(context.Context, cid.Cid) error { return nil }

// AllKeysChan tells of no block.
func (Nothing) AllKeysChan(context.Context) (<-chan cid.Cid, error) {
	none := make(chan cid.Cid)
	close(none)
	return none, nil
}
