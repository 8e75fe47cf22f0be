package rendezvous

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
)

func testLimits(t *testing.T, l Limits) Limits {
	t.Helper()
	l, err := l.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func testClaim(p, ns string, ttl time.Duration) claim {
	return claim{
		entryKey: entryKey{ns: ns, peer: peer.ID(p)},
		packed:   pack(peer.ID(p), [2][]byte{[]byte("record of " + p), nil}),
		ttl:      ttl,
	}
}

// fromNet is the claim made from another network.
func (c claim) fromNet(n byte) claim {
	c.from = prefix{4, 192, 0, n}
	return c
}

// queryOf asks for any flavour, and for as many bytes as there are.
func queryOf(r *registry, now time.Time, ns string, after uint64, limit int) query {
	return query{
		now: r.clock(now), ns: ns, after: after, limit: limit, budget: math.MaxInt,
		want: wanted{true, true}, size: one,
	}
}

// everything is what a registry holds, in order.
func everything(r *registry) []*entry {
	found, _ := r.page(queryOf(r, r.start, "", 0, math.MaxInt))
	return found
}

func one(*entry) int { return 1 }

// names lists entries as peer@namespace.
func names(entries []*entry) []string {
	out := make([]string, 0, len(entries))
	for _, e := range entries {
		out = append(out, string(e.owner.id)+"@"+e.space.ns)
	}
	return out
}

// gone names what ended.
func gone(changes []*change) (out []string) {
	for _, c := range changes {
		out = append(out, names([]*entry{c.e})...)
	}
	slices.Sort(out)
	return out
}

func mustPut(t *testing.T, r *registry, now time.Time, c claim) *change {
	t.Helper()
	done, err := r.put(now, c)
	if err != nil {
		t.Fatalf("put %s@%s: %v", c.peer, c.ns, err)
	}
	return done
}

// TestQuotaSparesRefreshes fills every quota: what is there can be refreshed,
// nothing can be added.
func TestQuotaSparesRefreshes(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := newRegistry(testLimits(t, Limits{PerPeer: 2, PerNamespace: 3, PerPrefix: 4}), now)
	refused := func(c claim, want reason) {
		t.Helper()
		if _, err := r.put(now, c); err == nil || err.reason != want || err.Status != StatusNotAuthorized {
			t.Errorf("%s@%s: %v, want %s", c.peer, c.ns, err, want.word())
		}
	}
	all := []claim{
		testClaim("a", "1", 2*time.Hour).fromNet(1), testClaim("a", "2", 2*time.Hour).fromNet(1),
		testClaim("b", "1", 2*time.Hour).fromNet(1), testClaim("b", "3", 2*time.Hour).fromNet(1),
		testClaim("c", "1", 2*time.Hour).fromNet(2),
	}
	for range 2 {
		for _, c := range all {
			mustPut(t, r, now, c)
		}
		refused(testClaim("a", "3", 2*time.Hour).fromNet(1), reasonPeerQuota)
		refused(testClaim("d", "1", 2*time.Hour).fromNet(2), reasonNamespaceQuota)
		refused(testClaim("d", "4", 2*time.Hour).fromNet(1), reasonPrefixQuota)
	}
	r.remove(entryKey{"1", "a"})
	mustPut(t, r, now, testClaim("d", "1", 2*time.Hour).fromNet(1))
}

// TestEvictionIsFair fills a registry from one network: newcomers push out what
// that holds, whoever floods pushes out its own, and a lower total takes from
// those who have most.
func TestEvictionIsFair(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := newRegistry(testLimits(t, Limits{Total: 100}), now)
	mustPut(t, r, now, testClaim("early", "ns", 2*time.Hour).fromNet(1))
	for i := range 99 {
		mustPut(t, r, now, testClaim("flood", fmt.Sprintf("ns%02d", i), 2*time.Hour).fromNet(9))
	}
	evicts := func(c claim, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, gone(mustPut(t, r, now, c).evicted)); diff != "" {
			t.Errorf("%s@%s: %s", c.peer, c.ns, diff)
		}
	}
	evicts(testClaim("honest", "ns", 2*time.Hour).fromNet(2), "flood@ns00")
	evicts(testClaim("flood", "more", 2*time.Hour).fromNet(9), "flood@ns01")
	evicts(testClaim("accomplice", "ns", 2*time.Hour).fromNet(9), "flood@ns02")
	evicts(testClaim("flood", "more", 2*time.Hour).fromNet(9))
	evicts(testClaim("neighbour", "ns", 2*time.Hour).fromNet(1), "flood@ns03")
	evicts(testClaim("flood", "from elsewhere", 2*time.Hour).fromNet(1), "flood@ns04")
	if _, n, _ := r.counts(); n != 100 {
		t.Errorf("%d registrations, want 100", n)
	}

	limits := testLimits(t, Limits{Total: 5})
	r.limits.Store(&limits)
	if evicted := r.trim(now); len(evicted) != 95 {
		t.Errorf("%d evicted, want 95", len(evicted))
	}
	want := []string{"accomplice@ns", "early@ns", "flood@from elsewhere", "honest@ns", "neighbour@ns"}
	left := names(everything(r))
	slices.Sort(left)
	if diff := cmp.Diff(want, left); diff != "" {
		t.Error(diff)
	}
}

