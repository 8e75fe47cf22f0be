package natlab

import (
	"container/heap"
	"time"
)

// event is something that happens to a packet at a moment of virtual time.
type event struct {
	at  time.Time
	seq uint64
	run func(now time.Time)
}

// eventQueue holds events in order of time, and of scheduling within an
// instant: timers of a synctest bubble fire in random order within an instant,
// which would reorder packets that were sent together.
type eventQueue struct {
	events []event
	seq    uint64
	timer  *time.Timer
}

// after schedules run. The caller holds l.mu; so will run.
func (l *Lab) after(now time.Time, d time.Duration, run func(now time.Time)) {
	if l.done {
		return
	}
	q := &l.queue
	q.seq++
	heap.Push(q, event{at: now.Add(d), seq: q.seq, run: run})
	l.rearm(now)
}

// rearm sets the timer to the first event.
func (l *Lab) rearm(now time.Time) {
	q := &l.queue
	if len(q.events) == 0 {
		return
	}
	wait := q.events[0].at.Sub(now)
	if q.timer == nil {
		q.timer = time.AfterFunc(wait, l.tick)
		return
	}
	q.timer.Reset(wait)
}

// tick runs the events that are due.
func (l *Lab) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for len(l.queue.events) > 0 && !l.queue.events[0].at.After(now) {
		heap.Pop(&l.queue).(event).run(now)
	}
	l.rearm(now)
}

// stop forgets the events that are left.
func (q *eventQueue) stop() {
	q.events = nil
	if q.timer != nil {
		q.timer.Stop()
	}
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (q *eventQueue) Len() int { return len(q.events) }

func (q *eventQueue) Less(i, j int) bool {
	a, b := q.events[i], q.events[j]
	if a.at.Equal(b.at) {
		return a.seq < b.seq
	}
	return a.at.Before(b.at)
}

func (q *eventQueue) Swap(i, j int) { q.events[i], q.events[j] = q.events[j], q.events[i] }
func (q *eventQueue) Push(e any)    { q.events = append(q.events, e.(event)) }
func (q *eventQueue) Pop() any {
	last := len(q.events) - 1
	e := q.events[last]
	q.events[last] = event{}
	q.events = q.events[:last]
	return e
}
