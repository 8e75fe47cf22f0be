package relay

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"pgregory.net/rapid"
)

// model is the table as it is meant, written down without regard for cost.
type model struct {
	limits   Limits
	ttl      time.Duration
	draining bool
	held     map[peer.ID]modelSlot
	circuits [][2]peer.ID
}

type modelSlot struct {
	from    ma.Multiaddr
	expires time.Time
}

func (m *model) count(match func(modelSlot) bool) (n int) {
	for _, s := range m.held {
		if match(s) {
			n++
		}
	}
	return n
}

func (m *model) room(from ma.Multiaddr) Reason {
	if m.limits.Reservations >= 0 && len(m.held) >= m.limits.Reservations {
		return ReasonReservations
	}
	ip := ipOf(from)
	if ip.Is4() {
		if n := m.count(func(s modelSlot) bool { return ipOf(s.from) == ip }); m.limits.ReservationsPerIP >= 0 && n >= m.limits.ReservationsPerIP {
			return ReasonIP
		}
		return ""
	}
	prefix := netip.PrefixFrom(ip, m.limits.PrefixLength)
	if n := m.count(func(s modelSlot) bool { return prefix.Contains(ipOf(s.from)) }); m.limits.ReservationsPerPrefix >= 0 && n >= m.limits.ReservationsPerPrefix {
		return ReasonPrefix
	}
	same := func(s modelSlot) bool { return ipOf(s.from).Is6() && fakeASN(ipOf(s.from)) == fakeASN(ip) }
	if n := m.count(same); fakeASN(ip) != 0 && m.limits.ReservationsPerASN >= 0 && n >= m.limits.ReservationsPerASN {
		return ReasonASN
	}
	return ""
}

func (m *model) of(p peer.ID) (n int) {
	for _, c := range m.circuits {
		for _, end := range c {
			if end == p {
				n++
			}
		}
	}
	return n
}

func (m *model) enter(now time.Time, src, dst peer.ID) Reason {
	held, ok := m.held[dst]
	full := func(n, limit int) bool { return limit >= 0 && n >= limit }
	switch {
	case m.draining:
		return ReasonDraining
	case !ok || !held.expires.After(now):
		return ReasonNoReservation
	case full(len(m.circuits), m.limits.Circuits):
		return ReasonCircuits
	case full(m.of(src), m.limits.CircuitsPerPeer):
		return ReasonSourceCircuits
	case full(m.of(dst), m.limits.CircuitsPerPeer):
		return ReasonDestinationCircuits
	}
	m.circuits = append(m.circuits, [2]peer.ID{src, dst})
	return ""
}

// overWithout drops the reservations of peers without a circuit.
func (m *model) overWithout() (over []peer.ID) {
	for p := range m.held {
		if m.of(p) == 0 {
			delete(m.held, p)
			over = append(over, p)
		}
	}
	return over
}

