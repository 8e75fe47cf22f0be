package logstore

import (
	"bytes"
	"fmt"

	"dibber/netkit/bamboo"
)

// Len is the number of all entries. Their ranks, in the order of their items, are 0 to Len-1.
func (v *View) Len() int {
	counts := v.ranks().counts
	return counts[len(counts)-1]
}

// Rank returns how many items come before one, which need not be in the set.
func (v *View) Rank(item Item) (int, error) {
	k := item.key()
	i := v.blocks.find(k)
	if i < 0 {
		return 0, nil
	}
	rank := v.ranks().counts[i]
	err := v.keys(v.blocks[i].first, &k, func(itemKey) error {
		rank++
		return nil
	})
	return rank, err
}

// At returns the item of a rank, or [ErrNotFound].
func (v *View) At(rank int) (Item, error) {
	var out Item
	found := false
	err := v.Items(rank, rank+1, func(item Item) error {
		out, found = item, true
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("item of rank %d of %d: %w", rank, v.Len(), ErrNotFound)
	}
	return out, err
}

// Items calls fn for the items of the ranks from one up to before another, until it returns an error, which Items returns.
func (v *View) Items(from, upTo int, fn func(Item) error) error {
	from, upTo = max(from, 0), min(upTo, v.Len())
	if from >= upTo {
		return nil
	}
	r := v.ranks()
	i := r.holding(from)
	skip, left := from-r.counts[i], upTo-from
	return v.keys(v.blocks[i].first, nil, func(k itemKey) error {
		if skip > 0 {
			skip--
			return nil
		}
		if left == 0 {
			return errStop
		}
		left--
		return fn(k.item())
	})
}

// Sum returns the sum of the ids of the ranks from one up to before another.
func (v *View) Sum(from, upTo int) (Sum, error) {
	sum, err := v.sumBefore(upTo)
	if err != nil {
		return Sum{}, err
	}
	less, err := v.sumBefore(from)
	if err != nil {
		return Sum{}, err
	}
	sum.Sub(less)
	return sum, nil
}

// sumBefore sums up the whole blocks before a rank and the items between.
func (v *View) sumBefore(rank int) (Sum, error) {
	r := v.ranks()
	if rank >= v.Len() {
		return r.sums[len(r.sums)-1], nil
	}
	if rank <= 0 {
		return Sum{}, nil
	}
	i := r.holding(rank)
	sum := r.sums[i]
	err := v.Items(r.counts[i], rank, func(item Item) error {
		sum.Add(item.ID)
		return nil
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
