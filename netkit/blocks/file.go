package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
)

// ErrNoFile means that a CID is not that of a file.
var ErrNoFile = errors.New("not a file")

// maxDepth is how deep a file's tree may be: 174 links a node make 8 levels more than any disk holds.
const maxDepth = 32

// WriteFile writes the file below a CID, raw or UnixFS, from a store that has all of it. It fails with [ErrNoFile] for a directory
// or a link, and stops where there are more bytes than the root says.
func WriteFile(ctx context.Context, w io.Writer, st blockstore.Blockstore, root cid.Cid) (int64, error) {
	f := &fileWriter{w: w, st: st, most: -1}
	err := f.node(ctx, root, 0)
	if err == nil && f.most >= 0 && f.n != f.most {
		err = fmt.Errorf("file of %d bytes instead of %d", f.n, f.most)
	}
	if err != nil {
		return f.n, fmt.Errorf("write file %s: %w", root, err)
	}
	return f.n, nil
}

type fileWriter struct {
	w    io.Writer
	st   blockstore.Blockstore
	n    int64
	most int64 // as the root says; -1: it says nothing
}

func (f *fileWriter) node(ctx context.Context, c cid.Cid, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("more than %d levels", maxDepth)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b, err := f.st.Get(ctx, c)
	if err != nil {
		return err
	}
	switch c.Prefix().Codec {
	case cid.Raw:
		return f.bytes(b.RawData())
	case cid.DagProtobuf:
	default:
		return &CodecError{CID: c}
	}
	n, err := merkledag.DecodeProtobuf(b.RawData())
	if err != nil {
		return fmt.Errorf("read block %s: %w", c, err)
	}
	part, err := unixfs.FSNodeFromBytes(n.Data())
	if err != nil {
		return fmt.Errorf("%w: block %s holds no UnixFS: %w", ErrNoFile, c, err)
	}
	if part.Type() != unixfs.TFile && part.Type() != unixfs.TRaw {
		return fmt.Errorf("%w: block %s is a %s", ErrNoFile, c, part.Type())
	}
	if depth == 0 {
		f.most = int64(part.FileSize())
	}
	if err := f.bytes(part.Data()); err != nil {
		return err
	}
	for _, l := range n.Links() {
		if err := f.node(ctx, l.Cid, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (f *fileWriter) bytes(p []byte) error {
	if f.most >= 0 && f.n+int64(len(p)) > f.most {
		return fmt.Errorf("more bytes than the %d that the root says", f.most)
	}
	n, err := f.w.Write(p)
	f.n += int64(n)
	return err
}