// TestHonestPeerGetsInDuringAFlood lets ever new identities of one network
// register between those of others, each of which stays.
func TestHonestPeerGetsInDuringAFlood(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := newRegistry(testLimits(t, Limits{Total: 1000}), now)
	for i := range 5000 {
		mustPut(t, r, now, testClaim(fmt.Sprintf("flood%d", i), fmt.Sprint(i%7), 2*time.Hour).fromNet(9))
		if i%100 == 0 {
			mustPut(t, r, now, testClaim(fmt.Sprintf("honest%d", i), "ns", 2*time.Hour).fromNet(byte(i/100%8)))
		}
	}
	if n := len(names(everything(r))); n != 1000 {
		t.Errorf("%d registrations", n)
	}
	for i := 0; i < 5000; i += 100 {
		if r.current(entryKey{"ns", peer.ID(fmt.Sprintf("honest%d", i))}) == nil {
			t.Errorf("the honest peer of round %d was pushed out", i)
		}
	}
}

// TestUnregisterThenCookiePaging pages on after entries before, at and after
// the cookie's place have gone.
func TestUnregisterThenCookiePaging(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := newRegistry(testLimits(t, Limits{}), now)
	for i := range 100 {
		mustPut(t, r, now, testClaim(fmt.Sprintf("p%02d", i), "ns", 2*time.Hour))
	}
	_, last := r.page(queryOf(r, now, "ns", 0, 50))
	for i := 10; i < 90; i++ {
		r.remove(entryKey{"ns", peer.ID(fmt.Sprintf("p%02d", i))})
	}
	mustPut(t, r, now, testClaim("p05", "ns", 2*time.Hour)) // a refresh comes again
	want := []string{"p90@ns", "p91@ns", "p92@ns", "p93@ns", "p94@ns", "p95@ns", "p96@ns", "p97@ns", "p98@ns", "p99@ns", "p05@ns"}
	for _, ns := range []string{"ns", ""} {
		found, _ := r.page(queryOf(r, now, ns, last, 50))
		if diff := cmp.Diff(want, names(found)); diff != "" {
			t.Errorf("namespace %q: %s", ns, diff)
		}
	}
}