// TestTableIsLikeItsModel does what a relay may meet, in any order, to the table
// and to its model.
func TestTableIsLikeItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drawn := rapid.Custom(func(t *rapid.T) Limits {
			some := rapid.IntRange(-1, 4)
			return Limits{
				Reservations: some.Draw(t, "total"), ReservationsPerIP: some.Draw(t, "ip"), ReservationsPerPrefix: some.Draw(t, "prefix"),
				ReservationsPerASN: some.Draw(t, "asn"), PrefixLength: rapid.SampledFrom([]int{32, 56, 64}).Draw(t, "bits"),
				Circuits: some.Draw(t, "circuits"), CircuitsPerPeer: some.Draw(t, "circuits per peer"),
			}
		})
		peers := rapid.SampledFrom([]peer.ID{"a", "b", "c", "d", "e", "f"})
		addrs := rapid.SampledFrom([]ma.Multiaddr{
			at("1.2.3.4"), at("1.2.3.5"), at("2001:db8::1"), at("2001:db8:0:1::1"), at("2001:db8:0:100::1"), at("2001:db9::1"), at("2002::1"), at("fe00::1"),
		})
		now := time.Unix(1000, 0)
		l := limits(t, drawn.Draw(t, "limits"))
		table := newTable(l, time.Hour, fakeASN)
		m := &model{limits: l, ttl: time.Hour, held: make(map[peer.ID]modelSlot)}
		same := func(t *rapid.T, what string, got, want []peer.ID) {
			if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))); diff != "" {
				t.Fatal(what, diff)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"time passes": func(t *rapid.T) {
				now = now.Add(rapid.SampledFrom([]time.Duration{0, time.Nanosecond, time.Minute, time.Hour}).Draw(t, "how long"))
			},
			"sweep": func(t *rapid.T) {
				var want []peer.ID
				for p, s := range m.held {
					if !s.expires.After(now) {
						want = append(want, p)
						delete(m.held, p)
					}
				}
				same(t, "expired:", table.expire(now), want)
			},
			"reserve": func(t *rapid.T) {
				// The clock may have been read before somebody else's.
				at := now.Add(-rapid.SampledFrom([]time.Duration{0, time.Microsecond}).Draw(t, "late"))
				p, from := peers.Draw(t, "peer"), addrs.Draw(t, "from")
				_, known := m.held[p]
				var want Reason
				switch {
				case m.draining:
					want = ReasonDraining
				case !known:
					want = m.room(from)
				}
				expires, renewed, why := table.reserve(at, p, from)
				if why != want {
					t.Fatalf("refused with %q, want %q", why, want)
				}
				if why != "" {
					return
				}
				if renewed != known || !expires.Equal(at.Add(time.Hour)) {
					t.Fatalf("renewed %v until %s", renewed, expires)
				}
				m.held[p] = modelSlot{from, expires}
			},
			"disconnect": func(t *rapid.T) {
				p := peers.Draw(t, "peer")
				_, had := m.held[p]
				delete(m.held, p)
				if got := table.drop(p); got != had {
					t.Fatalf("dropped %v", got)
				}
			},
			"connect": func(t *rapid.T) {
				src, dst := peers.Draw(t, "from"), peers.Draw(t, "to")
				want := m.enter(now, src, dst)
				if why := table.enter(now, src, dst); why != want {
					t.Fatalf("refused with %q, want %q", why, want)
				}
			},
			"hang up": func(t *rapid.T) {
				if len(m.circuits) == 0 {
					t.Skip("none is open")
				}
				i := rapid.IntRange(0, len(m.circuits)-1).Draw(t, "which")
				c := m.circuits[i]
				m.circuits = slices.Delete(m.circuits, i, i+1)
				var want []peer.ID
				if m.draining {
					want = m.overWithout()
				}
				same(t, "over:", table.leave(c[0], c[1]), want)
			},
			"new limits": func(t *rapid.T) {
				m.limits = limits(t, drawn.Draw(t, "limits"))
				table.setLimits(m.limits)
			},
			"drain": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "seldom") > 0 {
					t.Skip("goes on")
				}
				m.draining = true
				same(t, "over:", table.drain(), m.overWithout())
			},
			"": func(t *rapid.T) { checkTable(t, table, m) },
		})
	})
}

// checkTable compares all that the table holds, counters included, which must not
// grow with what is over.
func checkTable(t *rapid.T, table *table, m *model) {
	held := make(map[peer.ID]modelSlot)
	placed := make(map[place]int)
	for p, s := range table.slots {
		held[p] = modelSlot{s.from, s.expires}
		for _, at := range table.limits.places(ipOf(s.from), fakeASN) {
			placed[at]++
		}
	}
	if diff := cmp.Diff(m.held, held, cmp.AllowUnexported(modelSlot{})); diff != "" {
		t.Fatal("reservations:", diff)
	}
	if !maps.Equal(placed, table.placed) {
		t.Fatalf("counted by place: %v, want %v", table.placed, placed)
	}
	perPeer := make(map[peer.ID]int)
	for _, p := range []peer.ID{"a", "b", "c", "d", "e", "f"} {
		if n := m.of(p); n > 0 {
			perPeer[p] = n
		}
	}
	if !maps.Equal(perPeer, table.perPeer) || table.circuits != len(m.circuits) {
		t.Fatalf("circuits: %d %v, want %d %v", table.circuits, table.perPeer, len(m.circuits), perPeer)
	}
	var last time.Time
	n := 0
	for e := table.queue.Front(); e != nil; e = e.Next() {
		s := e.Value.(*slot)
		if s.expires.Before(last) {
			t.Fatal("the queue is out of order")
		}
		last = s.expires
		n++
	}
	if n != len(table.slots) {
		t.Fatalf("%d in the queue, %d held", n, len(table.slots))
	}
	if next, ok := table.next(); ok != (n > 0) || ok && !next.Equal(table.queue.Front().Value.(*slot).expires) {
		t.Fatalf("next is %s %v", next, ok)
	}
}
