package peering

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"
)

// The wait doubles with each failure; new addresses and a source that works again end it.
func TestBackoff(t *testing.T) {
	w := newWorld(4)
	w.add("a")
	w.up["a"] = false
	w.pass(2 * time.Hour)
	times := w.dialsOf["a"]
	for i := 1; i < len(times); i++ {
		wait, most := times[i].Sub(times[i-1]), strangerRetry
		if i < 11 {
			most = min(most, firstRetry<<(i-1))
		}
		if wait > most || wait < most*3/4 {
			t.Errorf("wait %d is %s, want %s less a quarter at most", i, wait, most)
		}
	}
	if len(times) < 15 {
		t.Fatalf("%d dials in two hours", len(times))
	}
	w.t.found(w.now, 0, "a", seen(2))
	w.pass(2 * firstRetry)
	if len(w.dialsOf["a"]) == len(times) {
		t.Error("new addresses are not tried at once")
	}
	w.pass(2 * time.Hour)
	n := len(w.dialsOf["a"])
	w.t.revive(w.now)
	w.pass(2 * firstRetry)
	if len(w.dialsOf["a"]) == n {
		t.Error("a source works again, but nobody is dialled")
	}
}

func TestPathsAndUpgrades(t *testing.T) {
	w := newWorld(4)
	w.add("a")
	w.up["a"] = false
	w.step()
	w.told()
	opened := w.now
	w.t.observe(w.now, "a", view{path: addr.PathRelayed, since: opened, fits: fit})
	w.step()
	w.expect(t, Connected)
	w.pass(5 * time.Minute)
	var at []time.Duration
	for _, u := range w.upgrade {
		at = append(at, u.Sub(opened))
	}
	if want := []time.Duration{10 * time.Second, 30 * time.Second, 70 * time.Second, 150 * time.Second}; !slices.Equal(at, want) {
		t.Errorf("direct paths tried at %v, want %v", at, want)
	}
	w.t.observe(w.now, "a", view{path: addr.PathDirect, since: w.now, fits: fit})
	w.step()
	w.expect(t, Connected)
	n := len(w.upgrade)
	w.pass(time.Hour)
	if len(w.upgrade) > n {
		t.Error("direct, and still tried")
	}
}

// A thousand peers of which none answers, as a rendezvous point invents them: what is
// dialled a minute is bounded, and does not grow with their number.
func TestNoDialStorm(t *testing.T) {
	w := newWorld(8)
	for i := range 1000 {
		w.add(name(i))
		w.up[name(i)] = false
	}
	for minute := range 30 {
		before := len(w.dials)
		w.pass(time.Minute)
		most := 60*strangersPerSecond + 1
		if minute == 0 {
			most += 8
		}
		if n := len(w.dials) - before; n > most {
			t.Fatalf("%d dials in minute %d, want %d at most", n, minute, most)
		}
	}
	order := slices.Collect(func(yield func(int) bool) {
		for i := range 1000 {
			if len(w.dialsOf[name(i)]) > 0 && !yield(i) {
				return
			}
		}
	})
	if len(order) < 900 {
		t.Errorf("only %d of 1000 were ever tried", len(order))
	}
}

// Two nodes with the same list begin at different places in it.
func TestEveryNodeHasItsOwnOrder(t *testing.T) {
	first := func(seed uint64) (out []peer.ID) {
		w := newWorld(4)
		w.t.rng = rand.New(rand.NewPCG(seed, 0))
		for i := range 100 {
			w.add(name(i))
		}
		w.step()
		for id := range w.dialsOf {
			out = append(out, id)
		}
		slices.Sort(out)
		return out
	}
	if a, b := first(1), first(2); len(a) != 4 || slices.Equal(a, b) {
		t.Errorf("both dialled %v of 100", a)
	}
}

// Whatever happens: no more places than the cap, no more dials than at once and a minute
// are allowed, and all is well within ten seconds once the network is.
func TestTableHolds(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		limit := rapid.IntRange(1, 12).Draw(r, "limit")
		w := newWorld(limit)
		peers := rapid.IntRange(1, 20).Draw(r, "peers")
		minute := func() (n int) {
			for _, at := range w.dials {
				if w.now.Sub(at) <= time.Minute {
					n++
				}
			}
			return n
		}
		r.Repeat(map[string]func(*rapid.T){
			"": func(r *rapid.T) {
				if places, dials := w.t.used(); places > limit || dials > parallelDials {
					r.Fatalf("%d places, %d dials, limit %d", places, dials, limit)
				}
				missed := 0
				for _, c := range w.t.peers {
					if c.phase == waiting && c.missed(w.now) {
						missed++
					}
				}
				if missed > limit {
					r.Fatalf("%d peers are missed, limit %d", missed, limit)
				}
				// Strangers by the credit; the missed, of whom there are no more than places.
				if most := limit + 61*strangersPerSecond + limit*int(time.Minute/firstRetry); minute() > most {
					r.Fatalf("%d dials within a minute, limit %d", minute(), most)
				}
			},
			"found": func(r *rapid.T) { w.add(name(rapid.IntRange(1, peers).Draw(r, "peer"))); w.step() },
			"moved": func(r *rapid.T) {
				w.t.found(w.now, 0, name(rapid.IntRange(1, peers).Draw(r, "peer")), seen(rapid.IntRange(1, 9).Draw(r, "port")))
				w.step()
			},
			"gone":   func(r *rapid.T) { w.t.gone(0, name(rapid.IntRange(1, peers).Draw(r, "peer"))); w.step() },
			"revive": func(*rapid.T) { w.t.revive(w.now); w.step() },
			"down": func(r *rapid.T) {
				id := name(rapid.IntRange(1, peers).Draw(r, "peer"))
				w.up[id] = false
				w.cut(id)
				w.step()
			},
			"up": func(r *rapid.T) { w.up[name(rapid.IntRange(1, peers).Draw(r, "peer"))] = true },
			"inbound": func(r *rapid.T) {
				id := name(rapid.IntRange(1, peers).Draw(r, "peer"))
				w.up[id], w.speaks[id] = true, fit
				w.connect(id)
				w.step()
			},
			"unfit": func(r *rapid.T) {
				id := name(rapid.IntRange(1, peers).Draw(r, "peer"))
				if w.conns[id] {
					w.t.observe(w.now, id, view{path: addr.PathDirect, fits: unfit})
					w.step()
				}
			},
			"leaves": func(r *rapid.T) { w.t.leaves(name(rapid.IntRange(1, peers).Draw(r, "peer"))) },
			"time":   func(r *rapid.T) { w.pass(time.Duration(rapid.IntRange(1, 300_000).Draw(r, "ms")) * time.Millisecond) },
		})
	})
}

// After an outage of all, all that was connected is again within ten seconds.
func TestEverybodyComesBackAfterAnOutage(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		limit := rapid.IntRange(1, 40).Draw(r, "limit")
		w := newWorld(limit)
		for i := range rapid.IntRange(1, 40).Draw(r, "peers") {
			w.add(name(i))
		}
		w.pass(time.Minute)
		before := w.kept()
		for id := range w.up {
			w.up[id] = false
			w.cut(id)
		}
		w.pass(time.Duration(rapid.IntRange(0, 1_790_000).Draw(r, "ms")) * time.Millisecond)
		if w.kept() > 0 {
			r.Fatal("nobody is there, and is kept")
		}
		for id := range w.up {
			w.up[id] = true
		}
		w.pass(10*time.Second - quickTimeout)
		if w.kept() < before {
			r.Fatalf("%d of %d are back", w.kept(), before)
		}
	})
}
