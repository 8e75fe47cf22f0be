package rendezvous

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"
)

func testLimits(t *testing.T, l Limits) Limits {
	t.Helper()
	l, err := l.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func testEntry(p, ns string, ttl time.Duration) *entry {
	return &entry{
		entryKey: entryKey{ns: ns, peer: peer.ID(p)},
		records:  [2][]byte{[]byte("record of " + p), nil},
		ttl:      ttl,
	}
}

func one(*entry) int { return 1 }

// names lists entries as peer@namespace.
func names(entries []*entry) []string {
	out := make([]string, 0, len(entries))
	for _, e := range entries {
		out = append(out, string(e.peer)+"@"+e.ns)
	}
	return out
}

func mustPut(t *testing.T, r *registry, now time.Time, e *entry) {
	t.Helper()
	if _, err := r.put(now, e); err != nil {
		t.Fatalf("put %s@%s: %v", e.peer, e.ns, err)
	}
}

// TestQuotaSparesRefreshes fills a peer's quota and the registry: what is
// there can be refreshed, nothing can be added.
func TestQuotaSparesRefreshes(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := newRegistry(testLimits(t, Limits{PerPeer: 2, Total: 3}), now)
	mustPut(t, r, now, testEntry("a", "1", 2*time.Hour))
	mustPut(t, r, now, testEntry("a", "2", 2*time.Hour))
	if _, err := r.put(now, testEntry("a", "3", 2*time.Hour)); err == nil || err.Status != StatusNotAuthorized {
		t.Errorf("third of a peer: %v", err)
	}
	mustPut(t, r, now, testEntry("b", "1", 2*time.Hour))
	if _, err := r.put(now, testEntry("c", "1", 2*time.Hour)); err == nil || err.Status != StatusUnavailable {
		t.Errorf("fourth of the registry: %v", err)
	}
	for _, e := range []*entry{testEntry("a", "1", 3*time.Hour), testEntry("a", "2", 3*time.Hour), testEntry("b", "1", 3*time.Hour)} {
		mustPut(t, r, now, e)
	}
	r.remove(entryKey{"1", "a"})
	mustPut(t, r, now, testEntry("c", "1", 2*time.Hour))
}

// TestUnregisterThenCookiePaging pages on after entries before, at and after
// the cookie's place have gone.
func TestUnregisterThenCookiePaging(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := newRegistry(testLimits(t, Limits{}), now)
	for i := range 100 {
		mustPut(t, r, now, testEntry(fmt.Sprintf("p%02d", i), "ns", 2*time.Hour))
	}
	_, last := r.page(now, "ns", 0, 50, pageBytes, one)
	for i := 10; i < 90; i++ {
		r.remove(entryKey{"ns", peer.ID(fmt.Sprintf("p%02d", i))})
	}
	mustPut(t, r, now, testEntry("p05", "ns", 2*time.Hour)) // a refresh comes again
	found, _ := r.page(now, "ns", last, 50, pageBytes, one)
	want := []string{"p90@ns", "p91@ns", "p92@ns", "p93@ns", "p94@ns", "p95@ns", "p96@ns", "p97@ns", "p98@ns", "p99@ns", "p05@ns"}
	if diff := cmp.Diff(want, names(found)); diff != "" {
		t.Error(diff)
	}
}

// TestClockJumps sets the clock back and far ahead.
func TestClockJumps(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	r := newRegistry(testLimits(t, Limits{}), now)
	mustPut(t, r, now, testEntry("a", "ns", 2*time.Hour))

	past := now.Add(-1000 * time.Hour)
	if gone := r.sweep(past); len(gone) != 0 {
		t.Errorf("set back: %v expired", names(gone))
	}
	found, _ := r.page(past, "ns", 0, 10, pageBytes, one)
	if len(found) != 1 || found[0].remaining(past) != 7200 {
		t.Errorf("set back: found %v, want one with its whole ttl", names(found))
	}
	mustPut(t, r, past, testEntry("b", "ns", 2*time.Hour))

	future := now.Add(100 * 365 * 24 * time.Hour)
	found, _ = r.page(future, "ns", 0, 10, pageBytes, one)
	if len(found) != 0 {
		t.Errorf("set ahead: found %v", names(found))
	}
	gone := names(r.sweep(future))
	slices.Sort(gone)
	if diff := cmp.Diff([]string{"a@ns", "b@ns"}, gone); diff != "" {
		t.Errorf("set ahead: %s", diff)
	}

	mustPut(t, r, now, testEntry("c", "ns", 2*time.Hour))
	if gone := names(r.sweep(now.Add(2 * time.Hour))); !slices.Equal(gone, []string{"c@ns"}) {
		t.Errorf("set right again: %v expired, want c", gone)
	}
	if len(r.entries)+len(r.peers)+len(r.spaces)+len(r.due.minutes) != 0 {
		t.Error("an empty registry keeps something")
	}
}

// TestGapsAreSqueezedOut refreshes without end: what it leaves is bounded.
func TestGapsAreSqueezedOut(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := newRegistry(testLimits(t, Limits{}), now)
	for i := range 10_000 {
		mustPut(t, r, now, testEntry(fmt.Sprint(i%10), "ns", 2*time.Hour))
	}
	if n, m := len(r.all.slots), len(r.spaces["ns"].slots); n > 64 || m > 64 {
		t.Errorf("10 entries take %d and %d slots", n, m)
	}
}

func TestPageStopsAtBudget(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := newRegistry(testLimits(t, Limits{}), now)
	for i := range 10 {
		mustPut(t, r, now, testEntry(fmt.Sprint(i), "ns", 2*time.Hour))
	}
	found, last := r.page(now, "ns", 0, 100, 35, func(*entry) int { return 10 })
	if len(found) != 3 || last != 3 {
		t.Errorf("%d entries up to %d, want 3 up to 3", len(found), last)
	}
	found, last = r.page(now, "ns", 3, 100, 1000, func(e *entry) int { return int(e.seq % 2) })
	if len(found) != 3 || last != 10 {
		t.Errorf("%d entries up to %d, want 3 up to 10: what is left out is passed by", len(found), last)
	}
	if found, last = r.page(now, "ns", math.MaxUint64, 1, 1000, one); len(found) != 0 || last != math.MaxUint64 {
		t.Errorf("beyond the end: %d entries up to %d", len(found), last)
	}
}

// model is a registry in the simplest form: a list in order of seq.
type model struct {
	list []*entry
	seq  uint64
}

func (m *model) expire(now time.Time) {
	m.list = slices.DeleteFunc(m.list, func(e *entry) bool { return !e.expires.After(now) })
}

func (m *model) drop(key entryKey) {
	m.list = slices.DeleteFunc(m.list, func(e *entry) bool { return e.entryKey == key })
}

func (m *model) page(ns string, after uint64, limit int) []*entry {
	var out []*entry
	for _, e := range m.list {
		if (ns == "" || e.ns == ns) && e.seq > after && len(out) < limit {
			out = append(out, e)
		}
	}
	return out
}

// TestRegistryMatchesModel does the same to a registry and to the model.
func TestRegistryMatchesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_000_000, 0)
		limits, err := Limits{MinTTL: time.Minute, PerPeer: 3, Total: 6}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		r, m := newRegistry(limits, now), &model{}
		key := rapid.Custom(func(t *rapid.T) entryKey {
			return entryKey{
				ns:   rapid.SampledFrom([]string{"x", "y", "z", "w"}).Draw(t, "ns"),
				peer: peer.ID(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "peer")),
			}
		})
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				k := key.Draw(t, "key")
				ttl := time.Duration(rapid.IntRange(0, 5).Draw(t, "minutes")) * time.Minute
				m.expire(now)
				r.sweep(now)
				_, err := r.put(now, testEntry(string(k.peer), k.ns, ttl))
				if want := m.put(now, k, ttl, limits); (err == nil) != want {
					t.Fatalf("put %v: %v, accepted should be %v", k, err, want)
				}
			},
			"remove": func(t *rapid.T) {
				k := key.Draw(t, "key")
				r.remove(k)
				m.drop(k)
			},
			"pass time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 200).Draw(t, "seconds")) * time.Second)
			},
			"sweep": func(t *rapid.T) {
				r.sweep(now)
				m.expire(now)
				if len(r.entries) != len(m.list) {
					t.Fatalf("%d entries left, want %d", len(r.entries), len(m.list))
				}
			},
			"": func(t *rapid.T) {
				m.expire(now)
				ns := rapid.SampledFrom([]string{"", "x", "y", "absent"}).Draw(t, "ns")
				after := rapid.Uint64Range(0, m.seq+1).Draw(t, "after")
				limit := rapid.IntRange(1, 8).Draw(t, "limit")
				got, last := r.page(now, ns, after, limit, pageBytes, one)
				if diff := cmp.Diff(names(m.page(ns, after, limit)), names(got)); diff != "" {
					t.Fatal(diff)
				}
				rest, _ := r.page(now, ns, last, math.MaxInt, pageBytes, one)
				if diff := cmp.Diff(names(m.page(ns, after, math.MaxInt)), names(append(got, rest...))); diff != "" {
					t.Fatalf("page and the rest: %s", diff)
				}
			},
		})
	})
}

// put reports whether the registration should be accepted.
func (m *model) put(now time.Time, k entryKey, ttl time.Duration, limits Limits) bool {
	ofPeer := len(slices.DeleteFunc(slices.Clone(m.list), func(e *entry) bool { return e.peer != k.peer }))
	refresh := slices.ContainsFunc(m.list, func(e *entry) bool { return e.entryKey == k })
	if ttl < limits.MinTTL || !refresh && (ofPeer >= limits.PerPeer || len(m.list) >= limits.Total) {
		return false
	}
	m.drop(k)
	m.seq++
	e := testEntry(string(k.peer), k.ns, ttl)
	e.seq, e.expires = m.seq, now.Add(ttl)
	m.list = append(m.list, e)
	return true
}
