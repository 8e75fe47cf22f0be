package rendezvous

// tally keeps holders in the order of how much they hold, so that the one with
// the most is known at once: levels of equal counts, each a list in which the
// holder that changed longest ago is first. Changing a count by one is constant
// time.
type tally[T interface {
	comparable
	mark() *mark[T]
}] struct {
	top, bottom *level[T]
}

// level is the holders of one count.
type level[T any] struct {
	count       int
	first, last T
	up, down    *level[T]
}

// mark is a holder's place in a tally.
type mark[T any] struct {
	level      *level[T]
	prev, next T
	count      int
}

// set makes x's count n and puts it last of its equals; 0 takes it out.
func (t *tally[T]) set(x T, n int) {
	var none T
	m := x.mark()
	old := m.level
	if old != nil {
		t.leave(m, old)
	}
	m.count, m.level = n, nil
	if n > 0 {
		to := t.find(old, n)
		m.level, m.prev = to, to.last
		if to.last == none {
			to.first = x
		} else {
			to.last.mark().next = x
		}
		to.last = x
	}
	// Only now: it may be the level x came to, and it is where to search from.
	if old != nil && old.first == none {
		t.retire(old)
	}
}

// leave takes a holder out of its level.
func (t *tally[T]) leave(m *mark[T], from *level[T]) {
	var none T
	if m.prev == none {
		from.first = m.next
	} else {
		m.prev.mark().next = m.next
	}
	if m.next == none {
		from.last = m.prev
	} else {
		m.next.mark().prev = m.prev
	}
	m.prev, m.next = none, none
}

// find returns the level of a count, which it makes if there is none, searching
// from a near one.
func (t *tally[T]) find(near *level[T], count int) *level[T] {
	if near == nil {
		near = t.bottom
	}
	if near == nil {
		only := &level[T]{count: count}
		t.top, t.bottom = only, only
		return only
	}
	for near.count < count && near.up != nil {
		near = near.up
	}
	for near.count > count && near.down != nil {
		near = near.down
	}
	switch {
	case near.count == count:
		return near
	case near.count < count:
		return t.insert(&level[T]{count: count, down: near, up: near.up})
	default:
		return t.insert(&level[T]{count: count, down: near.down, up: near})
	}
}

// insert links a level in between its neighbours.
func (t *tally[T]) insert(l *level[T]) *level[T] {
	if l.down == nil {
		t.bottom = l
	} else {
		l.down.up = l
	}
	if l.up == nil {
		t.top = l
	} else {
		l.up.down = l
	}
	return l
}

func (t *tally[T]) retire(l *level[T]) {
	if l.down == nil {
		t.bottom = l.up
	} else {
		l.down.up = l.up
	}
	if l.up == nil {
		t.top = l.down
	} else {
		l.up.down = l.down
	}
}

// heaviest returns who has the most, of equals the one that changed longest
// ago, or the zero T.
func (t *tally[T]) heaviest() T {
	if t.top == nil {
		var none T
		return none
	}
	return t.top.first
}
