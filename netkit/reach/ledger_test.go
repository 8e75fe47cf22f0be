package reach

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"pgregory.net/rapid"
)

var errOther = errors.New("stream reset")

// world answers a ledger's questions in virtual time: each server as it was told.
type world struct {
	t     interface{ Fatalf(string, ...any) }
	l     *ledger
	now   time.Time
	truth map[string]bool         // by address: reachable
	lies  map[peer.ID]bool        // servers that say the opposite
	fails map[peer.ID]error       // servers that answer with an error
	asked map[peer.ID][]time.Time // questions put
	takes time.Duration           // from question to answer
	all   []Event
}

func newWorld(t interface{ Fatalf(string, ...any) }, seed uint64) *world {
	rng := rand.New(rand.NewPCG(seed, 0))
	return &world{
		t: t, l: newLedger(rng.Perm), now: time.Unix(1_700_000_000, 0), truth: map[string]bool{},
		lies: map[peer.ID]bool{}, fails: map[peer.ID]error{}, asked: map[peer.ID][]time.Time{}, takes: 2 * time.Second,
	}
}

func at(i int) ma.Multiaddr { return ma.StringCast(fmt.Sprintf("/ip4/17.0.0.%d/udp/4001/quic-v1", i)) }

func ids(names ...string) (out []peer.ID) {
	for _, n := range names {
		out = append(out, peer.ID(n))
	}
	return out
}

func own(addrs ...ma.Multiaddr) (out []candidate) {
	for _, a := range addrs {
		out = append(out, candidate{addr: a})
	}
	return out
}

func (w *world) note(events []Event) {
	w.all = append(w.all, events...)
}

func (w *world) servers(names ...string) { w.l.setServers(w.now, ids(names...)) }

func (w *world) addrs(list ...candidate) { w.note(w.l.setAddrs(w.now, list)) }

// run lets d pass.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	type reply struct {
		q    question
		when time.Time
	}
	var open []reply
	for w.now.Before(end) {
		due, events, next := w.l.ask(w.now)
		w.note(events)
		for _, q := range due {
			w.asked[q.server] = append(w.asked[q.server], w.now)
			open = append(open, reply{q, w.now.Add(w.takes)})
		}
		to := end
		if !next.IsZero() && next.Before(to) {
			to = next
		}
		if len(open) > 0 && open[0].when.Before(to) {
			to = open[0].when
		}
		w.now = to
		for len(open) > 0 && !open[0].when.After(w.now) {
			q := open[0].q
			open = open[1:]
			o := outcome{reachable: w.truth[q.about.String()] != w.lies[q.server], err: w.fails[q.server]}
			w.note(w.l.answer(w.now, q, o))
		}
	}
	for _, r := range open { // what is under way is answered before anything else happens
		w.note(w.l.answer(w.now, r.q, outcome{reachable: w.truth[r.q.about.String()] != w.lies[r.q.server], err: w.fails[r.q.server]}))
	}
}

// states are the states told, in order.
func (w *world) states() (out []State) {
	for _, e := range w.all {
		if e.State != nil {
			out = append(out, e.State.Is)
		}
	}
	return out
}

func (w *world) want(states ...State) {
	if got := w.states(); !slices.Equal(got, states) {
		w.t.Fatalf("states %v, want %v", got, states)
	}
}

