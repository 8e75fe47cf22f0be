package p2panda

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
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
		err := s.replica.lacking(o.lacking.set, o.lacking.have, func(r Record) error {
			out = append(out, Entry{Session: o.lacking.id, Entry: r.Raw, Operation: r.Operation})
			s.link.wrote(s.now, o.lacking, 1, false)
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, SyncDone{Session: o.lacking.id})
		s.link.wrote(s.now, o.lacking, 0, true)
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

func both(t *testing.T, fn func(t *testing.T, yields bool)) {
	for _, yields := range []bool{true, false} {
		t.Run(fmt.Sprintf("yields=%t", yields), func(t *testing.T) { fn(t, yields) })
	}
}

func TestFirstSyncBothWaysThenMore(t *testing.T) {
	both(t, func(t *testing.T, yields bool) {
		a, b := newAuthor(t, 1), newAuthor(t, 2)
		noteID, defs := a.schema("note")
		note := a.create(noteID, map[string]any{"text": "ours"})
		s := newScene(t, yields, nil, append(defs, note)...)
		taskID, tasks := b.schema("task")
		s.dog.publish(tasks...)
		task := b.create(taskID, map[string]any{"text": "theirs"})
		s.dog.publish(task)
		s.run(4)
		s.check(6)

		more := a.update(note, note.ID)
		if _, err := s.store.Put([]Record{more}); err != nil {
			t.Fatal(err)
		}
		s.dog.publish(b.update(task, task.ID))
		s.run(2)
		s.check(8)

		// A third author goes on with a document of each.
		c := newAuthor(t, 3)
		if _, err := s.store.Put([]Record{c.update(note, more.ID)}); err != nil {
			t.Fatal(err)
		}
		s.dog.publish(c.remove(task, b.logs[b.docs[task.ID]][1].ID))
		s.run(2)
		s.check(10)
	})
}

// What aquadoggo's manager.rs tests as sequence diagrams: what each side has asked for when the other's request arrives.
func TestCollisions(t *testing.T) {
	all := System()
	one := System()[:1]
	for name, c := range map[string]struct {
		ours, theirs SyncRequest
		yields       bool
		want         []Message // what we answer
		left         [][]string
	}{
		"same number, we yield": {
			SyncRequest{Schemas: all}, SyncRequest{Schemas: all},
			true, []Message{Have{Heights: []AuthorHeights{}}, SyncDone{}},
			[][]string{all},
		},
		"same number, they yield":             {SyncRequest{Schemas: all}, SyncRequest{Schemas: all}, false, nil, [][]string{all}},
		"same number, other set, we yield":    {SyncRequest{Schemas: all}, SyncRequest{Schemas: one}, true, []Message{Have{Heights: []AuthorHeights{}}, SyncDone{}}, [][]string{one}},
		"same number, other set, they yield":  {SyncRequest{Schemas: all}, SyncRequest{Schemas: one}, false, nil, [][]string{all}},
		"other number, same set, we yield":    {SyncRequest{Schemas: all}, SyncRequest{Session: 3, Schemas: all}, true, []Message{Have{Session: 3, Heights: []AuthorHeights{}}, SyncDone{Session: 3}}, [][]string{all}},
		"other number, same set, they yield":  {SyncRequest{Schemas: all}, SyncRequest{Session: 3, Schemas: all}, false, nil, [][]string{all}},
		"other number, other set, both go on": {SyncRequest{Schemas: all}, SyncRequest{Session: 3, Schemas: one}, false, []Message{Have{Session: 3, Heights: []AuthorHeights{}}, SyncDone{Session: 3}}, [][]string{all, one}},
		"a mode that there is not":            {SyncRequest{Schemas: all}, SyncRequest{Session: 3, Mode: 1, Schemas: one}, true, nil, [][]string{all}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, c.yields, nil)
			s.hear(Announce{Version: 1, Timestamp: 1, Schemas: c.ours.Schemas})
			if err := s.tick(0); err != nil {
				t.Fatal(err)
			}
			if got := s.ours(); !reflect.DeepEqual(got[1:], []Message{c.ours}) {
				t.Fatalf("began with %#v", got)
			}
			s.hear(c.theirs)
			if got := s.ours(); !reflect.DeepEqual(got, c.want) {
				t.Errorf("answered %#v, want %#v", got, c.want)
			}
			var left [][]string
			for _, one := range s.link.sessions {
				left = append(left, one.set)
			}
			if !reflect.DeepEqual(left, c.left) {
				t.Errorf("sessions left %v, want %v", left, c.left)
			}
		})
	}
}

