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

// model is a registry in the simplest form: a list in order of seq.
type model struct {
	limits Limits
	list   []modelEntry
	seq    uint64
	// homes are the networks peers last registered from; touched counts when
	// a peer or network last changed.
	homes   map[peer.ID]prefix
	touched map[any]int
	touches int
}

type modelEntry struct {
	claim
	seq     uint64
	expires time.Time
}

func (e modelEntry) name() string { return string(e.peer) + "@" + e.ns }

func (m *model) touch(p peer.ID) {
	m.touches++
	m.touched[p], m.touched[m.homes[p]] = m.touches, m.touches
}

func (m *model) where(is func(modelEntry) bool) (out []modelEntry) {
	for _, e := range m.list {
		if is(e) {
			out = append(out, e)
		}
	}
	return out
}

func (m *model) ofPeer(p peer.ID) []modelEntry {
	return m.where(func(e modelEntry) bool { return e.peer == p })
}

func (m *model) ofNet(n prefix) []modelEntry {
	return m.where(func(e modelEntry) bool { return m.homes[e.peer] == n })
}

// drop ends a registration.
func (m *model) drop(key entryKey) {
	for i, e := range m.list {
		if e.entryKey == key {
			m.list = slices.Delete(m.list, i, i+1)
			m.touch(key.peer)
			return
		}
	}
}

// victim is whom to evict for a newcomer.
func (m *model) victim(c claim) modelEntry {
	var nets []prefix
	var peers []peer.ID
	for _, e := range m.list {
		nets, peers = append(nets, m.homes[e.peer]), append(peers, e.peer)
	}
	net := slices.MinFunc(nets, func(a, b prefix) int {
		return 1000*(len(m.ofNet(b))-len(m.ofNet(a))) + sign(m.touched[a]-m.touched[b])
	})
	if own := len(m.ofNet(c.from)); own > 0 && own+1 > len(m.ofNet(net)) {
		net = c.from
	}
	peers = slices.DeleteFunc(peers, func(p peer.ID) bool { return m.homes[p] != net })
	who := slices.MinFunc(peers, func(a, b peer.ID) int {
		return 1000*(len(m.ofPeer(b))-len(m.ofPeer(a))) + sign(m.touched[a]-m.touched[b])
	})
	if own := len(m.ofPeer(c.peer)); own > 0 && m.homes[c.peer] == net && own+1 > len(m.ofPeer(who)) {
		who = c.peer
	}
	return m.ofPeer(who)[0]
}

func sign(n int) int { return min(max(n, -1), 1) }

// put returns whether the registration should be accepted, and what is evicted.
func (m *model) put(now time.Time, c claim) (evicted []string, ok bool) {
	refresh := slices.ContainsFunc(m.list, func(e modelEntry) bool { return e.entryKey == c.entryKey })
	inNS := m.where(func(e modelEntry) bool { return e.ns == c.ns })
	switch {
	case c.ttl < m.limits.MinTTL:
		return nil, false
	case refresh:
	case len(m.ofPeer(c.peer)) >= m.limits.PerPeer, len(inNS) >= m.limits.PerNamespace, len(m.ofNet(c.from)) >= m.limits.PerPrefix:
		return nil, false
	case len(m.list) >= m.limits.Total:
		v := m.victim(c)
		evicted = []string{v.name()}
		m.drop(v.entryKey)
	}
	if len(m.ofPeer(c.peer)) > 0 && m.homes[c.peer] != c.from {
		m.touch(c.peer)
	}
	m.homes[c.peer] = c.from
	m.list = slices.DeleteFunc(m.list, func(e modelEntry) bool { return e.entryKey == c.entryKey })
	m.seq++
	m.list = append(m.list, modelEntry{claim: c, seq: m.seq, expires: now.Add(c.ttl)})
	m.touch(c.peer)
	return evicted, true
}

func (m *model) page(ns string, after uint64, limit int, want wanted) (out []string) {
	out = []string{}
	for _, e := range m.list {
		if (ns == "" || e.ns == ns) && e.seq > after && len(out) < limit && want.takes(e.packed) {
			out = append(out, e.name())
		}
	}
	return out
}

