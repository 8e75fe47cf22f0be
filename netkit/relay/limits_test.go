package relay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
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
