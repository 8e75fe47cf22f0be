package replicate

import (
	"sync"
	"testing"
)

// TestSessionsAreListed: a session is listed, with how far it is, while it lasts.
func TestSessionsAreListed(t *testing.T) {
	a, b := replicaOf(t), replicaOf(t)
	write(t, a.Store, 1, 700, 100)
	na, nb := node(t), node(t)
	ended := make(chan Event, 8)
	s, err := New(nb, b, Config{Every: -1, On: func(e Event) { ended <- e }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	connect(t, na, nb)
	if got := s.Sessions(); len(got) != 0 {
		t.Errorf("before any: %+v", got)
	}
	var mu sync.Mutex
	var seen []Session
	look := func(Progress) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, s.Sessions()...)
	}
	res, err := Do(t.Context(), na, nb.ID(), a, SyncConfig{SessionConfig: SessionConfig{On: look}})
	if err != nil || res.Pushed.Entries != 700 {
		t.Fatalf("%+v, %v", res, err)
	}
	<-ended
	if got := s.Sessions(); len(got) != 0 {
		t.Errorf("after the end: %+v", got)
	}
	if len(seen) == 0 {
		t.Fatal("the session was not listed")
	}
	for _, one := range seen {
		if one.Peer != na.ID() || one.Began || one.Path != "direct" || one.Since.IsZero() {
			t.Errorf("%+v", one)
		}
	}
	if last := seen[len(seen)-1]; last.Need != 700 || last.Pulled.Entries == 0 {
		t.Errorf("at the last look %+v", last)
	}
}