func TestLedger(t *testing.T) {
	reach := func(w *world) { w.truth[at(1).String()] = true }
	for name, c := range map[string]struct {
		play func(w *world)
		want []State
	}{
		"nobody to ask": {func(w *world) {
			reach(w)
			w.addrs(own(at(1))...)
			w.run(time.Hour)
		}, nil},
		"one server": {func(w *world) {
			reach(w)
			w.servers("a")
			w.addrs(own(at(1))...)
			w.run(time.Minute)
		}, []State{Public}},
		"one server that says no": {func(w *world) {
			w.servers("a")
			w.addrs(own(at(1))...)
			w.run(time.Minute)
		}, []State{Private}},
		"two servers that differ know nothing": {func(w *world) {
			reach(w)
			w.lies["b"] = true
			w.servers("a", "b")
			w.addrs(own(at(1))...)
			w.run(time.Hour)
		}, nil},
		"the majority of three": {func(w *world) {
			reach(w)
			w.lies["b"] = true
			w.servers("a", "b", "c")
			w.addrs(own(at(1))...)
			w.run(time.Minute)
		}, []State{Public}},
		"one of several addresses is enough": {func(w *world) {
			reach(w)
			w.servers("a", "b")
			w.addrs(own(at(1), at(2))...)
			w.run(time.Minute)
		}, []State{Public}},
		"a liar does not turn a public node": {func(w *world) {
			reach(w)
			w.servers("a", "b")
			w.addrs(own(at(1))...)
			w.run(time.Minute)
			w.lies["b"] = true
			w.run(48 * time.Hour)
		}, []State{Public}},
		"nor does it when it comes later": {func(w *world) {
			reach(w)
			w.servers("a", "b")
			w.addrs(own(at(1))...)
			w.run(time.Minute)
			w.lies["c"] = true
			w.servers("a", "b", "c")
			w.run(48 * time.Hour)
		}, []State{Public}},
		"a firewall appears": {func(w *world) {
			reach(w)
			w.servers("a", "b")
			w.addrs(own(at(1))...)
			w.run(time.Minute)
			w.truth[at(1).String()] = false
			w.run(lastRound + time.Minute)
		}, []State{Public, Private}},
		"and goes again": {func(w *world) {
			w.servers("a", "b", "c")
			w.addrs(own(at(1))...)
			w.run(5 * time.Hour)
			reach(w)
			w.run(lastRound + time.Minute)
		}, []State{Private, Public}},
		"the only server, once mistaken": {func(w *world) {
			reach(w)
			w.servers("a")
			w.addrs(own(at(1))...)
			w.run(time.Minute)
			w.lies["a"] = true
			w.run(firstRound - time.Minute + 5*time.Second) // the recheck
			w.lies["a"] = false
			w.run(time.Hour)
		}, []State{Public}},
		"the only server, twice": {func(w *world) {
			reach(w)
			w.servers("a")
			w.addrs(own(at(1))...)
			w.run(time.Minute)
			w.truth[at(1).String()] = false
			w.run(lastRound)
		}, []State{Public, Private}},
		"one is mistaken while the other fails": {func(w *world) {
			reach(w)
			w.servers("a", "b")
			w.addrs(own(at(1))...)
			w.run(time.Minute)
			w.fails["a"], w.lies["b"] = errOther, true
			w.run(firstRound + time.Minute)
			w.fails["a"], w.lies["b"] = nil, false
			w.run(time.Hour)
		}, []State{Public}},
		"one is right while the other fails for good": {func(w *world) {
			reach(w)
			w.servers("a", "b")
			w.addrs(own(at(1))...)
			w.run(time.Minute)
			w.fails["a"], w.truth[at(1).String()] = errOther, false
			w.run(3 * time.Hour)
		}, []State{Public, Private}},
		"another address": {func(w *world) {
			reach(w)
			w.servers("a", "b")
			w.addrs(own(at(1))...)
			w.run(time.Minute)
			w.addrs(own(at(2))...)
			w.run(time.Minute)
		}, []State{Public, Undecided, Private}},
		"a private node stays so while it tries another address": {func(w *world) {
			w.servers("a", "b")
			w.addrs(own(at(1))...)
			w.run(time.Minute)
			w.addrs(own(at(1), at(2))...)
			w.run(time.Minute)
		}, []State{Private}},
		"servers that fail say nothing": {func(w *world) {
			w.fails["a"], w.fails["b"] = errOther, ErrBusy
			w.servers("a", "b")
			w.addrs(own(at(1))...)
			w.run(10 * time.Hour)
		}, nil},
		"an address that nobody dials is not waited for": {func(w *world) {
			w.servers("a")
			w.fails["a"] = ErrUnwilling
			w.addrs(own(at(2))...)
			w.run(time.Minute)
			w.fails["a"] = nil
			w.addrs(own(at(1), at(2))...)
			w.run(time.Minute)
		}, []State{Private}},
		"v1 where nobody speaks v2": {func(w *world) {
			w.note(w.l.setV1(w.now, Private))
			w.run(time.Hour)
			w.note(w.l.setV1(w.now, Public))
		}, []State{Private, Public}},
		"v1 does not override v2": {func(w *world) {
			reach(w)
			w.servers("a", "b")
			w.addrs(own(at(1))...)
			w.run(time.Minute)
			w.note(w.l.setV1(w.now, Private))
			w.run(time.Hour)
		}, []State{Public}},
		"v1 does not come before v2 that is being asked": {func(w *world) {
			w.servers("a", "b")
			w.addrs(own(at(1))...)
			w.run(time.Second)
			w.note(w.l.setV1(w.now, Public))
			w.run(time.Hour)
		}, []State{Private}},
		"v1 gives way to v2": {func(w *world) {
			reach(w)
			w.note(w.l.setV1(w.now, Private))
			w.run(time.Minute)
			w.servers("a", "b")
			w.addrs(own(at(1))...)
			w.run(time.Minute)
		}, []State{Private, Public}},
		"an address that one peer alone sees is asked of the others": {func(w *world) {
			// As behind a symmetric NAT that filters by address: each server comes in
			// where it sees the node itself.
			w.lies["a"] = true
			w.servers("a", "b")
			w.addrs(candidate{at(1), ids("a")})
			w.run(time.Hour)
		}, []State{Private}},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				w := newWorld(t, seed)
				c.play(w)
				w.want(c.want...)
			}
		})
	}
}

