package vantage

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// maxLate is how many answers wait for their time; further asks are dropped.
	maxLate = 4096
	// maxLateOfNet is how many of them one network may have, so that it takes 32 to keep
	// everybody else from having any.
	maxLateOfNet = maxLate / 32
)

// late are the answers that wait for their time.
type late struct {
	mu      sync.Mutex // guards following
	closed  bool
	next    uint64
	waiting map[uint64]*time.Timer
	of      map[netip.Prefix]int // how many of them each network has
	running sync.WaitGroup
}

// after calls send when so long has passed, unless too many wait already, in all or for
// the network that asks.
func (l *late) after(from netip.Prefix, wait time.Duration, send func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.waiting) >= maxLate || l.of[from] >= maxLateOfNet {
		return
	}
	if l.waiting == nil {
		l.waiting, l.of = make(map[uint64]*time.Timer), make(map[netip.Prefix]int)
	}
	l.next++
	l.of[from]++
	id := l.next
	l.running.Add(1)
	l.waiting[id] = time.AfterFunc(wait, func() {
		defer l.running.Done()
		l.mu.Lock()
		delete(l.waiting, id)
		if l.of[from]--; l.of[from] == 0 {
			delete(l.of, from)
		}
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
