package rendezvous

import (
	"container/heap"
	"time"
)

// scanSlots is how many registrations a page looks at, at most. Of one
// namespace it is never reached; of all, a reader who may see few of them is
// given a short page, and goes on from its cookie.
const scanSlots = 1 << 16

// query asks for a page.
type query struct {
	now time.Duration
	// ns is the namespace; empty for all.
	ns    string
	after uint64
	// limit and budget are how many entries, and how many bytes, are returned.
	limit, budget int
	// want are the flavours of which an entry has at least one.
	want wanted
	// size tells what an entry costs; 0 leaves it out.
	size func(*entry) int
}

// page is an answer under way.
type page struct {
	query
	found []*entry
	// last is the seq up to which everything has been looked at.
	last   uint64
	looked int
}

// add takes an entry, and reports whether the page goes on.
func (p *page) add(e *entry) bool {
	p.looked++
	if cost := p.size(e); cost > 0 {
		if len(p.found) == p.limit || cost > p.budget {
			return false
		}
		p.budget -= cost
		p.found = append(p.found, e)
	}
	p.last = e.seq
	return p.looked < scanSlots
}

// page returns the live entries of a namespace, or of all, whose seq is above
// q.after, in order. last is where the next page goes on. No lock is held for
// longer than it takes to look at one chunk.
func (r *registry) page(q query) (found []*entry, last uint64) {
	p := &page{query: q, last: q.after}
	top := r.visible.Load()
	var whole bool
	if q.ns == "" {
		whole = r.mergeShards(p)
	} else {
		whole = r.readSpace(p)
	}
	if r.given && whole {
		// The numbers of a shared registry are forgotten some day: the newer, the later.
		p.last = max(p.last, top)
	}
	return p.found, p.last
}

// readSpace reports whether it came to the end.
func (r *registry) readSpace(p *page) bool {
	sh := r.shard(p.ns)
	batch := make([]*entry, 0, min(p.limit, chunkSlots))
	for passed, more := p.after, true; more; p.last = passed {
		batch, passed, more = r.readChunk(sh, p, passed, r.visible.Load, batch[:0])
		for _, e := range batch {
			if !p.add(e) {
				return false
			}
		}
	}
	return true
}

// readChunk reads visible entries above after, up to the capacity of batch,
// and returns the seq up to which it has passed by what is not asked for.
func (r *registry) readChunk(sh *shard, p *page, after uint64, visible func() uint64, batch []*entry) (_ []*entry, passed uint64, more bool) {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	var source *order
	if p.ns == "" {
		source = &sh.all
	} else if sp := sh.spaces[p.ns]; sp != nil {
		source = &sp.order
	} else {
		return batch, after, false
	}
	// Read under the lock: what an entry here took the place of is still
	// there, unless the entry is visible.
	top := visible()
	slots, passed, end, more := source.next(after, p.want)
	for _, e := range slots {
		if e == nil {
			continue
		}
		if e.seq > top {
			return batch, passed, false
		}
		if e.live(p.now) && p.want.takes(e.packed) && (e.after() == nil || e.after().seq > top) {
			if len(batch) == cap(batch) {
				return batch, passed, true
			}
			batch = append(batch, e)
		}
		passed = e.seq
	}
	if end >= top {
		// Beyond is only what nobody is shown yet.
		return batch, max(after, top), false
	}
	return batch, end, more
}

// shardBatch is how many entries are read ahead of each shard.
const shardBatch = 8

// reader reads a shard ahead.
type reader struct {
	sh     *shard
	batch  []*entry
	passed uint64
	more   bool
}

// readers are a heap, the one with the lowest next entry first.
type readers []*reader

func (h readers) Len() int           { return len(h) }
func (h readers) Less(i, j int) bool { return h[i].batch[0].seq < h[j].batch[0].seq }
func (h readers) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *readers) Push(x any)        { *h = append(*h, x.(*reader)) }
func (h *readers) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// mergeShards reads all shards at once in order of seq. What becomes visible
// meanwhile is left to the next page: it may lie before what was read already. It
// reports whether it came to the end.
func (r *registry) mergeShards(p *page) bool {
	top := r.visible.Load()
	visible := func() uint64 { return top }
	fill := func(rd *reader) bool {
		for rd.batch = rd.batch[:0]; len(rd.batch) == 0 && rd.more; {
			rd.batch, rd.passed, rd.more = r.readChunk(rd.sh, p, rd.passed, visible, rd.batch)
		}
		return len(rd.batch) > 0
	}
	merge := make(readers, 0, shardCount)
	room := make([]*entry, shardCount*shardBatch)
	for i := range r.shards {
		rd := &reader{
			sh: &r.shards[i], passed: p.after, more: true,
			batch: room[i*shardBatch : i*shardBatch : (i+1)*shardBatch],
		}
		if fill(rd) {
			merge = append(merge, rd)
		}
	}
	heap.Init(&merge)
	for len(merge) > 0 {
		rd := merge[0]
		if !p.add(rd.batch[0]) {
			return false
		}
		// The rest is moved down, so that the batch keeps its room.
		rd.batch = rd.batch[:copy(rd.batch, rd.batch[1:])]
		if len(rd.batch) == 0 && !fill(rd) {
			heap.Pop(&merge)
			continue
		}
		heap.Fix(&merge, 0)
	}
	return true
}