// TestClockJumps sets the clock back and far ahead.
func TestClockJumps(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	r := newRegistry(testLimits(t, Limits{}), now)
	mustPut(t, r, now, testClaim("a", "ns", 2*time.Hour))

	past := now.Add(-1000 * time.Hour)
	if gone := gone(r.sweep(past)); len(gone) != 0 {
		t.Errorf("set back: %v expired", gone)
	}
	found, _ := r.page(queryOf(r, past, "ns", 0, 10))
	if len(found) != 1 || found[0].remaining(r.clock(past)) != 7200 {
		t.Errorf("set back: found %v, want one with its whole ttl", names(found))
	}
	mustPut(t, r, past, testClaim("b", "ns", 2*time.Hour))

	future := now.Add(100 * 365 * 24 * time.Hour)
	found, _ = r.page(queryOf(r, future, "ns", 0, 10))
	if len(found) != 0 {
		t.Errorf("set ahead: found %v", names(found))
	}
	if diff := cmp.Diff([]string{"a@ns", "b@ns"}, gone(r.sweep(future))); diff != "" {
		t.Errorf("set ahead: %s", diff)
	}

	mustPut(t, r, now, testClaim("c", "ns", 2*time.Hour))
	if gone := gone(r.sweep(now.Add(2*time.Hour - time.Second))); len(gone) != 0 {
		t.Errorf("set right again: %v expired early", gone)
	}
	if gone := gone(r.sweep(now.Add(2 * time.Hour))); !slices.Equal(gone, []string{"c@ns"}) {
		t.Errorf("set right again: %v expired, want c", gone)
	}
	checkEmpty(t, r)
}

// checkEmpty holds that an empty registry keeps nothing.
func checkEmpty(t interface{ Errorf(string, ...any) }, r *registry) {
	spaces, entries, peers := r.counts()
	kept := spaces + entries + peers + len(r.ledger.subnets)
	for i := range r.shards {
		sh := &r.shards[i]
		kept += sh.all.live + len(sh.all.chunks) + waiting(&sh.due)
	}
	if kept != 0 || r.ledger.most.top != nil || r.ledger.most.bottom != nil {
		t.Errorf("an empty registry keeps something: %d spaces, %d entries, %d peers, %d in all", spaces, entries, peers, kept)
	}
}

// waiting counts the entries in a wheel.
func waiting(w *wheel) (n int) {
	count := func(head *entry) {
		for e := head; e != nil; e = e.wheelNext {
			n++
		}
	}
	count(w.ready)
	for _, level := range w.slots {
		for _, head := range level {
			count(head)
		}
	}
	return n
}

// TestGapsAreSqueezedOut refreshes without end: what it leaves is bounded.
func TestGapsAreSqueezedOut(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := newRegistry(testLimits(t, Limits{}), now)
	for i := range 10_000 {
		mustPut(t, r, now, testClaim(fmt.Sprint(i%10), "ns", 2*time.Hour))
	}
	sh := r.shard("ns")
	for _, o := range []*order{&sh.all, &sh.spaces["ns"].order} {
		slots := 0
		for _, c := range o.chunks {
			slots += len(c.slots)
		}
		if slots > 64 || o.live != 10 {
			t.Errorf("%d entries take %d slots", o.live, slots)
		}
	}
}

func TestPageStopsAtBudget(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := newRegistry(testLimits(t, Limits{}), now)
	for i := range 10 {
		mustPut(t, r, now, testClaim(fmt.Sprint(i), "ns", 2*time.Hour))
	}
	q := queryOf(r, now, "ns", 0, 100)
	q.budget, q.size = 35, func(*entry) int { return 10 }
	found, last := r.page(q)
	if len(found) != 3 || last != 3 {
		t.Errorf("%d entries up to %d, want 3 up to 3", len(found), last)
	}
	q = queryOf(r, now, "ns", 3, 100)
	q.size = func(e *entry) int { return int(e.seq % 2) }
	found, last = r.page(q)
	if len(found) != 3 || last != 10 {
		t.Errorf("%d entries up to %d, want 3 up to 10: what is left out is passed by", len(found), last)
	}
	if found, last = r.page(queryOf(r, now, "ns", math.MaxUint64, 1)); len(found) != 0 || last != math.MaxUint64 {
		t.Errorf("beyond the end: %d entries up to %d", len(found), last)
	}
}

