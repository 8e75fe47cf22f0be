package rendezvous

import (
	"slices"
	"sort"
)

// chunkSlots is the size of a full chunk of an order.
const chunkSlots = 256

// order lists entries by seq. Entries come with rising seqs, so it is a list of
// chunks to append to; one that leaves becomes a gap, and a chunk that is mostly
// gaps is squeezed or joined to its neighbour. A page is found by binary search,
// and no step is longer than a chunk, however long the order.
type order struct {
	chunks []*chunk
	live   int
}

type chunk struct {
	// slots is never empty; nil is a gap.
	slots []*entry
	// last is the seq up to which it reaches.
	last uint64
	live int32
	// flavours is how many of the live have a record of each, so that a
	// reader of one flavour need not look at a chunk without.
	flavours [2]int32
}

// wanted are the flavours a reader can read.
type wanted [2]bool

// takes reports whether an entry has a record the reader wants.
func (w wanted) takes(p packed) bool {
	return w[Standard] && p.has(Standard) || w[Legacy] && p.has(Legacy)
}

// push appends e, whose seq is above all before it.
func (o *order) push(e *entry) {
	n := len(o.chunks)
	if n == 0 || len(o.chunks[n-1].slots) == chunkSlots {
		c := new(chunk)
		if n > 0 {
			c.slots = make([]*entry, 0, chunkSlots)
		}
		o.chunks = append(o.chunks, c)
		n++
	}
	c := o.chunks[n-1]
	c.slots = append(c.slots, e)
	c.last = e.seq
	c.count(e, 1)
	o.live++
}

func (c *chunk) count(e *entry, by int32) {
	c.live += by
	for f := range c.flavours {
		if e.packed.has(Flavour(f)) {
			c.flavours[f] += by
		}
	}
}

// remove takes out e, which is there.
func (o *order) remove(e *entry) {
	at := o.chunk(e.seq)
	c := o.chunks[at]
	c.slots[c.index(e.seq)] = nil
	c.count(e, -1)
	o.live--
	switch {
	case c.live == 0:
		o.chunks = slices.Delete(o.chunks, at, at+1)
	case len(c.slots) > 32 && int(c.live) < len(c.slots)/2:
		o.squeeze(at)
	}
}

// squeeze closes the gaps of a chunk, and joins it to the one before where both
// fit in half a chunk.
func (o *order) squeeze(at int) {
	c := o.chunks[at]
	if at > 0 && o.chunks[at-1].live+c.live <= chunkSlots/2 {
		before := o.chunks[at-1]
		joined := &chunk{slots: make([]*entry, 0, before.live+c.live)}
		joined.take(before)
		joined.take(c)
		o.chunks[at-1] = joined
		o.chunks = slices.Delete(o.chunks, at, at+1)
		return
	}
	kept := &chunk{slots: make([]*entry, 0, c.live)}
	kept.take(c)
	o.chunks[at] = kept
}

// take appends the entries of another chunk.
func (c *chunk) take(from *chunk) {
	for _, e := range from.slots {
		if e != nil {
			c.slots = append(c.slots, e)
		}
	}
	c.last = from.last
	c.live += from.live
	for f := range c.flavours {
		c.flavours[f] += from.flavours[f]
	}
}

// chunk is the place of the first chunk that ends at or after seq.
func (o *order) chunk(seq uint64) int {
	return sort.Search(len(o.chunks), func(i int) bool { return o.chunks[i].last >= seq })
}

// index is the place of the first entry whose seq is at least seq.
func (c *chunk) index(seq uint64) int {
	low, high := 0, len(c.slots)
	for low < high {
		mid := (low + high) / 2
		at := mid
		for at < high && c.slots[at] == nil {
			at++
		}
		switch {
		case at == high:
			high = mid
		case c.slots[at].seq >= seq:
			high = mid
		default:
			low = at + 1
		}
	}
	for low < len(c.slots) && c.slots[low] == nil {
		low++
	}
	return low
}

// skipChunks is how many chunks without a wanted flavour next passes by.
const skipChunks = 512

// next returns the slots above after of one chunk, in which there may be
// entries of a wanted flavour, the seq up to which it has passed by what is not
// wanted, and the one up to which the slots reach. more is false at the end of
// the order.
func (o *order) next(after uint64, want wanted) (slots []*entry, passed, end uint64, more bool) {
	passed = after
	if after == ^uint64(0) {
		return nil, passed, passed, false
	}
	at := o.chunk(after + 1)
	for skipped := 0; at < len(o.chunks); skipped, at = skipped+1, at+1 {
		c := o.chunks[at]
		if want[Standard] && c.flavours[Standard] > 0 || want[Legacy] && c.flavours[Legacy] > 0 {
			return c.slots[c.index(passed+1):], passed, c.last, true
		}
		if skipped == skipChunks {
			return nil, passed, passed, true
		}
		passed = c.last
	}
	return nil, passed, passed, false
}
