package blocks

import (
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/boxo/ipld/merkledag"
	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
)

// Bounds of what is read of a block of dag-cbor. A block has at most 2 MiB, of which each byte may be an item.
const (
	maxNesting = 256
	maxItems   = 1 << 17 // of one list or map
)

// linkTag is the CBOR tag of a link (https://ipld.io/specs/codecs/dag-cbor/spec/#links).
const linkTag = 42

// Links are what a block refers to: by dag-pb with the size of what is below, by dag-cbor without. It fails with a [CodecError] for
// codecs other than these and raw.
func Links(b block.Block) ([]*ipld.Link, error) {
	switch b.Cid().Prefix().Codec {
	case cid.Raw:
		return nil, nil
	case cid.DagProtobuf:
		n, err := merkledag.DecodeProtobuf(b.RawData())
		if err != nil {
			return nil, fmt.Errorf("read block %s: %w", b.Cid(), err)
		}
		return n.Links(), nil
	case cid.DagCBOR:
		links, err := cborLinks(b.RawData())
		if err != nil {
			return nil, fmt.Errorf("read block %s: %w", b.Cid(), err)
		}
		return links, nil
	}
	return nil, &CodecError{CID: b.Cid()}
}

// cborLinks returns the links of a block of dag-cbor, in the order of its lists; maps have none.
func cborLinks(data []byte) (out []*ipld.Link, err error) {
	mode, err := cbor.DecOptions{
		MaxNestedLevels: maxNesting, MaxArrayElements: maxItems, MaxMapPairs: maxItems,
		IndefLength: cbor.IndefLengthForbidden, DupMapKey: cbor.DupMapKeyEnforcedAPF,
	}.DecMode()
	if err != nil {
		return nil, err
	}
	var root any
	if err := mode.Unmarshal(data, &root); err != nil {
		return nil, err
	}
	return out, collectLinks(root, &out)
}

// errLink is a link that is none.
var errLink = errors.New("malformed link")

// collectLinks appends the links in a value, which is nested no deeper than maxNesting.
func collectLinks(value any, out *[]*ipld.Link) error {
	switch v := value.(type) {
	case []any:
		for _, one := range v {
			if err := collectLinks(one, out); err != nil {
				return err
			}
		}
	case map[any]any:
		for _, one := range v {
			if err := collectLinks(one, out); err != nil {
				return err
			}
		}
	case time.Time, big.Int:
		return fmt.Errorf("%w: a tag of CBOR other than %d", errLink, linkTag)
	case cbor.Tag:
		data, ok := v.Content.([]byte)
		if v.Number != linkTag || !ok || len(data) == 0 || data[0] != 0 {
			return fmt.Errorf("%w: tag %d", errLink, v.Number)
		}
		c, err := cid.Cast(data[1:])
		if err != nil {
			return fmt.Errorf("%w: %w", errLink, err)
		}
		*out = append(*out, &ipld.Link{Cid: c})
	}
	return nil
}
