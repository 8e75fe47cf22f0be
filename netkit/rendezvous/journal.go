package rendezvous

import (
	"encoding/binary"
	"sync"
)

// DB is what a server keeps its registrations in. Its keys all begin
// "rendezvous/", so that others may use the same database.
type DB interface {
	// Scan calls fn for each key with the prefix, in byte order. The slices
	// are valid during the call.
	Scan(prefix []byte, fn func(key, value []byte) error) error
	// Write makes all changes or none and returns when they are durable. A
	// nil value deletes its key.
	Write(changes map[string][]byte) error
}

// journal makes changes durable in the order they are recorded, many with one
// Write: whatever comes while one is under way shares the next.
type journal struct {
	db   DB
	wake chan struct{}
	done chan struct{}

	mu      sync.Mutex
	closed  bool
	pending *commit
}

// commit is one Write, waited for by everyone whose changes are in it.
type commit struct {
	changes map[string][]byte
	done    chan struct{}
	err     error
}

func newCommit() *commit {
	return &commit{changes: make(map[string][]byte), done: make(chan struct{})}
}

// wait blocks until the changes are durable, or could not be made so.
func (c *commit) wait() error {
	<-c.done
	return c.err
}

func startJournal(db DB) *journal {
	j := &journal{db: db, wake: make(chan struct{}, 1), done: make(chan struct{}), pending: newCommit()}
	go j.run()
	return j
}

// record adds changes to the next Write: e is stored and gone are deleted.
// The caller holds the lock under which it changed the registry.
func (j *journal) record(e *entry, gone ...*entry) *commit {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.pending
	for _, old := range gone {
		c.changes[storedKey(old.seq)] = nil
	}
	if e != nil {
		c.changes[storedKey(e.seq)] = encodeEntry(e)
		c.changes[keySeq] = binary.BigEndian.AppendUint64(nil, e.seq)
	}
	select {
	case j.wake <- struct{}{}:
	default:
	}
	return c
}

func (j *journal) run() {
	defer close(j.done)
	for range j.wake {
		for c := j.take(); c != nil; c = j.take() {
			c.err = j.db.Write(c.changes)
			close(c.done)
		}
		if j.finished() {
			return
		}
	}
}

func (j *journal) take() *commit {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.pending.changes) == 0 {
		return nil
	}
	c := j.pending
	j.pending = newCommit()
	return c
}

func (j *journal) finished() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closed
}

// close waits until everything recorded has been written. Nothing may be
// recorded any more.
func (j *journal) close() {
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
	<-j.done
}