// Whatever servers, addresses and failures there are: nobody is asked more often
// than it answers, the ledger comes to rest, and what it says is what those said
// that it names.
func TestLedgerProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, rapid.Uint64().Draw(rt, "seed"))
		w.takes = time.Duration(rapid.IntRange(1, 20).Draw(rt, "seconds")) * time.Second
		names := []string{"a", "b", "c", "d", "e", "f"}
		for _, n := range names {
			w.lies[peer.ID(n)] = rapid.Bool().Draw(rt, n+" lies")
			w.fails[peer.ID(n)] = rapid.SampledFrom([]error{nil, nil, nil, ErrBusy, ErrUnwilling, errOther}).Draw(rt, n+" fails")
		}
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			var list []candidate
			for i := range rapid.IntRange(0, 4).Draw(rt, "addrs") {
				c := candidate{addr: at(i)}
				if rapid.Bool().Draw(rt, "observed") {
					c.observers = ids(rapid.SampledFrom(names).Draw(rt, "observer"))
				}
				w.truth[c.addr.String()] = rapid.Bool().Draw(rt, "reachable")
				list = append(list, c)
			}
			w.servers(names[:rapid.IntRange(0, len(names)).Draw(rt, "servers")]...)
			w.addrs(list...)
			if rapid.Bool().Draw(rt, "v1 speaks") {
				w.note(w.l.setV1(w.now, rapid.SampledFrom([]State{Undecided, Public, Private}).Draw(rt, "v1")))
			}
			w.run(time.Duration(rapid.IntRange(1, 180).Draw(rt, "minutes")) * time.Minute)
		}
		for p, times := range w.asked {
			for i := range times[1:] {
				if took := times[i+1].Sub(times[i]); took < gap {
					rt.Fatalf("%s was asked twice within %s", p, took)
				}
			}
		}
		is, was := Undecided, map[string]Verdict{}
		for _, e := range w.all {
			switch {
			case e.State != nil && (e.State.Was != is || e.State.Is == is):
				rt.Fatalf("%s came after %s", *e.State, is)
			case e.State != nil:
				is = e.State.Is
			case e.Address.Is == e.Address.Was:
				rt.Fatalf("no change: %v", *e.Address)
			case was[e.Address.Addr.String()] != "" && was[e.Address.Addr.String()] != e.Address.Was:
				rt.Fatalf("%v came after %s", *e.Address, was[e.Address.Addr.String()])
			case len(e.Address.By) > e.Address.Asked, e.Address.Is != Unknown && len(e.Address.By) == 0:
				rt.Fatalf("%d of %d say %s", len(e.Address.By), e.Address.Asked, e.Address.Is)
			default:
				was[e.Address.Addr.String()] = e.Address.Is
			}
		}
		if is != w.l.state {
			rt.Fatalf("told %s, is %s", is, w.l.state)
		}
	})
}

// Among enough honest servers one liar changes nothing, whatever it says and
// whenever it comes.
func TestOneLiarAmongSeveral(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, rapid.Uint64().Draw(rt, "seed"))
		w.lies["liar"] = true
		reachable := rapid.Bool().Draw(rt, "reachable")
		w.truth[at(1).String()] = reachable
		names := []string{"a", "b", "c", "d"}[:rapid.IntRange(2, 4).Draw(rt, "honest")]
		w.servers(append(names, "liar")...)
		w.addrs(own(at(1))...)
		w.run(time.Duration(rapid.IntRange(1, 100).Draw(rt, "hours")) * time.Hour)
		want := Private
		if reachable {
			want = Public
		}
		w.want(want)
	})
}
