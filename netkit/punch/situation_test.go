package punch

import (
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// TestKindsOfNATsAreNotForEver: which kind the own NAT is is believed as long as nothing
// speaks against it, and not too long.
func TestKindsOfNATsAreNotForEver(t *testing.T) {
	ips := func(texts ...string) (out []netip.Addr) {
		for _, one := range texts {
			out = append(out, netip.MustParseAddr(one))
		}
		return out
	}
	now := time.Now()
	s := situation{paths: []path{{}}, seenAt: ips("17.0.0.1"), home: ips("10.0.0.2"), kindAt: now}
	for _, c := range []struct {
		name         string
		seenAt, home []netip.Addr
		after        time.Duration
		want         bool
	}{
		{"the same", ips("17.0.0.1"), ips("10.0.0.2"), kindFor - 1, true},
		{"long ago", ips("17.0.0.1"), ips("10.0.0.2"), kindFor, false},
		{"another outside address", ips("17.0.0.2"), ips("10.0.0.2"), 0, false},
		{"another network inside", ips("17.0.0.1"), ips("192.168.0.2"), 0, false},
	} {
		if got := s.holds(c.seenAt, c.home, now.Add(c.after)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if (&situation{seenAt: ips("17.0.0.1"), kindAt: now}).holds(ips("17.0.0.1"), nil, now) {
		t.Error("nothing is known, and holds")
	}
}

// TestDoubt: a kind on which a plan rested in vain is found out anew, but not at once.
func TestDoubt(t *testing.T) {
	server := peer.ID("vantage")
	s := &Service{looks: situations{known: map[peer.ID]*look{server: {}}}}
	s.doubt(&situation{server: server, kindAt: time.Now()})
	if s.looks.known[server] == nil {
		t.Error("what was just found out is doubted")
	}
	s.doubt(&situation{server: server, kindAt: time.Now().Add(-kindDoubted)})
	if s.looks.known[server] != nil {
		t.Error("it is kept")
	}
}
