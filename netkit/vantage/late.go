package vantage

import (
	"sync"
	"time"
)

// maxLate is how many answers wait for their time; further asks are dropped.
const maxLate = 4096

// late are the answers that wait for their time.
type late struct {
	mu      sync.Mutex // guards following
	closed  bool
	next    uint64
	waiting map[uint64]*time.Timer
	running sync.WaitGroup
}

// after calls send when so long has passed, unless too many wait already.
func (l *late) after(wait time.Duration, send func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.waiting) >= maxLate {
		return
	}
	if l.waiting == nil {
		l.waiting = make(map[uint64]*time.Timer)
	}
	l.next++
	id := l.next
	l.running.Add(1)
	l.waiting[id] = time.AfterFunc(wait, func() {
		defer l.running.Done()
		l.mu.Lock()
		delete(l.waiting, id)
		closed := l.closed
		l.mu.Unlock()
		if !closed {
			send()
		}
	})
}

// close drops what waits.
func (l *late) close() {
	l.mu.Lock()
	l.closed = true
	for id, t := range l.waiting {
		if t.Stop() {
			delete(l.waiting, id)
			l.running.Done()
		}
	}
	l.mu.Unlock()
	l.running.Wait()
}