// TestPagesOfOneFlavour looks for the few records of one flavour among many of
// the other: no step looks at more than a chunk, and the page finds them all.
func TestPagesOfOneFlavour(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := newRegistry(testLimits(t, Limits{}), now)
	var want []string
	for i := range 5000 {
		c := testClaim(fmt.Sprint(i), "ns", 2*time.Hour)
		if i%1000 == 7 {
			c.packed = pack(c.peer, [2][]byte{nil, []byte("legacy")})
			want = append(want, fmt.Sprint(i)+"@ns")
		}
		mustPut(t, r, now, c)
	}
	for _, ns := range []string{"ns", ""} {
		q := queryOf(r, now, ns, 0, 1000)
		q.want = wanted{Legacy: true}
		looked := 0
		q.size = func(*entry) int { looked++; return 1 }
		found, _ := r.page(q)
		if diff := cmp.Diff(want, names(found)); diff != "" || looked != len(want) {
			t.Errorf("namespace %q: looked at %d: %s", ns, looked, diff)
		}
	}
	o := &r.shard("ns").spaces["ns"].order
	for after, steps := uint64(0), 0; ; steps++ {
		slots, passed, end, more := o.next(after, wanted{Legacy: true})
		if !more {
			break
		}
		if len(slots) > chunkSlots || steps > 2*len(o.chunks) {
			t.Fatalf("step %d of %d slots", steps, len(slots))
		}
		after = passed
		if len(slots) > 0 {
			after = end
		}
	}
}

// TestScanIsBounded hides every registration from a reader of all namespaces.
func TestScanIsBounded(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := newRegistry(testLimits(t, Limits{Total: 2 * scanSlots, PerPeer: 2 * scanSlots}), now)
	for i := range scanSlots + 100 {
		mustPut(t, r, now, testClaim("a", fmt.Sprint(i), 2*time.Hour))
	}
	q := queryOf(r, now, "", 0, 100)
	q.size = func(*entry) int { return 0 }
	found, last := r.page(q)
	if len(found) != 0 || last != scanSlots {
		t.Errorf("found %d up to %d, want none up to %d", len(found), last, scanSlots)
	}
	q.after = last
	if _, last = r.page(q); last != scanSlots+100 {
		t.Errorf("the next page goes up to %d, want %d", last, scanSlots+100)
	}
}

// TestUnsettledIsNotShown puts registrations that are not durable yet: readers
// see what was before, and what comes is undone without a trace.
func TestUnsettledIsNotShown(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := newRegistry(testLimits(t, Limits{}), now)
	mustPut(t, r, now, testClaim("a", "ns", 2*time.Hour))
	r.record = func(*change) {}
	see := func(want ...uint64) {
		t.Helper()
		var got []uint64
		for _, e := range everything(r) {
			got = append(got, e.remaining(0))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	first := mustPut(t, r, now, testClaim("a", "ns", 3*time.Hour))
	second := mustPut(t, r, now, testClaim("a", "ns", 4*time.Hour))
	other := mustPut(t, r, now, testClaim("b", "ns", 3*time.Hour))
	see(7200)
	r.undo(now, first)
	see(7200)
	r.visible.Store(second.seq)
	see(14400)
	r.settle(second)
	see(14400)
	r.undo(now, other)
	r.visible.Store(other.seq)
	see(14400)
	third := mustPut(t, r, now, testClaim("a", "ns", 5*time.Hour))
	r.undo(now, third)
	r.visible.Store(third.seq)
	see(14400)
	if got := gone(r.sweep(now.Add(4 * time.Hour))); !slices.Equal(got, []string{"a@ns"}) {
		t.Errorf("%v expired, want the settled registration", got)
	}
	checkEmpty(t, r)
}
