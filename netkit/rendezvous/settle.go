package rendezvous

import "time"

// settle ends what a change that is durable and visible took the place of.
func (r *registry) settle(c *change) {
	if !c.put() {
		return
	}
	sh := c.e.space.shard
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r.settleLocked(c)
}

func (r *registry) settleLocked(c *change) {
	if c.e.gone {
		return
	}
	if old := c.e.before(); old != nil {
		c.e.setSwap(nil, c.e.after())
		r.unorder(old)
		if r.record != nil && c.dead[0] != old.seq {
			// The write that was to delete it has failed.
			r.number(&change{kind: changeEvict, e: old, dead: []uint64{old.seq}})
		}
	}
	r.tell(c)
}

// unorder takes an entry out of the orders for good.
func (r *registry) unorder(e *entry) {
	e.gone = true
	e.space.order.remove(e)
	e.space.shard.all.remove(e)
}

// undo takes back a registration that could not be made durable.
func (r *registry) undo(now time.Time, c *change) {
	e := c.e
	if !c.put() {
		return
	}
	sh := e.space.shard
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e.gone {
		return
	}
	old := e.before()
	if later := e.after(); later != nil {
		later.setSwap(old, later.after())
		if old != nil {
			old.setSwap(old.before(), later)
		}
		r.unorder(e)
		return
	}
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	if old == nil || !old.live(r.clock(now)) {
		dead := r.drop(e)
		if old != nil {
			r.announce(&change{kind: changeExpire, e: old, dead: dead})
		}
		return
	}
	old.setSwap(old.before(), nil)
	r.unorder(e)
	sh.due.remove(e)
	r.ledger.renew(old, e)
	e.space.set(old)
	sh.due.add(old)
}