func drawClaim(t *rapid.T) claim {
	c := testClaim(
		rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "peer"),
		rapid.SampledFrom([]string{"x", "y", "z", "w"}).Draw(t, "ns"),
		time.Duration(rapid.IntRange(0, 5).Draw(t, "minutes"))*time.Minute,
	).fromNet(rapid.ByteRange(1, 3).Draw(t, "net"))
	record := []byte("record")
	c.packed = pack(c.peer, [][2][]byte{{record, nil}, {nil, record}, {record, record}}[rapid.IntRange(0, 2).Draw(t, "flavours")])
	return c
}

// TestRegistryMatchesModel does the same to a registry and to the model. The
// registry is one with a journal: what was put is settled, or undone, later.
func TestRegistryMatchesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_000_000, 0)
		limits, err := Limits{MinTTL: time.Minute, PerPeer: 3, PerNamespace: 4, PerPrefix: 5, Total: 8}.WithDefaults()
		if err != nil {
			t.Fatal(err)
		}
		r := newRegistry(limits, now)
		m := &model{limits: limits, homes: make(map[peer.ID]prefix), touched: make(map[any]int)}
		durable := rapid.Bool().Draw(t, "durable")
		var batch []*change
		settle := func() {
			if len(batch) > 0 {
				r.visible.Store(batch[len(batch)-1].seq)
			}
			for _, c := range batch {
				r.settle(c)
			}
			batch = nil
		}
		if durable {
			r.record = func(c *change) { batch = append(batch, c) }
		}
		// Ends are numbered too, which the model does not count: its seqs
		// are looked up by registration.
		seqs := make(map[uint64]uint64)
		expire := func() {
			// In the registry's order, on which ties depend.
			for _, c := range r.sweep(now) {
				i := slices.IndexFunc(m.list, func(e modelEntry) bool { return e.entryKey == c.e.key() })
				if i < 0 || m.list[i].expires.After(now) {
					t.Fatalf("%v expired", names([]*entry{c.e}))
				}
				m.drop(c.e.key())
			}
			if left := m.where(func(e modelEntry) bool { return !e.expires.After(now) }); len(left) > 0 {
				t.Fatalf("%v did not expire", left)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				c := drawClaim(t)
				expire()
				done, err := r.put(now, c)
				evicted, ok := m.put(now, c)
				if (err == nil) != ok {
					t.Fatalf("put %s@%s: %v, accepted should be %v", c.peer, c.ns, err, ok)
				}
				if ok {
					seqs[m.seq] = done.seq
					if diff := cmp.Diff(evicted, gone(done.evicted)); diff != "" {
						t.Fatalf("put %s@%s evicts: %s", c.peer, c.ns, diff)
					}
				}
			},
			"remove": func(t *rapid.T) {
				key := drawClaim(t).entryKey
				r.remove(key)
				m.drop(key)
			},
			"pass time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 200).Draw(t, "seconds")) * time.Second)
				expire()
			},
			"settle": func(*rapid.T) { settle() },
			"": func(t *rapid.T) {
				settle()
				expire()
				if _, n, _ := r.counts(); n != len(m.list) {
					t.Fatalf("%d entries, want %d", n, len(m.list))
				}
				ns := rapid.SampledFrom([]string{"", "x", "y", "absent"}).Draw(t, "ns")
				after := rapid.Uint64Range(0, m.seq+1).Draw(t, "after")
				q := queryOf(r, now, ns, seqs[after], rapid.IntRange(1, 8).Draw(t, "limit"))
				if seqs[after] == 0 && after > 0 {
					q.after = math.MaxUint64
				}
				q.want = rapid.SampledFrom([]wanted{{true, true}, {true, false}, {false, true}}).Draw(t, "want")
				got, last := r.page(q)
				if diff := cmp.Diff(m.page(ns, after, q.limit, q.want), names(got)); diff != "" {
					t.Fatal(diff)
				}
				q.after, q.limit = last, math.MaxInt
				rest, _ := r.page(q)
				if diff := cmp.Diff(m.page(ns, after, math.MaxInt, q.want), names(append(got, rest...))); diff != "" {
					t.Fatalf("page and the rest: %s", diff)
				}
			},
		})
		now = now.Add(time.Hour)
		expire()
		settle()
		checkEmpty(t, r)
	})
}

