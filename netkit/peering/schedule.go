package peering

import (
	"cmp"
	"slices"
	"time"
)

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// jitter is up to a quarter of d, so that nodes that lost each other at the same moment
// do not all dial at the same moment.
func (t *table) jitter(d time.Duration) time.Duration {
	return time.Duration(t.rng.Int64N(int64(d/4) + 1))
}

// backoff is the wait after the latest of c.fails failures.
func (t *table) backoff(now time.Time, c *candidate) time.Duration {
	most := strangerRetry
	if c.missed(now) {
		most = missedRetry
	}
	d := most
	if doublings := c.fails - 1; doublings < 16 {
		d = min(most, firstRetry<<doublings)
	}
	return d - t.jitter(d)
}

// upgradeAt is the first moment after now at which to try a direct connection, after
// so many tries since the relayed one opened. It depends on since alone but for
// moments missed, so that both ends agree.
func upgradeAt(since time.Time, tries int, now time.Time) time.Time {
	at, wait := since.Add(firstUpgrade), firstUpgrade
	for i := 0; i < tries || !at.After(now); i++ {
		wait = min(2*wait, lastUpgrade)
		at = at.Add(wait)
	}
	return at
}

// step puts to work what is due, and returns when to come again; zero if nothing is
// waited for.
func (t *table) step(now time.Time) (next time.Time) {
	t.refill(now)
	t.adopt()
	used, dials := t.used()
	var due []*candidate
	for _, c := range t.peers {
		if c.phase == kept && !c.upgrade.IsZero() && !c.raising {
			if !c.upgrade.After(now) {
				c.raising = true
				t.order(order{kind: raise, peer: c.id, addrs: c.addrs()})
			} else {
				next = sooner(next, c.upgrade)
			}
		}
		if c.phase != waiting || c.view.path != "" || len(c.seen) == 0 || used >= t.max {
			continue
		}
		if c.next.After(now) {
			next = sooner(next, c.next)
		} else {
			due = append(due, c)
		}
	}
	slices.SortFunc(due, func(a, b *candidate) int { return before(a, b, now) })
	for _, c := range due {
		if used >= t.max || dials >= parallelDials {
			break // a dial's end comes next
		}
		if !c.missed(now) {
			if t.credit < 1 {
				next = sooner(next, now.Add(t.untilCredit()))
				break
			}
			t.credit--
		}
		c.phase, c.mine, c.last = dialling, true, now
		used++
		dials++
		t.order(order{kind: dial, peer: c.id, addrs: c.addrs(), quick: c.missed(now)})
	}
	return next
}

// before is the order of dialling: whom we miss, who failed least, then chance, so
// that a thousand nodes that find the same list do not all dial its head.
func before(a, b *candidate, now time.Time) int {
	missed := func(c *candidate) int {
		if c.missed(now) {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(missed(a), missed(b)), cmp.Compare(a.fails, b.fails), cmp.Compare(a.rank, b.rank))
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// adopt counts on peers that connected by themselves and are known to speak what is
// wanted, as long as there is room.
func (t *table) adopt() {
	used, _ := t.used()
	var there []*candidate
	for _, c := range t.peers {
		if c.phase == waiting && c.view.path != "" && c.view.fits == fit && !c.left {
			there = append(there, c)
		}
	}
	slices.SortFunc(there, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(a.view.path, b.view.path), cmp.Compare(a.rank, b.rank))
	})
	for _, c := range there {
		if used == t.max {
			return
		}
		c.phase = meeting
		used++
		t.meet(c)
	}
}

// used counts the peers that have one of the places, and the dials under way.
func (t *table) used() (places, dials int) {
	for _, c := range t.peers {
		if c.phase != waiting {
			places++
		}
		if c.phase == dialling {
			dials++
		}
	}
	return places, dials
}

// refill adds to the credit what came in since the last look.
func (t *table) refill(now time.Time) {
	t.credit = min(float64(t.max), t.credit+now.Sub(t.credited).Seconds()*strangersPerSecond)
	t.credited = now
}

// untilCredit is the wait for one more dial. It is rounded up: a timer that fires a
// nanosecond early would spin.
func (t *table) untilCredit() time.Duration {
	return time.Duration((1-t.credit)/strangersPerSecond*float64(time.Second)) + time.Millisecond
}
