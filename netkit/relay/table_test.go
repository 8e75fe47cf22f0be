package relay

import (
	"fmt"
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

// fakeASN takes the second byte of an address as its system; 0 is not known.
func fakeASN(ip netip.Addr) uint32 { return uint32(ip.As16()[1]) }

func limits(t interface{ Fatal(...any) }, l Limits) Limits {
	l, err := l.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func at(ip string) ma.Multiaddr {
	kind := "ip4"
	if netip.MustParseAddr(ip).Is6() {
		kind = "ip6"
	}
	return ma.StringCast(fmt.Sprintf("/%s/%s/udp/4001/quic-v1", kind, ip))
}

func TestLimitsDefaults(t *testing.T) {
	got := limits(t, Limits{})
	want := Limits{
		Reservations: 1024, ReservationsPerIP: 256, ReservationsPerPrefix: 256, PrefixLength: 56, ReservationsPerASN: 512,
		Circuits: 1024, CircuitsPerPeer: 64, Duration: 2 * time.Minute, Bytes: 128 << 10, Rate: NoLimit,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(got, limits(t, got)); diff != "" {
		t.Error("limits that are filled change when filled again:", diff)
	}
	if got := limits(t, Limits{Reservations: -7, Duration: -time.Hour}); got.Reservations != NoLimit || got.ReservationsPerASN != NoLimit || got.Duration != NoLimit {
		t.Errorf("lifted limits: %+v", got)
	}
	for _, bits := range []int{-1, 129} {
		if _, err := (Limits{PrefixLength: bits}).WithDefaults(); err == nil {
			t.Errorf("prefixes of %d bits are accepted", bits)
		}
	}
}

func TestLimitMessage(t *testing.T) {
	for _, c := range []struct {
		limits  Limits
		seconds uint32
		bytes   uint64
		none    bool
	}{
		{limits: Limits{}, seconds: 120, bytes: 128 << 10},
		{limits: Limits{Duration: 1500 * time.Millisecond, Bytes: 1}, seconds: 2, bytes: 1},
		{limits: Limits{Duration: NoLimit}, bytes: 128 << 10},
		{limits: Limits{Bytes: NoLimit, Duration: 1 << 62}, seconds: 1<<32 - 1},
		{limits: Limits{Bytes: NoLimit, Duration: NoLimit}, none: true},
	} {
		msg := limits(t, c.limits).message()
		if (msg == nil) != c.none || msg.GetDuration() != c.seconds || msg.GetData() != c.bytes {
			t.Errorf("%+v is told as %v", c.limits, msg)
		}
	}
}

func TestReservationsAreCountedByPlace(t *testing.T) {
	now := time.Unix(0, 0)
	for _, c := range []struct {
		name     string
		limits   Limits
		held     []string
		from     string
		want     Reason
		lifted   Limits
		elseFrom string // where there is room still
	}{
		{"total", Limits{Reservations: 2}, []string{"1.2.3.4", "1.2.3.5"}, "1.2.3.6", ReasonReservations, Limits{Reservations: NoLimit}, ""},
		{"IPv4 address", Limits{ReservationsPerIP: 1}, []string{"1.2.3.4"}, "1.2.3.4", ReasonIP, Limits{ReservationsPerIP: NoLimit}, "1.2.3.5"},
		{"mapped IPv4 address", Limits{ReservationsPerIP: 1}, []string{"1.2.3.4"}, "::ffff:1.2.3.4", ReasonIP, Limits{}, ""},
		{"IPv6 /56", Limits{ReservationsPerPrefix: 1}, []string{"2001:db8:0:aa00::1"}, "2001:db8:0:aaff::2", ReasonPrefix, Limits{ReservationsPerPrefix: NoLimit}, "2001:db8:0:ab00::1"},
		{"IPv6 /64", Limits{ReservationsPerPrefix: 1, PrefixLength: 64}, []string{"2001:db8:0:aa00::1"}, "2001:db8:0:aa00::2", ReasonPrefix, Limits{}, "2001:db8:0:aa01::1"},
		{"ASN", Limits{ReservationsPerASN: 1}, []string{"2001:db8:0:aa00::1"}, "2001:db8:1::1", ReasonASN, Limits{ReservationsPerASN: NoLimit}, "2002:db8::1"},
		{"unknown ASN", Limits{ReservationsPerASN: 1}, []string{"fe00:db8:0:aa00::1"}, "fe00:db8:1::1", "", Limits{}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := newTable(limits(t, c.limits), time.Hour, fakeASN)
			for i, ip := range c.held {
				if _, _, why := table.reserve(now, peer.ID(fmt.Sprint("held", i)), at(ip)); why != "" {
					t.Fatal("refused at first:", why)
				}
			}
			if _, _, why := table.reserve(now, "new", at(c.from)); why != c.want {
				t.Errorf("from %s: %q, want %q", c.from, why, c.want)
			}
			if _, renewed, why := table.reserve(now, "held0", at(c.from)); why != "" || !renewed {
				t.Errorf("a renewal is refused with %q", why)
			}
			if c.elseFrom != "" {
				if _, _, why := table.reserve(now, "other", at(c.elseFrom)); why != "" {
					t.Errorf("from %s: %q", c.elseFrom, why)
				}
			}
			if c.lifted != (Limits{}) {
				table.setLimits(limits(t, c.lifted))
				if _, _, why := table.reserve(now, "late", at(c.from)); why != "" {
					t.Errorf("with the limit lifted: %q", why)
				}
			}
		})
	}
}

// A connection without an IP address is counted with all others like it.
func TestNoIPIsOnePlace(t *testing.T) {
	table := newTable(limits(t, Limits{ReservationsPerIP: 1}), time.Hour, asnOf)
	table.reserve(time.Unix(0, 0), "a", ma.StringCast("/memory/1"))
	if _, _, why := table.reserve(time.Unix(0, 0), "b", ma.StringCast("/memory/2")); why != ReasonIP {
		t.Errorf("refused with %q", why)
	}
}

func TestASNIsThatOfTheAddress(t *testing.T) {
	if got := asnOf(netip.MustParseAddr("2001:4860:4860::8888")); got != 15169 {
		t.Errorf("the ASN of Google's resolver is said to be %d", got)
	}
}

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

// BenchmarkReserve and BenchmarkDisconnect show that neither depends on how many
// reservations are held.
func BenchmarkReserve(b *testing.B) {
	from := at("2001:db8::1")
	crowd(b, func(b *testing.B, table *table, now time.Time) {
		for i := 0; b.Loop(); i++ {
			p := peer.ID(fmt.Sprint("new", i))
			table.reserve(now, p, from)
			b.StopTimer()
			table.drop(p)
			b.StartTimer()
		}
	})
}

func BenchmarkDisconnect(b *testing.B) {
	from := at("2001:db8::1")
	crowd(b, func(b *testing.B, table *table, now time.Time) {
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			p := peer.ID(fmt.Sprint("new", i))
			table.reserve(now, p, from)
			b.StartTimer()
			table.drop(p)
		}
	})
}

func crowd(b *testing.B, f func(*testing.B, *table, time.Time)) {
	for _, n := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table := newTable(limits(b, Limits{Reservations: NoLimit, ReservationsPerIP: NoLimit, ReservationsPerPrefix: NoLimit}), time.Hour, asnOf)
			now := time.Unix(0, 0)
			for i := range n {
				now = now.Add(time.Millisecond)
				table.reserve(now, peer.ID(fmt.Sprint(i)), at(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)))
			}
			f(b, table, now)
		})
	}
}