// TestUndoneMatchesModel puts and takes back at random: what is settled is what
// a model of the settled changes alone has.
func TestUndoneMatchesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_000_000, 0)
		limits, err := Limits{}.WithDefaults()
		if err != nil {
			t.Fatal(err)
		}
		r := newRegistry(limits, now)
		var batch []*change
		r.record = func(c *change) { batch = append(batch, c) }
		settled := make(map[entryKey]uint64)
		for range rapid.IntRange(1, 10).Draw(t, "batches") {
			for range rapid.IntRange(1, 6).Draw(t, "puts") {
				c := drawClaim(t)
				c.ttl = 2 * time.Hour
				if _, err := r.put(now, c); err != nil {
					t.Fatal(err)
				}
			}
			// Another batch may begin before this one is written.
			full := batch
			batch = nil
			early := drawClaim(t)
			early.ttl = 2 * time.Hour
			if _, err := r.put(now, early); err != nil {
				t.Fatal(err)
			}
			fails := rapid.Bool().Draw(t, "write fails")
			if fails {
				for _, c := range slices.Backward(full) {
					r.undo(now, c)
				}
			}
			r.visible.Store(full[len(full)-1].seq)
			for _, c := range full {
				if fails {
					continue
				}
				r.settle(c)
				if c.put() { // not the end of what a failed write was to end
					settled[c.e.key()] = c.seq
				}
			}
			got := make(map[entryKey]uint64)
			for _, e := range everything(r) {
				got[e.key()] = e.seq
			}
			if diff := cmp.Diff(settled, got, cmp.AllowUnexported(entryKey{})); diff != "" {
				t.Fatalf("after a batch that failed: %v: %s", fails, diff)
			}
		}
		for _, c := range slices.Backward(batch) {
			r.undo(now, c)
		}
		r.visible.Store(math.MaxInt64)
		if n := len(everything(r)); n != len(settled) {
			t.Fatalf("%d left, want %d", n, len(settled))
		}
		r.sweep(now.Add(3 * time.Hour))
		checkEmpty(t, r)
	})
}

// TestWheelMatchesList adds, removes and lets expire at random times, with
// leaps of the clock to both sides.
func TestWheelMatchesList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w wheel
		var now time.Duration
		held := make(map[*entry]bool)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				ttl := rapid.OneOf(rapid.Int64Range(0, 200), rapid.Int64Range(0, 20_000), rapid.Int64Range(0, 40_000_000)).Draw(t, "seconds")
				e := &entry{expires: now + time.Duration(ttl)*time.Second + time.Duration(rapid.IntRange(0, 999).Draw(t, "ms"))*time.Millisecond}
				w.add(e)
				held[e] = true
			},
			"remove": func(t *rapid.T) {
				for e := range held {
					w.remove(e)
					delete(held, e)
					return
				}
			},
			"pass": func(t *rapid.T) {
				seconds := rapid.OneOf(rapid.Int64Range(0, 100), rapid.Int64Range(-20_000, 20_000), rapid.Int64Range(0, 40_000_000)).Draw(t, "seconds")
				now += time.Duration(seconds) * time.Second
				limit := rapid.IntRange(1, 5).Draw(t, "limit")
				for {
					due := w.due(now, limit)
					for _, e := range due {
						if !held[e] || e.expires > now {
							t.Fatalf("at %s came what expires at %s", now, e.expires)
						}
						delete(held, e)
					}
					if len(due) < limit {
						break
					}
				}
			},
			"": func(t *rapid.T) {
				for e := range held {
					// To the tick, and to one more after a clock went back less than that.
					if e.expires <= now-2*wheelTick {
						t.Fatalf("at %s waits what expired at %s", now, e.expires)
					}
				}
				if n := waiting(&w); n != len(held) {
					t.Fatalf("%d wait, want %d", n, len(held))
				}
			},
		})
	})
}

// TestTallyMatchesList sets counts at random.
func TestTallyMatchesList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all tally[*owner]
		owners := make([]*owner, 6)
		touched := make(map[*owner]int)
		for i := range owners {
			owners[i] = &owner{id: peer.ID(fmt.Sprint(i))}
		}
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			o := rapid.SampledFrom(owners).Draw(t, "owner")
			all.set(o, rapid.IntRange(0, 5).Draw(t, "count"))
			touched[o] = step
			var want *owner
			for _, o := range owners {
				if o.held.count > 0 && (want == nil || o.held.count > want.held.count ||
					o.held.count == want.held.count && touched[o] < touched[want]) {
					want = o
				}
			}
			if got := all.heaviest(); got != want {
				t.Fatalf("heaviest %+v, want %+v", got, want)
			}
		}
	})
}
