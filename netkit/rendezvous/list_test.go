package rendezvous

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// TestRegistrationsList: all of them or those of a namespace, the oldest first, also
// where Allow shows nobody anything; a refresh is the newest.
func TestRegistrationsList(t *testing.T) {
	point, a, b := newHost(t), newHost(t), newHost(t)
	open := true
	s := newServer(t, point, ServerConfig{Allow: func(peer.ID, string) error {
		if open {
			return nil
		}
		return errors.New("nobody")
	}})
	register := func(who string, ns string, ttl time.Duration) {
		t.Helper()
		h := a
		if who == "b" {
			h = b
		}
		if _, err := Register(testContext(t), h, infoOf(point), RegisterRequest{Namespace: ns, TTL: ttl, Addrs: h.Addrs()}); err != nil {
			t.Fatal(err)
		}
	}
	register("a", "one", 3*time.Hour)
	register("b", "one", 4*time.Hour)
	register("a", "two", 5*time.Hour)
	register("a", "one", 6*time.Hour)
	open = false
	names := map[peer.ID]string{a.ID(): "a", b.ID(): "b"}
	list := func(ns string, most int) (out []string) {
		for _, e := range s.Registrations(ns, most) {
			if len(e.Addrs) == 0 || e.TTL == nil || *e.TTL < 3*3600 || *e.TTL > 6*3600 || e.Flavour != Standard {
				t.Errorf("%+v", e)
			}
			out = append(out, names[e.Peer]+" "+e.Namespace)
		}
		return out
	}
	for _, tt := range []struct {
		ns   string
		most int
		want []string
	}{
		{"", 10, []string{"b one", "a two", "a one"}},
		{"", 2, []string{"b one", "a two"}},
		{"one", 10, []string{"b one", "a one"}},
		{"one", 1, []string{"b one"}},
		{"none", 10, nil},
	} {
		if got := list(tt.ns, tt.most); !slices.Equal(got, tt.want) {
			t.Errorf("%q, at most %d: %v, want %v", tt.ns, tt.most, got, tt.want)
		}
	}
}

// TestRegistrationsListVerifiesNothing spoils a signature after it was verified: the list does not look at it again.
func TestRegistrationsListVerifiesNothing(t *testing.T) {
	point, a := newHost(t), newHost(t)
	s := newServer(t, point, ServerConfig{})
	if _, err := Register(testContext(t), a, infoOf(point), RegisterRequest{Namespace: "one", TTL: 3 * time.Hour, Addrs: a.Addrs()}); err != nil {
		t.Fatal(err)
	}
	want := s.Registrations("one", 10)
	found, _ := s.reg.page(query{now: s.reg.clock(time.Now()), ns: "one", limit: 1, budget: 1, want: wanted{true, true}, size: func(*entry) int { return 1 }})
	e := found[0]
	e.packed = e.packed[:1] + packed([]byte{^e.packed[1]}) + e.packed[2:] // the signature follows the byte of shapes
	if rec, err := OpenRecord(e.packed.envelope(e.owner.id, e.primary)); err == nil {
		t.Fatalf("nothing is spoilt: %+v", rec)
	}
	if got := s.Registrations("one", 10); len(want) != 1 || len(got) != 1 || got[0].Peer != want[0].Peer || got[0].Seq != want[0].Seq {
		t.Errorf("%+v, want %+v", got, want)
	}
}
