package p2panda

import (
	"errors"

	"dibber/netkit/bamboo"
)

// ErrNotFound is what a [Store] returns for an entry that it does not hold.
var ErrNotFound = errors.New("not in the store")

// MaxOperation is the length in bytes above which an operation fits into no message: its entry is not exchanged, nor what builds on it.
const MaxOperation = MaxMessage - bamboo.MaxEntrySize - 64

// LogID names a log.
type LogID struct {
	Author bamboo.Author
	Log    uint64
}

// Place names an entry.
type Place struct {
	LogID
	Seq uint64
}

// Record is an entry with its operation.
type Record struct {
	bamboo.Signed
	// Operation is the entry's payload; nil where that is longer than [MaxOperation].
	Operation []byte
}

func (r *Record) place() Place {
	return Place{LogID: LogID{Author: r.Author, Log: r.Log}, Seq: r.Seq}
}

// Store is what this package wants of a store of logs. Its methods may be called concurrently.
type Store interface {
	// Since calls fn for the entries that were stored after the n-th, in that order, and returns how many have been stored in all.
	Since(n uint64, fn func(Place) error) (uint64, error)
	// Find returns where an entry is, or [ErrNotFound].
	Find(id bamboo.Hash) (Place, error)
	// Run calls fn for the entries of a log in order, from one number to another, both included.
	Run(log LogID, from, to uint64, fn func(Record) error) error
	// Proven returns up to which entry of a log, but not beyond upTo, every single signature verifies: nodes check them all.
	Proven(log LogID, upTo uint64) (uint64, error)
	// Put proves and stores a run of one log, numbers rising by one, and returns how many entries were new. What it refuses is
	// the sender's fault only if the error says so by wrapping [ErrRefused].
	Put(run []Record) (added int, err error)
}
