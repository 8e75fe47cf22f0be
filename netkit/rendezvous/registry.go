package rendezvous

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// shardCount is how many parts the namespaces are spread over.
const shardCount = 256

// shard is the part of a registry that holds some of the namespaces.
type shard struct {
	mu     sync.RWMutex
	spaces map[string]*space
	// all orders the entries of all the shard's namespaces.
	all order
	due wheel
}

// registry is the state of a rendezvous server: registrations ordered by one
// sequence that every registration and every refresh takes the next number of,
// so that a cookie can say "everything up to here". Nothing in it blocks and
// time is an argument. It is safe for concurrent use.
//
// A registration is put first and settled once it is durable. Until then nobody
// is shown it, and whom it refreshes keeps the place: numbers above visible are
// passed by. Locks are taken in the order shard, ledger, sequence; none while
// another of its kind is held.
type registry struct {
	limits atomic.Pointer[Limits]
	start  time.Time
	seed   maphash.Seed
	shards [shardCount]shard
	ledger *ledger
	// visible is the number up to which changes are shown.
	visible atomic.Uint64

	// record is told of each change, in the order of their numbers; nil has
	// changes settled at once.
	record func(*change)
	// publish is told of each change that is shown, in the order of their
	// numbers within a namespace; nil tells nobody.
	publish func(*change)

	// given has changes take the number that was set, instead of the next one: those of a registry
	// that is a replica come from elsewhere.
	given bool

	numbering sync.Mutex
	seq       uint64
}

// changeKind says what happened to a registration.
type changeKind uint8

const (
	changeAdd changeKind = iota
	changeRefresh
	changeRemove
	changeExpire
	changeEvict
)

// change is a numbered change of a registry.
type change struct {
	kind changeKind
	seq  uint64
	// e is the registration that came, or went, and from where it came.
	e    *entry
	from prefix
	// dead are the numbers of registrations that end with it.
	dead []uint64
	// evicted are the registrations that made room for it.
	evicted []*change
	// commit is the write it is part of; nil without a database.
	commit *commit
}

// put reports whether the change is of a registration that came.
func (c *change) put() bool { return c.kind == changeAdd || c.kind == changeRefresh }

// claim is a registration asked for.
type claim struct {
	entryKey
	from       prefix
	packed     packed
	recordSeqs [2]uint64
	primary    Flavour
	kinds      AddrKinds
	ttl        time.Duration
}

func newRegistry(limits Limits, start time.Time) *registry {
	r := &registry{start: start, seed: maphash.MakeSeed(), ledger: newLedger()}
	r.limits.Store(&limits)
	for i := range r.shards {
		r.shards[i].spaces = make(map[string]*space)
	}
	return r
}

// clock is the time since the registry's start. The times it is given may carry
// a monotonic reading, which then decides, so that setting the wall clock moves
// no expiry.
func (r *registry) clock(now time.Time) time.Duration { return now.Sub(r.start) }

func (r *registry) shard(ns string) *shard {
	return &r.shards[maphash.String(r.seed, ns)%shardCount]
}

// evictions is how many registrations one may push out: more than one only
// while others take the place it made.
const evictions = 64

// put registers a claim for its ttl, or refreshes the registration it already
// is. When the registry is full, another has to go.
func (r *registry) put(now time.Time, c claim) (*change, *StatusError) {
	if why := r.checkTTL(c.ttl); why != nil {
		return nil, why
	}
	var evicted []*change
	for range evictions {
		done, victim, why := r.tryPut(now, c)
		if why != nil {
			return nil, why
		}
		if victim == nil {
			done.evicted = evicted
			return done, nil
		}
		if gone := r.evict(r.clock(now), victim); gone != nil {
			evicted = append(evicted, gone)
		}
	}
	return nil, refusal(reasonFull, "registry is full")
}

// tryPut puts a claim if there is room, or returns whom to evict.
func (r *registry) tryPut(now time.Time, c claim) (*change, *entry, *StatusError) {
	sh := r.shard(c.ns)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	old, victim, why := r.judge(sh, c)
	if why != nil || victim != nil {
		return nil, victim, why
	}
	done := r.insert(sh, r.clock(now), c, old)
	if r.record == nil {
		r.settleLocked(done)
	}
	return done, nil, nil
}

// judge decides about a claim: it refreshes old, or has victim make room, or is refused. The shard
// and the ledger are locked.
func (r *registry) judge(sh *shard, c claim) (old, victim *entry, why *StatusError) {
	known := r.ledger.owners[c.peer]
	for flavour, seq := range c.recordSeqs {
		if known != nil && c.packed.has(Flavour(flavour)) && seq < known.recordSeqs[flavour] {
			return nil, nil, refusal(reasonOldRecord, "record is older than the last one accepted")
		}
	}
	if old = sh.spaces[c.ns].find(known); old != nil {
		return old, nil, nil
	}
	if why := r.checkQuota(sh, c); why != nil {
		return nil, nil, why
	}
	if r.ledger.total >= r.limits.Load().Total {
		victim = r.ledger.victim(c.peer, c.from)
	}
	return nil, victim, nil
}

func (r *registry) checkTTL(ttl time.Duration) *StatusError {
	limits := r.limits.Load()
	if ttl < limits.MinTTL || ttl > limits.MaxTTL {
		return refusal(reasonTTL, "ttl must be %d to %d s", limits.MinTTL/time.Second, limits.MaxTTL/time.Second)
	}
	return nil
}

