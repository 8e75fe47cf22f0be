package p2panda

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dibber/netkit/bamboo"

	"github.com/libp2p/go-libp2p/core/peer"
)

// ErrRefused is what the error for an entry wraps that its sender should not have sent.
var ErrRefused = errors.New("entry refused")

// ErrNotAdmitted is what the error for an entry wraps that Config.Admit kept out. Its sender could not know.
var ErrNotAdmitted = errors.New("entry not admitted")

// maxAnnounced is how many schemas are announced at most. Those of an application are learned from operations, whoever made them up.
const maxAnnounced = 1000

// replica is the store with what is known of it, shared by all connections.
type replica struct {
	store   Store
	schemas []string // nil means all
	admit   func(p peer.ID, log LogID, size uint64) (done func(stored bool), err error)

	mu        sync.Mutex
	index     *index
	announced Announce
}

// newReplica reads the store through.
func newReplica(store Store, schemas []string) (*replica, error) {
	r := &replica{store: store, index: newIndex(store)}
	if len(schemas) > 0 {
		var err error
		if r.schemas, err = SchemaSet(schemas...); err != nil {
			return nil, err
		}
	}
	if err := r.index.refresh(); err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	return r, nil
}

// refresh takes in what others have stored, and returns how many entries there are.
func (r *replica) refresh() (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.index.refresh()
	return r.index.seen, err
}

// announce returns what is to be announced. Its time rises whenever the set changes, even within a second: times are compared in
// seconds, and a second announcement of one second would not be heard.
func (r *replica) announce(now time.Time) Announce {
	r.mu.Lock()
	defer r.mu.Unlock()
	set := r.schemas
	if set == nil {
		// Every id comes from an operation that was decoded, or from the list: it is well formed.
		set, _ = SchemaSet(append(System(), r.index.schemas()...)...)
		set = set[:min(len(set), maxAnnounced)]
	}
	if r.announced.Timestamp == 0 || !slices.Equal(set, r.announced.Schemas) {
		r.announced = Announce{Version: Version, Timestamp: max(uint64(now.Unix()), r.announced.Timestamp+1), Schemas: set}
	}
	return r.announced
}

// own returns the schemas of documents here that are exchanged.
func (r *replica) own() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	own, _ := SchemaSet(r.index.schemas()...) // they were decoded
	if r.schemas != nil {
		own = intersect(own, r.schemas)
	}
	return own
}

// target returns for which schemas to ask a peer that announced some: those of the list or, without one, all that it has.
func (r *replica) target(theirs []string) []string {
	if r.schemas == nil {
		return theirs
	}
	return intersect(r.schemas, theirs)
}

// allows says whether a peer may ask for a set.
func (r *replica) allows(set []string) bool {
	return r.schemas == nil || len(intersect(set, r.schemas)) == len(set)
}

// heights are those of all logs of the documents that a session is about, and of how many entries in the store that is.
func (r *replica) heights(set []string) (out []AuthorHeights, version uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	docs, err := r.index.included(set)
	if err != nil {
		return nil, 0, err
	}
	byAuthor := make(map[bamboo.Author][]Height)
	for _, d := range docs {
		for _, l := range d.logs {
			byAuthor[l.Author] = append(byAuthor[l.Author], Height{Log: l.Log, Seq: r.index.logs[l].height})
		}
	}
	out = make([]AuthorHeights, 0, len(byAuthor))
	for author, logs := range byAuthor {
		slices.SortFunc(logs, func(a, b Height) int { return cmp.Compare(a.Log, b.Log) })
		out = append(out, AuthorHeights{Author: author, Logs: logs})
	}
	slices.SortFunc(out, func(a, b AuthorHeights) int { return slices.Compare(a.Author[:], b.Author[:]) })
	return out, r.index.seen, nil
}

// byLog are heights by their log.
func byLog(have []AuthorHeights) map[LogID]uint64 {
	heights := make(map[LogID]uint64)
	for _, a := range have {
		for _, h := range a.Logs {
			heights[LogID{a.Author, h.Log}] = h.Seq
		}
	}
	return heights
}

// lacking calls fn for every entry that a peer with these heights lacks, document by document.
func (r *replica) lacking(set []string, heights map[LogID]uint64, fn func(Record) error) error {
	r.mu.Lock()
	docs, err := r.index.included(set)
	r.mu.Unlock()
	if err != nil {
		return err
	}
	for _, d := range docs {
		r.mu.Lock()
		places, err := r.index.lacking(d, heights)
		r.mu.Unlock()
		if err != nil {
			return err
		}
		// Outside of the lock: whoever takes the entries may be slow.
		for _, p := range places {
			if err := r.store.Run(p.LogID, p.Seq, p.Seq, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// received is what became of entries.
type received struct {
	added, known, refused, barred int // barred is by Config.Admit
	// err is the first error, of the sender's or our own.
	err error
}

func (r *received) add(o received) {
	r.added, r.known, r.refused, r.barred = r.added+o.added, r.known+o.known, r.refused+o.refused, r.barred+o.barred
	if r.err == nil {
		r.err = o.err
	}
}

// put checks entries as they came from a peer in a session over a set, and stores those that pass. An entry that does not takes with it only what
// builds on it.
func (r *replica) put(p peer.ID, set []string, entries []Entry) received {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := checker{set: set, index: r.index, logs: make(map[LogID]*draft), docs: make(map[bamboo.Hash]*draft)}
	for _, e := range entries {
		if err := c.check(e); err != nil {
			c.got.add(received{refused: 1, err: err})
		}
	}
	c.dropUnsigned()
	var stored sync.WaitGroup
	results := make([]received, len(c.runs))
	slots := make(chan struct{}, 64) // the store makes those durable together that come at once
	for i, run := range c.runs {
		slots <- struct{}{}
		stored.Go(func() {
			defer func() { <-slots }()
			results[i] = r.putRun(p, run.records)
		})
	}
	stored.Wait()
	for _, one := range results {
		c.got.add(one)
	}
	if err := r.index.refresh(); err != nil {
		c.got.add(received{err: err})
	}
	return c.got
}

func (r *replica) putRun(p peer.ID, run []Record) (out received) {
	if len(run) == 0 {
		return out
	}
	if r.admit != nil {
		size := uint64(0)
		for _, one := range run {
			size += one.PayloadSize
		}
		done, err := r.admit(p, run[0].place().LogID, size)
		if err != nil {
			return received{barred: len(run), err: fmt.Errorf("%w: %w", ErrNotAdmitted, err)}
		}
		defer func() { done(out.added > 0) }()
	}
	added, err := r.store.Put(run)
	switch {
	case errors.Is(err, ErrRefused):
		return received{refused: len(run), err: err}
	case err != nil:
		return received{err: err}
	}
	return received{added: added, known: len(run) - added}
}
