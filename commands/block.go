package commands

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"dibber/netkit/blocks"
	"dibber/netkit/control"
	"dibber/netkit/host"
	"dibber/netkit/store"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/verifcid"
	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"
)

func newBlock(e *env) spec {
	return spec{
		name: "block", usage: "keep blocks by their hash, and exchange them with peers",
		about: `A block is named by its CID, which holds its hash: whoever hands it over, it is what was asked for or it is refused.
Files are cut into blocks as IPFS does (UnixFS), and peers exchange them by Bitswap, so that IPFS nodes can be peers, too.`,
		examples:    []string{"dibber block put notes.txt", "dibber block get " + exampleCID + " -o notes.txt --peer @home --peers @peers.txt", "dibber block have " + exampleCID + " --peer @home --peers @peers.txt"},
		subcommands: []spec{newBlockPut(e), newBlockGet(e), newBlockHave(e)},
	}
}

// exampleCID is that of "hello\n" as one raw block.
const exampleCID = "bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am"

// parseCID reads a CID, and refuses those whose hash proves nothing.
func parseCID(text string) (cid.Cid, error) {
	c, err := cid.Decode(text)
	if err == nil {
		err = verifcid.ValidateCid(verifcid.DefaultAllowlist, c)
	}
	if err != nil {
		return c, &failure{Exit: exitUsage, Code: "bad_cid", Err: fmt.Errorf("%q is no CID: %w", text, err), Hint: "a CID looks like " + exampleCID}
	}
	return c, nil
}

// blockStoreOptions say where the store of blocks is.
type blockStoreOptions struct {
	Dir  string       // empty means blocks in the state folder
	Host *hostOptions // of which only where a running node is
}

func blockStoreFlag(dest *string) cli.Flag {
	return &cli.StringFlag{Category: groupStore, Name: "store", Destination: dest, Usage: "the store of blocks in `DIR` (default: blocks in the state folder)"}
}

// blockDir is the folder of the store.
func blockDir(e *env, dir string, h *hostOptions) (string, error) {
	if dir == "" {
		state, err := h.openState(e, true)
		if err != nil {
			return "", err
		}
		dir = filepath.Join(state, "blocks")
	}
	return filepath.Abs(dir)
}

// keeper is the store of blocks: its folder, or the running node that owns it.
type keeper struct {
	blockstore.Blockstore
	sync func(context.Context) error
	// root notes the CID of a file, and returns how many peers of the hash table know now that the node has it; nil: no such network.
	root  func(context.Context, cid.Cid) (*int, error)
	close func() error
	owner *owner // nil: this process owns the folder
}

// open opens the store. One that a running node serves is used through that node.
func (o *blockStoreOptions) open(ctx context.Context, out *output) (*keeper, error) {
	dir, err := blockDir(out.e, o.Dir, o.Host)
	if err != nil {
		return nil, err
	}
	s, err := blocks.OpenStore(blocks.StoreConfig{Dir: dir})
	if err == nil {
		return &keeper{Blockstore: s, sync: func(context.Context) error { return s.Sync() }, root: func(_ context.Context, c cid.Cid) (*int, error) { return nil, s.AddRoot(c) }, close: s.Close}, nil
	}
	if _, locked := errors.AsType[*store.LockedError](err); !locked {
		return nil, err
	}
	ow, askErr := o.owner(ctx, out, dir)
	if askErr != nil {
		return nil, fmt.Errorf("%w; asked the node that runs: %w", err, askErr)
	}
	return &keeper{Blockstore: ow, sync: ow.sync, root: ow.root, close: func() error { return nil }, owner: ow}, nil
}

// owner is the running node whose store is in dir.
func (o *blockStoreOptions) owner(ctx context.Context, out *output, dir string) (*owner, error) {
	ow := &owner{ask: func(ctx context.Context, method, path string, body, answer any) error {
		return (&ctlOptions{Host: *o.Host}).ask(ctx, out, method, path, body, answer)
	}}
	var its blocksDoc
	if err := ow.ask(ctx, "GET", "/blocks", nil, &its); err != nil {
		return nil, err
	}
	if its.Store != dir {
		return nil, fmt.Errorf("its store is %s", its.Store)
	}
	return ow, nil
}

// blockFailure gives the errors of blocks their class.
func blockFailure(err error) (failure, bool) {
	var missing *blocks.NotFoundError
	var corrupt *blocks.CorruptError
	var codec *blocks.CodecError
	var large *blocks.OversizeError
	var refused *control.Error
	switch {
	case errors.As(err, &refused):
		return failure{}, false // what the running node said, as it said it
	case errors.As(err, &corrupt):
		return failure{Exit: exitIdentity, Code: "corrupt", Phase: "store", Hint: "get it from a peer, which mends the store: dibber block get " + corrupt.CID.String() + " --peer …"}, true
	case errors.Is(err, blocks.ErrNoPeers):
		return failure{Exit: exitNotFound, Code: "no_peers", Phase: "get", Retryable: true, Hint: "name a peer by --peer, or a source by --rendezvous, --mdns or --dht; what has come is kept"}, true
	case errors.As(err, &missing):
		return failure{Exit: exitNotFound, Phase: "get", Retryable: true, Hint: "see who has it: dibber block have " + missing.CID.String() + " --peer …"}, true
	case errors.As(err, &codec):
		return failure{Exit: exitUsage, Code: "codec", Hint: "--one gets the block alone"}, true
	case errors.As(err, &large):
		return failure{Exit: exitUsage, Code: "oversize", Hint: "without --raw a file is cut into blocks"}, true
	case errors.Is(err, blocks.ErrNoFile):
		return failure{Exit: exitUsage, Code: "no_file", Hint: "without -o it is got into the store"}, true
	case errors.Is(err, blocks.ErrNoHave), host.NotSupported(err):
		return failure{Exit: exitProtocol, Code: "missing_protocol", Phase: "blocks", Hint: "run dibber serve --blocks there"}, true
	}
	return failure{}, false
}
