package replicate

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math"
	"sync"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
)

// ErrRefused is what a [RefusedError] wraps, and what a peer that refuses a session is answered with.
var ErrRefused = errors.New("refused")

// RefusedError says that entries were not taken, by this side or by the other. Nothing of them was transferred.
type RefusedError struct {
	Logs int
	// Reason is why the first of them was refused.
	Reason string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("entries of %d logs were refused: %s", e.Logs, e.Reason)
}

// Unwrap returns ErrRefused.
func (e *RefusedError) Unwrap() error { return ErrRefused }

// Rules say whose entries a replica takes and how many. The zero value takes all.
type Rules struct {
	// Authors are those whose entries are taken; nil means everybody's, unless there are Namespaces. Logs that are in the store already
	// go on to be taken.
	Authors map[bamboo.Author]bool
	// Namespaces are keys of authors whose entries are taken, and those of every author that they have granted leave to (see
	// [GrantsHead]) as far as their logs of grants are in the store. An author whose leave they have revoked is not taken any more.
	Namespaces map[bamboo.Author]bool
	// PerAuthor is how many bytes of payload the logs of one author may have; zero means any number.
	PerAuthor uint64
	// PerNamespace is how many bytes of payload the authors of one namespace may have together; zero means any number.
	PerNamespace uint64
	// PerPeer is how many bytes of payload one peer may bring while the replica lives; zero means any number.
	PerPeer uint64
	// Total is how many bytes of payload the store may hold; zero means any number.
	Total uint64
}

// maxPeers is how many peers a replica remembers the bytes of.
const maxPeers = 4096

// Replica is a store that takes part in replication, in any number of sessions at once.
type Replica struct {
	Store  *logstore.Store
	rules  Rules
	grants *grants

	mu      sync.Mutex
	brought map[string]uint64 // bytes of payload, by peer
	// promised are bytes that sessions under way were allowed to bring, by author and in all.
	promised map[bamboo.Author]uint64
	total    uint64
	claimed  map[bamboo.Hash]chan struct{} // files on their way
	changed  chan struct{}                 // entries came; of length 1
	told     chan<- []logstore.Record      // entries signed here; nil: nobody tells of them
}

// NewReplica lets a store take part.
func NewReplica(store *logstore.Store, rules Rules) *Replica {
	return &Replica{
		Store: store, rules: rules, grants: newGrants(rules.Namespaces), brought: make(map[string]uint64),
		promised: make(map[bamboo.Author]uint64), claimed: make(map[bamboo.Hash]chan struct{}),
		changed: make(chan struct{}, 1),
	}
}

// Append signs entries and adds them to a log of the key's author (see [logstore.Store.Append]), and has them told to peers.
func (r *Replica) Append(key ed25519.PrivateKey, log uint64, payloads ...logstore.Payload) ([]logstore.Record, error) {
	records, err := r.Store.Append(key, log, payloads...)
	if len(records) == 0 {
		return records, err
	}
	r.mu.Lock()
	told := r.told
	r.mu.Unlock()
	select {
	case told <- records:
	default: // nobody does, or not now
		r.change()
	}
	return records, err
}

// push has entries that are signed told to whoever reads the channel; nil means nobody.
func (r *Replica) push(told chan<- []logstore.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = told
}

