package p2panda

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"dibber/netkit/bamboo"
)

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
			SyncRequest{Schemas: all},
			SyncRequest{Schemas: all},
			true,
			[]Message{Have{Heights: []AuthorHeights{}}, SyncDone{}},
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

// A node that puts a schema together in the second of its last announcement never announces it. What it asks for shows it.
func TestLostAnnouncement(t *testing.T) {
	both(t, func(t *testing.T, yields bool) {
		a := newAuthor(t, 1)
		noteID, defs := a.schema("note")
		s := newScene(t, yields, nil, append(defs, a.create(noteID, map[string]any{"text": "1"}))...)
		s.leash.tick()
		s.dog.publish(defs...)
		s.run(3)
		s.check(3)
		if s.leash.announced == 0 || s.dog.announce.Timestamp > s.leash.announced || !slices.Contains(s.dog.announce.Schemas, noteID) {
			t.Fatal("nothing was lost")
		}
		if !slices.Contains(s.link.theirs.Schemas, noteID) {
			t.Errorf("the peer is thought to want %v", s.link.theirs.Schemas)
		}
	})
}

// What was sent in one session is not sent again in another that is open at the same time, but in one after both.
func TestNothingIsSentTwice(t *testing.T) {
	a := newAuthor(t, 1)
	_, defs := a.schema("note")
	s := newScene(t, true, nil, defs...)
	entries := func() (n int) {
		for _, m := range s.ours() {
			if _, ok := m.(Entry); ok {
				n++
			}
		}
		return n
	}
	s.hear(SyncRequest{Schemas: System()[:1]}, SyncRequest{Session: 1, Schemas: System()[:2]}, Have{})
	if n := entries(); n != 1 {
		t.Errorf("%d entries in the first session", n)
	}
	s.hear(Have{Session: 1})
	if n := entries(); n != 1 {
		t.Errorf("%d entries in the second session", n)
	}
	s.hear(SyncDone{}, SyncDone{Session: 1}, SyncRequest{Schemas: System()}, Have{})
	if n := entries(); n != 2 {
		t.Errorf("%d entries in a session after both", n)
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
