package p2panda

import (
	"sync"
	"testing"
	"time"

	"dibber/netkit/bamboo"

	"github.com/libp2p/go-libp2p/core/peer"
)

// memoryStore is a store without a disk.
type memoryStore struct {
	mu    sync.Mutex
	order []Place
	logs  map[LogID][]Record
	ids   map[bamboo.Hash]Place
}

func newMemory(t testing.TB, records ...Record) *memoryStore {
	t.Helper()
	m := &memoryStore{logs: make(map[LogID][]Record), ids: make(map[bamboo.Hash]Place)}
	for _, r := range records {
		if _, err := m.Put([]Record{r}); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *memoryStore) Since(n uint64, fn func(Place) error) (uint64, error) {
	m.mu.Lock()
	order := m.order
	m.mu.Unlock()
	for _, p := range order[n:] {
		if err := fn(p); err != nil {
			return 0, err
		}
	}
	return uint64(len(order)), nil
}

func (m *memoryStore) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.order)
}

func (m *memoryStore) Find(id bamboo.Hash) (Place, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.ids[id]
	if !ok {
		return p, ErrNotFound
	}
	return p, nil
}

func (m *memoryStore) Run(log LogID, from, to uint64, fn func(Record) error) error {
	m.mu.Lock()
	entries := m.logs[log]
	m.mu.Unlock()
	for _, r := range entries[from-1:] {
		if r.Seq > to {
			break
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

func (m *memoryStore) Proven(log LogID, upTo uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, r := range m.logs[log] {
		if uint64(i) == upTo || r.Verify() != nil {
			return uint64(i), nil
		}
	}
	return upTo, nil
}

func (m *memoryStore) Put(run []Record) (added int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range run {
		log := m.logs[r.place().LogID]
		switch {
		case r.Seq <= uint64(len(log)) && log[r.Seq-1].ID == r.ID:
			continue
		case r.Seq != uint64(len(log))+1:
			return added, refusedf("entry %d after %d", r.Seq, len(log))
		}
		m.logs[r.place().LogID] = append(log, r)
		m.ids[r.ID] = r.place()
		m.order = append(m.order, r.place())
		added++
	}
	return added, nil
}

// scene is a link of ours and a node's, and what has not arrived yet.
type scene struct {
	t       *testing.T
	now     time.Time
	store   *memoryStore
	replica *replica
	link    *link
	dog     *dog
	leash   *leash
	authors map[string]*author
}

// author returns the author of a name, made when first asked for.
func (s *scene) author(name string, seed byte) *author {
	if s.authors == nil {
		s.authors = make(map[string]*author)
	}
	if s.authors[name] == nil {
		s.authors[name] = newAuthor(s.t, seed)
	}
	return s.authors[name]
}

// newScene makes both sides, of which ours yields in collisions if yields is set.
func newScene(t *testing.T, yields bool, schemas []string, records ...Record) *scene {
	t.Helper()
	small, large := peer.ID("\x00\x24a"), peer.ID("\x00\x24b")
	if !yields {
		small, large = large, small
	}
	store := newMemory(t, records...)
	r, err := newReplica(store, schemas)
	if err != nil {
		t.Fatal(err)
	}
	d := newDog(t, large)
	return &scene{
		t: t, now: time.Unix(1_700_000_000, 0), store: store, replica: r, dog: d,
		link:  &link{lib: r, self: small, peer: large, interval: time.Minute, timeout: time.Minute},
		leash: &leash{dog: d, peer: small},
	}
}

// tick lets time pass for our side.
func (s *scene) tick(d time.Duration) error {
	s.now = s.now.Add(d)
	version, err := s.replica.refresh()
	if err != nil {
		s.t.Fatal(err)
	}
	return s.link.tick(s.now, version, true)
}

// ours returns what our side writes, the entries included, and writes it.
func (s *scene) ours() (out []Message) {
	s.t.Helper()
	for _, o := range s.link.take() {
		if o.message != nil {
			out = append(out, o.message)
			continue
		}
		err := s.replica.lacking(o.lacking.set, s.link.held(o.lacking), func(r Record) error {
			out = append(out, Entry{Session: o.lacking.id, Entry: r.Raw, Operation: r.Operation})
			s.link.wrote(s.now, o.lacking, r.place())
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, SyncDone{Session: o.lacking.id})
		s.link.wroteAll(s.now, o.lacking)
	}
	for _, m := range out {
		if _, err := Encode(m); err != nil {
			s.t.Fatalf("%#v cannot be written: %v", m, err)
		}
	}
	return out
}

func (s *scene) theirs() []Message {
	out := s.leash.out
	s.leash.out = nil
	return out
}

func (s *scene) hear(messages ...Message) {
	s.t.Helper()
	for _, m := range messages {
		if err := s.link.receive(s.now, m); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := s.link.flush(s.now); err != nil {
		s.t.Fatal(err)
	}
}

// settle carries messages until there are none.
func (s *scene) settle() {
	s.t.Helper()
	for {
		ours, theirs := s.ours(), s.theirs()
		if len(ours)+len(theirs) == 0 {
			return
		}
		for _, m := range ours {
			s.leash.receive(m)
		}
		s.hear(theirs...)
		if err := s.tick(0); err != nil { // the service looks after each message
			s.t.Fatal(err)
		}
	}
}

// run lets both sides go on for a while.
func (s *scene) run(steps int) {
	s.t.Helper()
	for range steps {
		s.leash.tick()
		if err := s.tick(5 * time.Second); err != nil {
			s.t.Fatal(err)
		}
		s.settle()
	}
}

func (s *scene) check(entries int) {
	s.t.Helper()
	if got, want := s.dog.count(), entries; got != want {
		s.t.Errorf("the node has %d entries, want %d", got, want)
	}
	if got, want := len(s.store.order), entries; got != want {
		s.t.Errorf("we have %d entries, want %d", got, want)
	}
	for _, why := range s.dog.failed {
		s.t.Errorf("a session of the node failed: %s", why)
	}
	for _, one := range s.link.ended {
		if one.Err != nil {
			s.t.Errorf("a session of ours ended with %v", one.Err)
		}
	}
	if n := len(s.link.sessions); n > 0 {
		s.t.Errorf("%d sessions are left", n)
	}
	if n := len(s.leash.sessions); n > 0 {
		s.t.Errorf("the node has %d sessions left", n)
	}
}
