// Package negentropy finds out in which items two sets differ, by range-based set
// reconciliation as the negentropy protocol, version 1, has it on the wire
// (https://github.com/hoytech/negentropy; the method: arXiv 2212.13567). Both sides
// order their items by time and compare sums over ranges; where they differ they
// split, until a range is small enough to list. The set answers from sums it keeps,
// so a round costs as much as there are differences, not as there are items.
//
// The package does no I/O. [Initiator] learns the differences, [Responder] keeps no
// state between messages. Sums mod 2^256 can be made to collide by who may choose
// 2^15 items or more: who relies on sets being equal compares a stronger root at
// the end.
package negentropy

import (
	"bytes"
	"cmp"
	"math"
)

// IDSize is the length of an ID in bytes.
const IDSize = 32

// ID names an item: a hash, so that nobody can choose it freely.
type ID [IDSize]byte

// Item is an element of a set. Sets are ordered by Timestamp, then by ID.
type Item struct {
	// Timestamp is in any unit that all sides share, less than [Forever]. It only orders: items that differ
	// at the end of the order are found with the fewest bytes.
	Timestamp uint64
	ID        ID
}

// Compare orders items: negative when i comes before j.
func (i Item) Compare(j Item) int {
	return cmp.Or(cmp.Compare(i.Timestamp, j.Timestamp), bytes.Compare(i.ID[:], j.ID[:]))
}

// Forever is the timestamp of the bound behind all items, which no item has.
const Forever = math.MaxUint64

// Bound lies between items: before those that have its timestamp and begin with its
// prefix, and before all that follow.
type Bound struct {
	Timestamp uint64
	Prefix    []byte // of an ID, at most IDSize bytes
}

// Compare orders bounds; a prefix is as if followed by zeros.
func (b Bound) Compare(c Bound) int {
	return cmp.Or(cmp.Compare(b.Timestamp, c.Timestamp), bytes.Compare(b.Prefix, c.Prefix))
}

// Before reports whether b lies at or before i, so that i is not below b.
func (b Bound) Before(i Item) bool {
	return cmp.Or(cmp.Compare(b.Timestamp, i.Timestamp), bytes.Compare(b.Prefix, i.ID[:])) <= 0
}

// end is the bound behind all items.
func end() Bound { return Bound{Timestamp: Forever} }

// between is the shortest bound before next and behind prev.
func between(prev, next Item) Bound {
	if prev.Timestamp != next.Timestamp {
		return Bound{Timestamp: next.Timestamp}
	}
	shared := 0
	for shared < IDSize-1 && prev.ID[shared] == next.ID[shared] {
		shared++
	}
	return Bound{Timestamp: next.Timestamp, Prefix: next.ID[:shared+1]}
}
