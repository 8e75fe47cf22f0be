package rendezvous

import "time"

const (
	wheelTick   = time.Second
	wheelBits   = 6
	wheelSlots  = 1 << wheelBits
	wheelLevels = 4
	// wheelSpan is how many ticks ahead the wheel tells apart, 194 days.
	wheelSpan = 1 << (wheelBits * wheelLevels)
	// wheelLeap is how many ticks the wheel turns one by one. A clock that
	// leaps farther has it filled anew.
	wheelLeap = 1 << 12
)

// wheel is a hierarchical timing wheel (Varghese and Lauck): entries wait in the
// slot of the second they expire in, or in one of a coarser level from which
// they come down in time. Adding, removing and expiring are constant time. Times
// are since the registry's start and may come from a clock that is set.
type wheel struct {
	// now is the last tick that has been reached.
	now   int64
	slots [wheelLevels][wheelSlots]*entry
	// ready holds entries whose slot was reached.
	ready *entry
}

// dueTick is the first tick at or after t.
func dueTick(t time.Duration) int64 {
	tick := int64(t / wheelTick)
	if t > time.Duration(tick)*wheelTick {
		tick++
	}
	return tick
}

// add has e expire at e.expires, or at the next tick if that is past.
func (w *wheel) add(e *entry) { w.place(e, max(dueTick(e.expires), w.now+1)) }

// place puts e in the slot of a tick that is not past.
func (w *wheel) place(e *entry, tick int64) {
	ahead := min(tick-w.now, wheelSpan-1)
	level := 0
	for ahead>>(wheelBits*(level+1)) > 0 {
		level++
	}
	link(&w.slots[level][(w.now+ahead)>>(wheelBits*level)&(wheelSlots-1)], e)
}

// link puts e in front of the list at head.
func link(head **entry, e *entry) {
	e.wheelNext, e.wheelAt = *head, head
	if e.wheelNext != nil {
		e.wheelNext.wheelAt = &e.wheelNext
	}
	*head = e
}

// remove takes e out, if it is in.
func (w *wheel) remove(e *entry) {
	if e.wheelAt == nil {
		return
	}
	*e.wheelAt = e.wheelNext
	if e.wheelNext != nil {
		e.wheelNext.wheelAt = e.wheelAt
	}
	e.wheelNext, e.wheelAt = nil, nil
}

// due takes out entries that have expired at now, at most limit; with fewer
// there are no more.
func (w *wheel) due(now time.Duration, limit int) []*entry {
	tick := int64(now / wheelTick)
	if tick-w.now > wheelLeap || tick < w.now-1 {
		w.refill(tick)
	}
	var expired []*entry
	for {
		for w.ready != nil {
			if len(expired) == limit {
				return expired
			}
			e := w.ready
			w.remove(e)
			if e.expires <= now {
				expired = append(expired, e)
			} else {
				w.add(e)
			}
		}
		if w.now >= tick {
			return expired
		}
		w.turn()
	}
}

// turn reaches the next tick.
func (w *wheel) turn() {
	w.now++
	for level := wheelLevels - 1; level > 0; level-- {
		if w.now&(1<<(wheelBits*level)-1) == 0 {
			w.comeDown(&w.slots[level][w.now>>(wheelBits*level)&(wheelSlots-1)])
		}
	}
	w.readySlot()
}

// readySlot makes the slot of the tick just reached ready.
func (w *wheel) readySlot() {
	slot := &w.slots[0][w.now&(wheelSlots-1)]
	for *slot != nil {
		e := *slot
		w.remove(e)
		link(&w.ready, e)
	}
}

// comeDown places the entries of a slot anew.
func (w *wheel) comeDown(slot **entry) {
	list := *slot
	*slot = nil
	for list != nil {
		e := list
		list = e.wheelNext
		w.place(e, max(dueTick(e.expires), w.now))
	}
}

// refill sets the wheel to a tick far from the last.
func (w *wheel) refill(tick int64) {
	var all []*entry
	collect := func(head *entry) {
		for e := head; e != nil; e = e.wheelNext {
			all = append(all, e)
		}
	}
	collect(w.ready)
	for level := range w.slots {
		for _, head := range w.slots[level] {
			collect(head)
		}
	}
	*w = wheel{now: tick}
	for _, e := range all {
		w.place(e, max(dueTick(e.expires), tick))
	}
	w.readySlot()
}
