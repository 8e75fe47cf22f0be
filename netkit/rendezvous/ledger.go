package rendezvous

import (
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
)

// owner is what a registry knows of a peer while it has registrations. It is
// guarded by the ledger's lock, save id.
type owner struct {
	id peer.ID
	// home is the network it last registered from.
	home *subnet
	// held is its place among the owners of its network.
	held mark[*owner]
	// oldest is the first of the ring of its entries, in the order in which
	// they came; the one older than it is the newest.
	oldest *entry
	// recordSeqs are the newest record seqs accepted, by flavour: an
	// implementation that counts in seconds and one that counts in
	// nanoseconds may share an identity.
	recordSeqs [2]uint64
}

//lint:ignore U1000 the type constraint of tally asks for it
func (o *owner) mark() *mark[*owner] { return &o.held }

// subnet is the peers of one prefix that have registrations.
type subnet struct {
	prefix prefix
	// held is its place among the subnets.
	held   mark[*subnet]
	owners tally[*owner]
}

//lint:ignore U1000 the type constraint of tally asks for it
func (n *subnet) mark() *mark[*subnet] { return &n.held }

// ledger counts who holds how much. Its lock is taken after a shard's.
type ledger struct {
	mu      sync.Mutex
	total   int
	owners  map[peer.ID]*owner
	subnets map[prefix]*subnet
	most    tally[*subnet]
}

func newLedger() *ledger {
	return &ledger{owners: make(map[peer.ID]*owner), subnets: make(map[prefix]*subnet)}
}

// settle returns the owner of a peer, which it makes if need be, at home in the
// network of from.
func (l *ledger) settle(id peer.ID, from prefix) *owner {
	o := l.owners[id]
	if o == nil {
		o = &owner{id: id}
		l.owners[id] = o
	}
	if o.home != nil && o.home.prefix == from {
		return o
	}
	n := l.subnets[from]
	if n == nil {
		n = &subnet{prefix: from}
		l.subnets[from] = n
	}
	held := o.held.count
	if o.home != nil {
		l.hold(o, 0)
	}
	o.home = n
	l.hold(o, held)
	return o
}

// hold makes n the count of an owner.
func (l *ledger) hold(o *owner, n int) {
	home := o.home
	by := n - o.held.count
	home.owners.set(o, n)
	l.most.set(home, home.held.count+by)
	if by != 0 && home.held.count == 0 {
		delete(l.subnets, home.prefix)
	}
}

// list appends e to the entries of its owner.
func (l *ledger) list(e *entry) {
	o := e.owner
	if o.oldest == nil {
		o.oldest, e.older, e.newer = e, e, e
		return
	}
	e.older, e.newer = o.oldest.older, o.oldest
	e.older.newer, e.newer.older = e, e
}

func (l *ledger) unlist(e *entry) {
	o := e.owner
	if e.newer == e {
		o.oldest = nil
	} else if o.oldest == e {
		o.oldest = e.newer
	}
	e.older.newer, e.newer.older = e.newer, e.older
	e.older, e.newer = nil, nil
}

// join counts a new registration of e's owner.
func (l *ledger) join(e *entry) {
	l.total++
	l.hold(e.owner, e.owner.held.count+1)
	l.list(e)
}

// renew has e take the place of an entry of its owner.
func (l *ledger) renew(e, old *entry) {
	l.unlist(old)
	l.list(e)
	// Not for the count: it was heard of.
	l.hold(e.owner, e.owner.held.count)
}

// part ends the registration e, and forgets its owner with the last.
func (l *ledger) part(e *entry) {
	l.total--
	l.unlist(e)
	l.hold(e.owner, e.owner.held.count-1)
	if e.owner.held.count == 0 {
		delete(l.owners, e.owner.id)
	}
}

// victim is the registration that makes room for a new one of peer id in the
// network of from: the network that holds the most, its peer that holds the
// most, and of that the oldest. A newcomer that would hold more than those is
// the one itself, so that whoever floods the registry pays for it.
func (l *ledger) victim(id peer.ID, from prefix) *entry {
	n := l.most.heaviest()
	if own := l.subnets[from]; own != nil && own.held.count+1 > n.held.count {
		n = own
	}
	o := n.owners.heaviest()
	if own := l.owners[id]; own != nil && own.home == n && own.held.count+1 > o.held.count {
		o = own
	}
	return o.oldest
}
