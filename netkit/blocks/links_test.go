package blocks

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// cborBlock makes a block of dag-cbor.
func cborBlock(t *testing.T, value any) block.Block {
	t.Helper()
	data, err := cbor.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return blockOf(t, cid.DagCBOR, data)
}

func blockOf(t *testing.T, codec uint64, data []byte) block.Block {
	t.Helper()
	hash, err := multihash.Sum(data, multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := block.NewBlockWithCid(data, cid.NewCidV1(codec, hash))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// linkTo is a link of dag-cbor.
func linkTo(c cid.Cid) cbor.Tag {
	return cbor.Tag{Number: linkTag, Content: append([]byte{0}, c.Bytes()...)}
}

// TestGetFollowsCBOR gets all that hangs together below a block of dag-cbor: blocks of its own codec, a file, and one twice.
func TestGetFollowsCBOR(t *testing.T) {
	t.Parallel()
	from, to := newStore(t), newStore(t)
	file, _ := put(t, from, 5000)
	below, err := Get(t.Context(), from, file.CID, GetConfig{})
	if err != nil {
		t.Fatal(err)
	}
	all := below.Local.Blocks + 2
	leaf := cborBlock(t, map[string]any{"name": "leaf", "parts": []any{linkTo(file.CID), 1, "two"}})
	root := cborBlock(t, map[string]any{"a": []any{map[string]any{"b": linkTo(leaf.Cid())}, linkTo(leaf.Cid())}, "c": nil, "d": 1.5})
	if err := from.PutMany(t.Context(), []block.Block{root, leaf}); err != nil {
		t.Fatal(err)
	}
	got, err := Get(t.Context(), to, root.Cid(), GetConfig{Fetch: (&away{from: from, to: to}).fetch})
	if err != nil || got.Fetched.Blocks != all {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err := Get(t.Context(), to, root.Cid(), GetConfig{}); err != nil || got.Local.Blocks != all {
		t.Errorf("from the store: %+v, %v", got, err)
	}
}

func TestMalformedCBOR(t *testing.T) {
	t.Parallel()
	long := append([]byte{0}, bytes.Repeat([]byte{1}, 100)...)
	for name, data := range map[string][]byte{
		"empty":            {},
		"cut":              {0x82, 0x01},
		"more behind it":   {0x01, 0x02},
		"a huge list":      {0x9b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
		"nested too deep":  append(bytes.Repeat([]byte{0x81}, maxNesting+1), 0x01),
		"without a length": {0x9f, 0x01, 0xff},
		"a key twice":      {0xa2, 0x61, 'a', 0x01, 0x61, 'a', 0x02},
		"a time":           {0xc1, 0x01},
		"a large number":   {0xc2, 0x41, 0x01},
		"another tag":      {0xc9, 0x01},
		"a link of text":   {0xd8, linkTag, 0x61, 'a'},
		"an empty link":    {0xd8, linkTag, 0x40},
		"no CID":           append([]byte{0xd8, linkTag, 0x58, byte(len(long))}, long...),
	} {
		if links, err := Links(blockOf(t, cid.DagCBOR, data)); err == nil {
			t.Errorf("%s: %v", name, links)
		} else if !strings.HasPrefix(err.Error(), "read block ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCBORLinks(f *testing.F) {
	f.Add([]byte{0xd8, linkTag, 0x40})
	f.Add([]byte{0xa1, 0x61, 'a', 0x81, 0xf6})
	f.Fuzz(func(t *testing.T, data []byte) {
		links, err := cborLinks(data)
		if err != nil && len(links) > 0 && !errors.Is(err, errLink) {
			t.Error(fmt.Errorf("%d links and an error: %w", len(links), err))
		}
		for _, l := range links {
			if !l.Cid.Defined() {
				t.Error("an undefined link")
			}
		}
	})
}