// checkQuota refuses a new registration that is one too many. A refresh is
// never checked: a peer at its limit can keep what it has.
func (r *registry) checkQuota(sh *shard, c claim) *StatusError {
	limits := r.limits.Load()
	if o := r.ledger.owners[c.peer]; o != nil && o.held.count >= limits.PerPeer {
		return refusal(reasonPeerQuota, "at most %d registrations a peer", limits.PerPeer)
	}
	if limits.PerNamespace > 0 && sh.spaces[c.ns].count() >= limits.PerNamespace {
		return refusal(reasonNamespaceQuota, "at most %d registrations a namespace", limits.PerNamespace)
	}
	if n := r.ledger.subnets[c.from]; limits.PerPrefix > 0 && n != nil && n.held.count >= limits.PerPrefix {
		return refusal(reasonPrefixQuota, "at most %d registrations from a network", limits.PerPrefix)
	}
	return nil
}

// insert adds the entry of a claim to every index, in place of old, which may
// be nil. The shard and the ledger are locked.
func (r *registry) insert(sh *shard, now time.Duration, c claim, old *entry) *change {
	sp := sh.spaces[c.ns]
	if sp == nil {
		sp = &space{ns: c.ns, shard: sh}
		sh.spaces[c.ns] = sp
	}
	e := &entry{
		space:   sp,
		owner:   r.ledger.settle(c.peer, c.from),
		expires: now + c.ttl,
		packed:  c.packed,
		ttl:     uint32(c.ttl / time.Second),
		primary: c.primary,
		kinds:   c.kinds,
	}
	for flavour, seq := range c.recordSeqs {
		e.owner.recordSeqs[flavour] = max(e.owner.recordSeqs[flavour], seq)
	}
	done := &change{kind: changeAdd, e: e, from: c.from}
	if old == nil {
		r.ledger.join(e)
	} else {
		if old.live(now) {
			done.kind = changeRefresh
		}
		r.ledger.renew(e, old)
		sh.due.remove(old)
		e.setSwap(old, nil)
		old.setSwap(old.before(), e)
		done.dead = []uint64{old.seq}
	}
	r.number(done)
	sp.set(e)
	sp.order.push(e)
	sh.all.push(e)
	sh.due.add(e)
	return done
}

// number gives a change the next number of the sequence.
func (r *registry) number(c *change) {
	r.numbering.Lock()
	defer r.numbering.Unlock()
	if !r.given {
		r.seq++
	}
	c.seq = r.seq
	if c.put() {
		c.e.seq = c.seq
	}
	if r.record != nil {
		r.record(c)
		return
	}
	// A reader that sees this number waits for the shard's lock, and by then
	// the entry is there.
	r.visible.Store(c.seq)
}

// lastSeq is the last number given.
func (r *registry) lastSeq() uint64 {
	r.numbering.Lock()
	defer r.numbering.Unlock()
	return r.seq
}

// drop takes e, nobody's predecessor, out of every index, with what it took the
// place of, and returns the numbers of both. Its shard and the ledger are
// locked.
func (r *registry) drop(e *entry) (dead []uint64) {
	sh := e.space.shard
	r.ledger.part(e)
	e.space.unset(e)
	sh.due.remove(e)
	for at := e; at != nil; at = at.before() {
		dead = append(dead, at.seq)
		r.unorder(at)
	}
	if e.space.count() == 0 {
		delete(sh.spaces, e.space.ns)
	}
	return dead
}

// end drops e and numbers that.
func (r *registry) end(e *entry, kind changeKind) *change {
	c := &change{kind: kind, e: e, dead: r.drop(e)}
	r.announce(c)
	return c
}

func (r *registry) tell(c *change) {
	if r.publish != nil {
		r.publish(c)
	}
}

func (r *registry) announce(c *change) {
	r.number(c)
	r.tell(c)
}

// remove ends a registration, or returns nil when there is none.
func (r *registry) remove(key entryKey) *change {
	sh := r.shard(key.ns)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	e := sh.spaces[key.ns].find(r.ledger.owners[key.peer])
	if e == nil {
		return nil
	}
	return r.end(e, changeRemove)
}

// restore inserts an entry read from disk, in order of seq, and returns the
// number of the one it replaces, 0 for none. It takes no notice of limits: what
// was acknowledged is kept. Nobody else uses the registry yet.
func (r *registry) restore(c claim, seq uint64, expires time.Duration) (replaced uint64) {
	sh := r.shard(c.ns)
	if old := sh.spaces[c.ns].find(r.ledger.owners[c.peer]); old != nil {
		replaced = old.seq
		r.drop(old)
	}
	r.seq = seq - 1
	r.insert(sh, expires-c.ttl, c, nil)
	return replaced
}

// current returns the entry of a key, or nil.
func (r *registry) current(key entryKey) *entry {
	sh := r.shard(key.ns)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	return sh.spaces[key.ns].find(r.ledger.owners[key.peer])
}

// newest returns the last registration of a peer that there is, or nil.
func (r *registry) newest(id peer.ID) *entry {
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	o := r.ledger.owners[id]
	if o == nil {
		return nil
	}
	return o.oldest.older
}

// counts returns how many namespaces, registrations and peers there are.
func (r *registry) counts() (namespaces, registrations, peers int) {
	for i := range r.shards {
		r.shards[i].mu.RLock()
		namespaces += len(r.shards[i].spaces)
		r.shards[i].mu.RUnlock()
	}
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	return namespaces, r.ledger.total, len(r.ledger.owners)
}
