package logstore

import (
	"bytes"
	"fmt"

	"dibber/netkit/bamboo"
	"dibber/netkit/negentropy"
)

// A view is the ordered set of all its entries.
var _ negentropy.Set = (*View)(nil)

// Len is how many entries there are.
func (v *View) Len() int {
	sums := v.sums()
	return int(sums[len(sums)-1].Count)
}

// Search is the position of the first item that is not below b, Len if there is none.
func (v *View) Search(_ int, b negentropy.Bound) (int, error) {
	var id bamboo.Hash
	copy(id[:], b.Prefix)
	k := itemOf(b.Timestamp, id)
	i := v.blocks.find(k)
	if i < 0 {
		return 0, nil
	}
	at := int(v.sums()[i].Count)
	err := v.keys(v.blocks[i].first, &k, func(itemKey) error {
		at++
		return nil
	})
	return at, err
}

// Each calls fn with the items from one position up to before another in order, until it returns false.
func (v *View) Each(from, to int, fn func(negentropy.Item) bool) error {
	from, to = max(from, 0), min(to, v.Len())
	if from >= to {
		return nil
	}
	i := holding(v.sums(), from)
	skip, left := from-int(v.sums()[i].Count), to-from
	return v.keys(v.blocks[i].first, nil, func(k itemKey) error {
		if skip > 0 {
			skip--
			return nil
		}
		if left--; left < 0 || !fn(k.item()) {
			return errStop
		}
		return nil
	})
}

// Sum adds up the items from one position up to before another, from the summaries and at most two blocks.
func (v *View) Sum(from, to int) (negentropy.Sum, error) {
	sum, err := v.sumBefore(to)
	if err != nil {
		return negentropy.Sum{}, err
	}
	less, err := v.sumBefore(from)
	if err != nil {
		return negentropy.Sum{}, err
	}
	return sum.Sub(less), nil
}

// sumBefore adds up the whole blocks before a position and the items between.
func (v *View) sumBefore(at int) (negentropy.Sum, error) {
	sums := v.sums()
	if at >= v.Len() {
		return sums[len(sums)-1], nil
	}
	if at <= 0 {
		return negentropy.Sum{}, nil
	}
	sum := sums[holding(sums, at)]
	err := v.Each(int(sum.Count), at, func(item negentropy.Item) bool {
		sum = sum.AddID(item.ID)
		return true
	})
	return sum, err
}

// keys calls fn for the items from one on, up to before another if that is not nil.
func (v *View) keys(from itemKey, upTo *itemKey, fn func(itemKey) error) error {
	end := []byte{rowItem + 1}
	if upTo != nil {
		end = row(rowItem, upTo[:])
	}
	return v.scan(row(rowItem, from[:]), end, func(key, _ []byte) error {
		if len(key) != 1+len(itemKey{}) {
			return &CorruptError{What: fmt.Sprintf("item %x", key), Cause: errRow}
		}
		return fn(itemKey(key[1:]))
	})
}

// between returns the items that a block holds.
func (v *View) between(from itemKey, upTo *itemKey) ([]itemKey, error) {
	out := make([]itemKey, 0, blockMax)
	err := v.keys(from, upTo, func(k itemKey) error {
		out = append(out, k)
		return nil
	})
	return out, err
}

// Fork is the proof that an author gave two entries one number: both, with their signatures.
type Fork struct {
	Author bamboo.Author
	Log    uint64
	Seq    uint64
	// Kept is the entry that is part of the log here, Other the one that is not; its payload is nil if it was not given.
	Kept, Other Record
}

// Forks calls fn for every fork that is known, until it returns an error, which Forks returns.
func (v *View) Forks(fn func(Fork) error) error {
	return v.scan([]byte{rowFork}, []byte{rowFork + 1}, func(key, value []byte) error {
		if len(key) != 1+len(place{}) {
			return &CorruptError{What: fmt.Sprintf("fork %x", key), Cause: errRow}
		}
		f, err := decodeFork(place(key[1:]), bytes.Clone(value))
		if err != nil {
			return err
		}
		return fn(f)
	})
}
