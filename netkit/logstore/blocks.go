package logstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"dibber/netkit/negentropy"
)

// blockMax is how many items one summary is for at most: reading them is what an unaligned range costs.
const blockMax = 512

// block sums up the items from first on, up to the first of the next block.
type block struct {
	first itemKey
	sum   negentropy.Sum
}

// blocks are in order. The first one begins at zero, so that every item lies in one.
type blocks []block

// find returns the block that an item lies in.
func (b blocks) find(k itemKey) int {
	return sort.Search(len(b), func(i int) bool { return bytes.Compare(b[i].first[:], k[:]) > 0 }) - 1
}

const blockSize = 4 + negentropy.SumSize

func (b *block) encode() []byte {
	sum := b.sum.Bytes()
	return append(binary.BigEndian.AppendUint32(nil, uint32(b.sum.Count)), sum[:]...)
}

func decodeBlock(key, value []byte) (block, error) {
	if len(key) != 1+len(itemKey{}) || len(value) != blockSize {
		return block{}, &CorruptError{What: fmt.Sprintf("summary %x", key), Cause: errRow}
	}
	return block{first: itemKey(key[1:]), sum: negentropy.ParseSum(uint64(binary.BigEndian.Uint32(value)), [negentropy.SumSize]byte(value[4:]))}, nil
}

func summarise(keys []itemKey) block {
	b := block{first: keys[0]}
	for _, k := range keys {
		b.sum = b.sum.AddID(k.item().ID)
	}
	return b
}

// insert returns the blocks with new items in them, sorted and not there before, and which of the blocks changed. It asks for the
// items that a block holds when it has to be cut; upTo is nil for the last one. The receiver stays as it is.
func (b blocks) insert(fresh []itemKey, held func(from itemKey, upTo *itemKey) ([]itemKey, error)) (all blocks, changed []block, err error) {
	if len(fresh) == 0 {
		return b, nil, nil
	}
	if len(b) == 0 {
		b = blocks{{}}
	}
	all = make(blocks, 0, len(b)+len(fresh)/blockMax+1)
	at := 0
	for len(fresh) > 0 {
		i := b.find(fresh[0])
		all = append(all, b[at:i]...)
		at = i + 1
		var upTo *itemKey
		n := len(fresh)
		if at < len(b) {
			upTo = &b[at].first
			n = sort.Search(len(fresh), func(j int) bool { return bytes.Compare(fresh[j][:], upTo[:]) >= 0 })
		}
		grown, err := b[i].grow(fresh[:n], upTo, held)
		if err != nil {
			return nil, nil, err
		}
		all, changed, fresh = append(all, grown...), append(changed, grown...), fresh[n:]
	}
	return append(all, b[at:]...), changed, nil
}

// grow returns the block with more items, cut into several where they are too many.
func (b block) grow(fresh []itemKey, upTo *itemKey, held func(itemKey, *itemKey) ([]itemKey, error)) ([]block, error) {
	if int(b.sum.Count)+len(fresh) <= blockMax {
		b.sum = b.sum.Add(summarise(fresh).sum)
		return []block{b}, nil
	}
	keys, err := held(b.first, upTo)
	if err != nil {
		return nil, err
	}
	keys = append(keys, fresh...)
	slices.SortFunc(keys, func(x, y itemKey) int { return bytes.Compare(x[:], y[:]) })
	// The last block grows at its end, mostly, and leaves full ones behind; one in the middle leaves room in both halves.
	size := blockMax
	if upTo != nil {
		size = blockMax / 2
	}
	var out []block
	for part := range slices.Chunk(keys, size) {
		out = append(out, summarise(part))
	}
	out[0].first = b.first
	return out, nil
}

// sums returns the sums of all blocks before each, and of all at the end.
func (b blocks) sums() []negentropy.Sum {
	out := make([]negentropy.Sum, len(b)+1)
	for i := range b {
		out[i+1] = out[i].Add(b[i].sum)
	}
	return out
}

// holding returns the block in which the item of a position lies, by the sums of what is before each; there is one.
func holding(sums []negentropy.Sum, at int) int {
	return sort.Search(len(sums), func(i int) bool { return sums[i].Count > uint64(at) }) - 1
}
