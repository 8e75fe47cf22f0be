package rendezvous

import (
	"slices"
	"sync"
	"time"
)

// DB is what a server keeps its registrations in. Its keys all begin
// "rendezvous/", so that others may use the same database. One that has a method Refusal() error besides tells whether it takes
// writes now, and is asked before each registration.
type DB interface {
	// Scan calls fn for each key with the prefix, in byte order. The slices
	// are valid during the call.
	Scan(prefix []byte, fn func(key, value []byte) error) error
	// Write makes all changes or none and returns when they are durable. A
	// nil value deletes its key.
	Write(changes map[string][]byte) error
}

// journal makes changes durable in the order they are recorded, many with one
// Write: whatever comes while one is under way shares the next. What has been
// written is then settled in the registry, what could not be is undone.
type journal struct {
	db   DB
	reg  *registry
	wake chan struct{}
	done chan struct{}

	mu      sync.Mutex
	closed  bool
	pending *commit
}

// commit is one Write, waited for by everyone whose changes are in it.
type commit struct {
	changes []*change
	done    chan struct{}
	err     error
}

func newCommit() *commit { return &commit{done: make(chan struct{})} }

// wait blocks until the changes are durable, or could not be made so.
func (c *commit) wait() error {
	<-c.done
	return c.err
}

// startJournal has the changes of reg recorded in db.
func startJournal(db DB, reg *registry) *journal {
	j := &journal{db: db, reg: reg, wake: make(chan struct{}, 1), done: make(chan struct{}), pending: newCommit()}
	reg.record = j.record
	go j.run()
	return j
}

// record adds a change to the next Write. Changes come in the order of their
// numbers: the caller holds the lock under which it gave that.
func (j *journal) record(c *change) {
	j.mu.Lock()
	defer j.mu.Unlock()
	c.commit = j.pending
	j.pending.changes = append(j.pending.changes, c)
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// A Write costs a sync, however little is in it. Where many changes come at
// once, gather is waited for more, so that the syncs do not take the processor
// from the requests; a lone change never waits.
const (
	gather     = 2 * time.Millisecond
	gatherFrom = 16
)

func (j *journal) run() {
	defer close(j.done)
	for range j.wake {
		for c := j.take(); c != nil; c = j.take() {
			now := time.Now()
			c.err = j.db.Write(encodeChanges(c.changes, now, j.reg.clock(now)))
			j.end(c)
			close(c.done)
			if len(c.changes) >= gatherFrom {
				<-time.After(gather)
			}
		}
		if j.finished() {
			return
		}
	}
}

// end settles or undoes what a Write held.
func (j *journal) end(c *commit) {
	last := c.changes[len(c.changes)-1].seq
	if c.err != nil {
		for _, change := range slices.Backward(c.changes) {
			j.reg.undo(time.Now(), change)
		}
		j.reg.visible.Store(last)
		return
	}
	j.reg.visible.Store(last)
	for _, change := range c.changes {
		j.reg.settle(change)
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
