package rendezvous

import (
	"iter"
	"sort"
)

// order lists entries by seq. Entries come with rising seqs, so it is a slice
// to append to; one that leaves becomes a gap, and when most are gaps they are
// squeezed out: constant time an entry, and a page is found by binary search.
type order struct {
	slots []slot
	live  int
}

type slot struct {
	seq uint64
	e   *entry // nil is a gap
}

// push appends e, whose seq is above all before it.
func (o *order) push(e *entry) {
	o.slots = append(o.slots, slot{seq: e.seq, e: e})
	o.live++
}

// remove takes out the entry with seq, which is there, and returns how many
// entries are left.
func (o *order) remove(seq uint64) int {
	o.slots[o.index(seq)].e = nil
	o.live--
	if len(o.slots) > 32 && o.live < len(o.slots)/2 {
		o.squeeze()
	}
	return o.live
}

// squeeze moves the entries to a slice of their number, so that a namespace
// that shrank gives its memory back.
func (o *order) squeeze() {
	kept := make([]slot, 0, o.live+o.live/2)
	for _, s := range o.slots {
		if s.e != nil {
			kept = append(kept, s)
		}
	}
	o.slots = kept
}

// index is the place of the first slot whose seq is at least seq.
func (o *order) index(seq uint64) int {
	return sort.Search(len(o.slots), func(i int) bool { return o.slots[i].seq >= seq })
}

// above yields the entries whose seq is above after, in order.
func (o *order) above(after uint64) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		if after == ^uint64(0) {
			return
		}
		for _, s := range o.slots[o.index(after+1):] {
			if s.e != nil && !yield(s.e) {
				return
			}
		}
	}
}
