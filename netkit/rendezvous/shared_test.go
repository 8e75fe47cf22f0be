package rendezvous

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/test"
)

// memory is a [Space] of the test's own, which fails as it is told to. netkit/etcd tests a real one.
type memory struct {
	mu    sync.Mutex
	keys  map[string]SpaceChange
	log   []SpaceChange
	moved chan struct{} // closed with the next write
	// before is told what is about to be done, and after of a write that is done; an error is what
	// the server is told of it. Nil is no failure, and so are those of a server's clock.
	before, after func(doing string) error
}

func (m *memory) failing(before, after func(doing string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before, m.after = before, after
}

func newMemory() *memory {
	return &memory{keys: make(map[string]SpaceChange), moved: make(chan struct{})}
}

func (m *memory) fail(w *SpaceWrite, doing string, late bool) error {
	m.mu.Lock()
	hook := m.before
	if late {
		hook = m.after
	}
	m.mu.Unlock()
	if hook == nil || w != nil && strings.HasPrefix(w.Puts[0].Key, spaceServer) {
		return nil
	}
	return hook(doing)
}

func (m *memory) Commit(_ context.Context, w SpaceWrite) (uint64, bool, error) {
	if err := m.fail(&w, "commit", false); err != nil {
		return 0, false, err
	}
	m.mu.Lock()
	for key, revision := range w.Guards {
		if at := m.keys[key].Revision; at != revision {
			m.mu.Unlock()
			return at, false, nil
		}
	}
	revision := m.last() + 1
	for _, p := range w.Puts {
		c := SpaceChange{Key: p.Key, Value: p.Value, Revision: revision}
		m.keys[p.Key], m.log = c, append(m.log, c)
	}
	for _, key := range w.Deletes {
		delete(m.keys, key)
		m.log = append(m.log, SpaceChange{Key: key, Revision: revision, Gone: true})
	}
	close(m.moved)
	m.moved = make(chan struct{})
	m.mu.Unlock()
	return revision, true, m.fail(&w, "commit", true)
}

func (m *memory) last() uint64 {
	if len(m.log) == 0 {
		return 0
	}
	return m.log[len(m.log)-1].Revision
}

func (m *memory) Get(_ context.Context, key string) ([]byte, uint64, error) {
	if err := m.fail(nil, "get", false); err != nil {
		return nil, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keys[key].Value, m.keys[key].Revision, nil
}

func (m *memory) Remembers(context.Context, uint64) error { return nil }

func (m *memory) All(context.Context) ([]SpaceChange, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []SpaceChange
	for _, c := range m.log {
		if m.keys[c.Key].Revision == c.Revision && !c.Gone {
			all = append(all, c)
		}
	}
	slices.Reverse(all) // those of one revision come in any order
	slices.SortStableFunc(all, func(a, b SpaceChange) int { return cmp.Compare(a.Revision, b.Revision) })
	return all, m.last(), nil
}

func (m *memory) Follow(ctx context.Context, after uint64, fn func(uint64, []SpaceChange)) error {
	for {
		m.mu.Lock()
		var news []SpaceChange
		for _, c := range m.log {
			if c.Revision > after {
				news = append(news, c)
			}
		}
		moved := m.moved
		m.mu.Unlock()
		for i := 0; i < len(news); {
			n := i
			for n < len(news) && news[n].Revision == news[i].Revision {
				n++
			}
			after = news[i].Revision
			fn(after, news[i:n])
			i = n
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sharing opens a backend on a space.
func sharing(t *testing.T, space Space, l Limits) *shared {
	t.Helper()
	b, err := openShared(space, newRegistry(testLimits(t, l), time.Now()), new(atomic.Pointer[cookieKey]), func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b
}

func randomPeer(t *testing.T) string {
	t.Helper()
	id, err := test.RandPeerID()
	if err != nil {
		t.Fatal(err)
	}
	return string(id)
}

func (b *shared) mustPut(t *testing.T, c claim) {
	t.Helper()
	if _, _, why := b.put(t.Context(), c); why != nil {
		t.Fatal(why)
	}
}

// TestUnregisterIsTriedAgain fails attempts to unregister before and after they are made.
func TestUnregisterIsTriedAgain(t *testing.T) {
	for name, lost := range map[string]func(m *memory, hook func(string) error){
		"not written":      func(m *memory, hook func(string) error) { m.failing(hook, nil) },
		"written, no word": func(m *memory, hook func(string) error) { m.failing(nil, hook) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			a, b := sharing(t, m, Limits{}), sharing(t, m, Limits{})
			c := testClaim(randomPeer(t), "ns", 2*time.Hour)
			a.mustPut(t, c)
			var failures atomic.Int64
			lost(m, func(string) error {
				if failures.Add(1) <= 3 {
					return ErrSpaceAway
				}
				return nil
			})
			if found, why := b.remove(t.Context(), c.entryKey); !found || why != nil {
				t.Fatalf("found %v, %v", found, why)
			}
			if why := a.fresh(t.Context()); why != nil || a.reg.current(c.entryKey) != nil {
				t.Fatalf("it is still there, or %v", why)
			}
			if found, why := b.remove(t.Context(), c.entryKey); found || why != nil {
				t.Fatalf("once more: found %v, %v", found, why)
			}
		})
	}
}

// TestUnregisterLeavesWhatIsNewer registers a peer anew while an attempt to unregister it fails: at
// any point of that, the later registration stays.
func TestUnregisterLeavesWhatIsNewer(t *testing.T) {
	for name, when := range map[string]struct {
		doing string
		fails error
	}{"before it is read": {"get", ErrSpaceAway}, "before it is written": {"commit", nil}, "while it is tried again": {"commit", ErrSpaceAway}} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			b := sharing(t, m, Limits{})
			c := testClaim(randomPeer(t), "ns", 2*time.Hour)
			b.mustPut(t, c)
			var once sync.Once
			name := spaceEntryKey(c.entryKey)
			m.failing(func(doing string) (err error) {
				if doing == when.doing {
					once.Do(func() {
						err = when.fails
						later := time.Now().Add(clockApart + time.Minute) // another server's time, for which nobody waits
						m.mu.Lock()
						newer := SpaceChange{Key: name, Value: encodeClaim(c, later.Add(c.ttl)), Revision: m.last() + 1}
						m.keys[name], m.log = newer, append(m.log, newer)
						m.mu.Unlock()
					})
				}
				return err
			}, nil)
			if found, why := b.remove(t.Context(), c.entryKey); found || why != nil {
				t.Fatalf("found %v, %v", found, why)
			}
			if _, revision, err := m.Get(t.Context(), name); err != nil || revision == 0 {
				t.Fatalf("the newer registration is gone, %v", err)
			}
		})
	}
}

// TestUnregisterGivesUp: what could not be done is refused and counted as that.
func TestUnregisterGivesUp(t *testing.T) {
	m := newMemory()
	s := newServer(t, newHost(t), ServerConfig{Space: m, Timeout: time.Second})
	c := testClaim(randomPeer(t), "ns", 2*time.Hour)
	s.backend.(*shared).mustPut(t, c)
	m.failing(func(string) error { return ErrSpaceAway }, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.unregister(ctx, c.peer, &unregisterMessage{ns: &c.ns}); err == nil {
		t.Error("it claims to be done")
	}
	if counted := s.Stats().Requests["unregister"]; counted["E_UNAVAILABLE"] != 1 || counted["OK"] != 0 {
		t.Errorf("counted %v", counted)
	}
}

// TestSharedTotal registers more than there is room for, at two servers at once: as many go as come,
// and no peer that holds the least is chosen before one that holds more.
func TestSharedTotal(t *testing.T) {
	const total, more, greedy = 16, 32, 8
	m := newMemory()
	at := [2]*shared{sharing(t, m, Limits{Total: total}), sharing(t, m, Limits{Total: total})}
	hog := randomPeer(t)
	for i := range total {
		who := hog
		if i >= greedy {
			who = randomPeer(t)
		}
		at[0].mustPut(t, testClaim(who, fmt.Sprint(i), 2*time.Hour))
	}
	if why := at[1].fresh(t.Context()); why != nil { // before it knows what there is it makes no room
		t.Fatal(why)
	}
	var running sync.WaitGroup
	for i := range more {
		c := testClaim(randomPeer(t), "ns", 2*time.Hour)
		running.Go(func() {
			if _, _, why := at[i%2].put(t.Context(), c); why != nil {
				t.Error(why)
			}
		})
	}
	running.Wait()
	for i, b := range at {
		if why := b.fresh(t.Context()); why != nil {
			t.Fatal(why)
		}
		if _, n, _ := b.reg.counts(); n != total {
			t.Errorf("server %d holds %d registrations, not %d", i, n, total)
		}
		if o := b.reg.ledger.owners[peer.ID(hog)]; o != nil && o.held.count > 1 {
			t.Errorf("who held %d still holds %d", greedy, o.held.count)
		}
	}
}

// TestPutBack puts the registry back to what it was before: a server that knows more claims none of it.
func TestPutBack(t *testing.T) {
	m := newMemory()
	b := sharing(t, m, Limits{})
	b.mustPut(t, testClaim(randomPeer(t), "ns", 2*time.Hour))
	if why := b.fresh(t.Context()); why != nil {
		t.Fatal(why)
	}
	m.mu.Lock()
	m.keys, m.log = make(map[string]SpaceChange), nil
	m.mu.Unlock()
	if why := b.fresh(t.Context()); why == nil || why.Status != StatusUnavailable {
		t.Errorf("it answers with %v", why)
	}
	b.health.mu.Lock()
	defer b.health.mu.Unlock()
	if why := b.health.away(); why == nil || !strings.Contains(why.Error(), "not the one it was") {
		t.Errorf("it knows %v", why)
	}
}

// TestLoadsWholeRevisions: who waits for a revision that a load brings is not answered before all of it is there.
func TestLoadsWholeRevisions(t *testing.T) {
	m := newMemory()
	a, b := sharing(t, m, Limits{}), sharing(t, m, Limits{})
	b.close() // it follows no more
	came := 0
	b.reg.publish = func(c *change) {
		b.progress.mu.Lock()
		defer b.progress.mu.Unlock()
		if came++; b.progress.reached >= c.seq {
			t.Errorf("%d is reached before its registration is there", c.seq)
		}
	}
	for i := range 3 {
		a.mustPut(t, testClaim(randomPeer(t), fmt.Sprint(i), 2*time.Hour))
	}
	if _, err := b.load(t.Context()); err != nil || came != 3 {
		t.Fatalf("%d came, %v", came, err)
	}
}