// admit decides whether a peer may bring size bytes of payload to a log. It returns why not, or "". What was admitted counts until
// release.
func (r *Replica) admit(v *logstore.View, peer string, l logID, size uint64) (reason string, err error) {
	author := l.author
	reason, namespace, err := r.welcome(v, author)
	if err != nil || reason != "" {
		return reason, err
	}
	if err := r.Store.Space(size); err != nil {
		return err.Error(), nil
	}
	held := uint64(0)
	if r.rules.PerAuthor > 0 {
		if err := v.HeadsOf(author, func(h logstore.Head) error { held += h.Bytes; return nil }); err != nil {
			return "", err
		}
	}
	together, err := r.together(v, namespace)
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, member := range together.members {
		together.held = plus(together.held, r.promised[member])
	}
	for _, q := range []struct {
		what       string
		most, used uint64
	}{
		{"author " + author.String(), r.rules.PerAuthor, plus(held, r.promised[author])},
		{"namespace " + namespace.String(), together.most, together.held},
		{"the peer", r.rules.PerPeer, r.brought[peer]},
		{"the store", r.rules.Total, plus(v.Bytes(), r.total)},
	} {
		if q.most > 0 && plus(q.used, size) > q.most {
			return fmt.Sprintf("quota of %s: %d bytes of %d are used, %d more were offered", q.what, q.used, q.most, size), nil
		}
	}
	r.promised[author] += size
	r.total += size
	if _, known := r.brought[peer]; !known && len(r.brought) >= maxPeers {
		for other := range r.brought { // whichever: a peer with a new identity every time is not held by this anyway
			delete(r.brought, other)
			break
		}
	}
	r.brought[peer] += size
	return "", nil
}

// welcome decides whether entries of an author are taken: "" or why not. The namespace is that by whose leave they are, if any.
func (r *Replica) welcome(v *logstore.View, author bamboo.Author) (reason string, namespace bamboo.Author, err error) {
	said, namespace, err := r.grants.about(v, author)
	if err != nil {
		return "", namespace, err
	}
	known := true
	if said == unknown {
		if known, err = knows(v, author); err != nil {
			return "", namespace, err
		}
	}
	switch {
	case said == allowed, r.rules.Authors[author], r.rules.Authors == nil && len(r.rules.Namespaces) == 0:
		return "", namespace, nil
	case said == revoked:
		return fmt.Sprintf("the leave of author %s was revoked", author), namespace, nil
	case !known:
		return fmt.Sprintf("author %s is not allowed", author), namespace, nil
	}
	return "", namespace, nil
}

// share is what the authors of a namespace have together.
type share struct {
	members []bamboo.Author
	held    uint64 // bytes of payload
	most    uint64 // 0: any number
}

// together returns what the authors of a namespace have, if that is bounded.
func (r *Replica) together(v *logstore.View, namespace bamboo.Author) (out share, err error) {
	if r.rules.PerNamespace == 0 || namespace == (bamboo.Author{}) {
		return out, nil
	}
	out.most = r.rules.PerNamespace
	if out.members, err = r.grants.members(v, namespace); err != nil {
		return out, err
	}
	for _, member := range out.members {
		if err := v.HeadsOf(member, func(h logstore.Head) error { out.held = plus(out.held, h.Bytes); return nil }); err != nil {
			return out, err
		}
	}
	return out, nil
}

// release takes back what was admitted; unused are the bytes of it that were not brought.
func (r *Replica) release(peer string, author bamboo.Author, size, unused uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total -= size
	if r.promised[author] -= size; r.promised[author] == 0 {
		delete(r.promised, author)
	}
	if r.brought[peer] >= unused {
		r.brought[peer] -= unused
	}
}

// claim waits until nobody else receives a file.
func (r *Replica) claim(ctx context.Context, hash bamboo.Hash) (release func(), err error) {
	for {
		r.mu.Lock()
		other := r.claimed[hash]
		if other == nil {
			mine := make(chan struct{})
			r.claimed[hash] = mine
			r.mu.Unlock()
			return func() {
				r.mu.Lock()
				delete(r.claimed, hash)
				r.mu.Unlock()
				close(mine)
			}, nil
		}
		r.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// changes signals that entries came since it was last received from.
func (r *Replica) changes() <-chan struct{} { return r.changed }

func (r *Replica) change() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// errFound ends a scan.
var errFound = errors.New("found")

func knows(v *logstore.View, author bamboo.Author) (bool, error) {
	err := v.HeadsOf(author, func(logstore.Head) error { return errFound })
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

// plus adds without wrapping around.
func plus(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}