// A node that yields answers under the number of its own request; nobody waits for ever.
func TestAnswerUnderTheWrongNumber(t *testing.T) {
	a := newAuthor(t, 1)
	_, defs := a.schema("note")
	s := newScene(t, false, nil, defs...)
	s.leash.tick()
	s.hear(s.theirs()...)
	if err := s.tick(0); err != nil {
		t.Fatal(err)
	}
	request := s.ours()
	s.leash.theirs = &Announce{Version: 1, Schemas: System()}
	s.leash.request(System(), 5)
	for _, m := range request {
		s.leash.receive(m)
	}
	s.settle()
	s.check(2)
}

func TestRequestIsNeverSentTwice(t *testing.T) {
	s := newScene(t, false, nil)
	s.hear(Announce{Version: 1, Timestamp: 1, Schemas: System()})
	requests := 0
	for range 11 {
		if err := s.tick(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		for _, m := range s.ours() {
			if _, ok := m.(SyncRequest); ok {
				requests++
			}
		}
	}
	if requests != 1 {
		t.Errorf("asked %d times", requests)
	}
	if err := s.tick(10 * time.Second); !errors.Is(err, ErrStuck) {
		t.Errorf("a session that does not go on: %v", err)
	}
}

// A node that lost a session begins anew with the same number.
func TestPeerBeginsAnew(t *testing.T) {
	s := newScene(t, true, nil)
	s.hear(SyncRequest{Schemas: System()}, SyncRequest{Schemas: System()})
	if got := s.ours(); len(got) != 4 || len(s.link.sessions) != 1 {
		t.Errorf("answered %#v, %d sessions", got, len(s.link.sessions))
	}
	s.hear(Have{}, SyncDone{})
	if len(s.link.sessions) > 0 || len(s.link.ended) != 2 || !errors.Is(s.link.ended[0].Err, ErrStuck) || s.link.ended[1].Err != nil {
		t.Errorf("%+v", s.link.ended)
	}
}

func TestSessionsOfAPeerAreCounted(t *testing.T) {
	s := newScene(t, true, nil)
	for i := range uint64(20) {
		id := fmt.Sprintf("n%02d_0020%064x", i, i)
		s.hear(SyncRequest{Session: i, Schemas: []string{id}})
	}
	if n := len(s.link.sessions); n != maxSessions {
		t.Errorf("%d sessions are open", n)
	}
}

// The time of an announcement rises though the clock does not, and it is made once.
func TestAnnouncements(t *testing.T) {
	a := newAuthor(t, 1)
	note, defs := a.schema("note")
	s := newScene(t, true, nil, defs...)
	for range 3 {
		if err := s.tick(0); err != nil {
			t.Fatal(err)
		}
	}
	first := Announce{Version: 1, Timestamp: uint64(s.now.Unix()), Schemas: System()}
	if got := s.ours(); !reflect.DeepEqual(got, []Message{first}) {
		t.Fatalf("%#v", got)
	}
	if _, err := s.store.Put([]Record{a.create(note, map[string]any{"text": ""})}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.tick(0); err != nil {
			t.Fatal(err)
		}
	}
	second := Announce{Version: 1, Timestamp: first.Timestamp + 1, Schemas: append(System(), note)}
	if got := s.ours(); !reflect.DeepEqual(got, []Message{second}) {
		t.Errorf("%#v", got)
	}
}

func TestListOfSchemas(t *testing.T) {
	s := newScene(t, true, []string{"blob_v1", "schema_definition_v1"})
	if err := s.tick(0); err != nil {
		t.Fatal(err)
	}
	want := []string{"schema_definition_v1", "blob_v1"}
	if got := s.ours(); !slices.Equal(got[0].(Announce).Schemas, want) {
		t.Errorf("announced %#v", got)
	}
	s.hear(SyncRequest{Schemas: System()})
	if got := s.ours(); got != nil {
		t.Errorf("what is not on the list is answered: %#v", got)
	}
	s.hear(Announce{Version: 1, Timestamp: 1, Schemas: System()[1:]}, Announce{Version: 2, Timestamp: 2, Schemas: System()}, Announce{Version: 1, Timestamp: 1, Schemas: System()})
	if err := s.tick(0); err != nil {
		t.Fatal(err)
	}
	if got := s.ours(); !reflect.DeepEqual(got, []Message{SyncRequest{Schemas: want[1:]}}) {
		t.Errorf("asked %#v", got)
	}
}

// What a peer sends by mistake or malice is refused entry by entry; the session ends in order, so that the peer's table stays clean.
func TestRefusedEntries(t *testing.T) {
	a, b := newAuthor(t, 1), newAuthor(t, 2)
	note, defs := a.schema("note")
	good := a.create(note, map[string]any{"text": "good"})
	second := a.update(good, good.ID)
	foreign := b.update(good, second.ID)
	again := b.create(note, map[string]any{"text": "other document"})
	unsigned := b.create(note, map[string]any{"text": "unsigned"})
	unsigned.Raw = slices.Clone(unsigned.Raw)
	unsigned.Raw[len(unsigned.Raw)-1] ^= 1
	for name, c := range map[string]struct {
		entries []Record
		added   int
	}{
		"in order":                  {[]Record{good, second, foreign}, 3},
		"a gap":                     {[]Record{good, a.update(good, second.ID)}, 1},
		"log begins in the middle":  {[]Record{second}, 0},
		"before its previous":       {[]Record{foreign, good, second}, 2},
		"schema not asked for":      {[]Record{{Signed: defs[0].Signed, Operation: defs[0].Operation}, good}, 1},
		"signature":                 {[]Record{unsigned, good}, 1},
		"operation of another":      {[]Record{{Signed: good.Signed, Operation: second.Operation}, again}, 1},
		"no entry":                  {[]Record{{Signed: bamboo.Signed{Raw: []byte{9}}, Operation: []byte{1}}, good}, 1},
		"no operation":              {[]Record{{Signed: good.Signed, Operation: []byte{0x80}}, again}, 1},
		"another entry of the same": {[]Record{good, good}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, true, nil)
			s.hear(SyncRequest{Schemas: []string{note}}, Have{})
			for _, r := range c.entries {
				s.hear(Entry{Entry: r.Raw, Operation: r.Operation})
			}
			s.hear(SyncDone{})
			if len(s.link.ended) != 1 || len(s.store.order) != c.added {
				t.Fatalf("%d entries were taken, want %d; %+v", len(s.store.order), c.added, s.link.ended)
			}
			got := s.link.ended[0]
			if refused := len(c.entries) - c.added; got.Received != c.added || got.Refused+got.Known != refused || (got.Refused > 0) != errors.Is(got.Err, ErrRefused) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestPeerThatSendsNothingGoodLosesItsConnection(t *testing.T) {
	s := newScene(t, true, nil)
	for range maxFailures {
		s.hear(SyncRequest{Schemas: System()}, Have{}, Entry{Entry: []byte{1}, Operation: []byte{1}}, SyncDone{})
	}
	if err := s.tick(0); !errors.Is(err, ErrRefused) {
		t.Errorf("%v", err)
	}
}
