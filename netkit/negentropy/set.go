package negentropy

import (
	"fmt"
	"slices"
	"sort"
)

// Set is one side's items in order, as they stood when the session began: it must
// not change while it is reconciled. Positions count from 0, and ranges leave out
// their end.
type Set interface {
	// Len is how many items there are.
	Len() int
	// Search is the position of the first item that is not below b, Len if there is
	// none; from is a position known to be at or before it.
	Search(from int, b Bound) (int, error)
	// Sum adds up the items of a range.
	Sum(from, to int) (Sum, error)
	// Each calls f with the items of a range in order, until f returns false.
	Each(from, to int, f func(Item) bool) error
}

// sumEvery is for how many items a Vector keeps a sum: adding up as many costs less than a
// fingerprint's hash.
const sumEvery = 32

// Vector is a [Set] in memory.
type Vector struct {
	items []Item
	sums  []Sum // of the first 0, sumEvery, 2*sumEvery, … items
}

// NewVector takes items in any order. One ID may be there once only, and no
// timestamp may be [Forever].
func NewVector(items []Item) (*Vector, error) {
	v := &Vector{items: slices.SortedFunc(slices.Values(items), Item.Compare)}
	var s Sum
	for i, item := range v.items {
		if item.Timestamp == Forever {
			return nil, fmt.Errorf("set: item %x has the timestamp of the bound behind all items", item.ID)
		}
		if i > 0 && item == v.items[i-1] {
			return nil, fmt.Errorf("set: item %x is there twice", item.ID)
		}
		if i%sumEvery == 0 {
			v.sums = append(v.sums, s)
		}
		s = s.AddID(item.ID)
	}
	return v, nil
}

// Len implements [Set].
func (v *Vector) Len() int { return len(v.items) }

// Search implements [Set].
func (v *Vector) Search(from int, b Bound) (int, error) {
	return from + sort.Search(len(v.items)-from, func(i int) bool { return b.Before(v.items[from+i]) }), nil
}

// Sum implements [Set].
func (v *Vector) Sum(from, to int) (Sum, error) { return v.first(to).Sub(v.first(from)), nil }

// first is the sum of the first n items.
func (v *Vector) first(n int) Sum {
	if n == 0 {
		return Sum{}
	}
	at := (n - 1) / sumEvery
	s := v.sums[at]
	for _, item := range v.items[at*sumEvery : n] {
		s = s.AddID(item.ID)
	}
	return s
}

// Each implements [Set].
func (v *Vector) Each(from, to int, f func(Item) bool) error {
	for _, item := range v.items[from:to] {
		if !f(item) {
			break
		}
	}
	return nil
}
