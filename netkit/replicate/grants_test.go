package replicate

import (
	"strings"
	"testing"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
)

// grant adds to the log of grants of an author, which is made if it is not there.
func grant(t *testing.T, s *logstore.Store, namespace int, lines ...string) {
	t.Helper()
	h, err := s.CreateLog(authorN(namespace), "grants")
	if err != nil {
		h = logOf(t, s, namespace)
	} else {
		lines = append([]string{GrantsHead}, lines...)
	}
	for _, line := range lines {
		if _, err := s.Append(keyN(namespace), h.Log, logstore.PayloadOf([]byte(line))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNamespace takes entries of those alone that a namespace lets write, from when its word is here until it takes it back.
func TestNamespace(t *testing.T) {
	const admin = 9
	a := replicaOf(t)
	grant(t, a.Store, admin, GrantAllow+" "+authorN(1).String(), "nothing", GrantAllow+" nobody")
	write(t, a.Store, 1, 10, 100)
	write(t, a.Store, 2, 20, 100)
	b := NewReplica(openStore(t), Rules{Namespaces: map[bamboo.Author]bool{authorN(admin): true}})
	session := func(taken, refused int, reason string) {
		t.Helper()
		ra, rb := meet(t, a, b, SessionConfig{Peer: "b"}, SessionConfig{Peer: "a"})
		if ra.err != nil || rb.err != nil || rb.Pulled.Entries != taken || rb.Refused != refused || !strings.Contains(rb.Reason, reason) {
			t.Fatalf("%+v %v; %+v %v", ra.Result, ra.err, rb.Result, rb.err)
		}
	}
	session(4, 2, "not allowed") // it is not known yet who may
	session(10, 1, authorN(2).String())
	write(t, a.Store, 1, 5, 100)
	session(5, 1, "not allowed")
	// The word is taken back, and given to another.
	grant(t, a.Store, admin, GrantRevoke+" "+authorN(1).String(), GrantAllow+" "+authorN(2).String())
	session(2, 1, "not allowed")
	write(t, a.Store, 1, 5, 100)
	session(20, 1, "revoked")
	see(t, b.Store, func(v *logstore.View) {
		if h, err := v.Head(authorN(1), 0); err != nil || h.Height != 15 {
			t.Errorf("%+v, %v", h, err)
		}
	})
	// Who is on the list of this side needs nobody's leave.
	b.rules.Authors = map[bamboo.Author]bool{authorN(1): true}
	session(5, 0, "")
}

// TestNamespaceQuota holds all authors of a namespace to one number of bytes.
func TestNamespaceQuota(t *testing.T) {
	const admin = 9
	a := replicaOf(t)
	grant(t, a.Store, admin, GrantAllow+" "+authorN(1).String(), GrantAllow+" "+authorN(2).String())
	write(t, a.Store, 1, 10, 100)
	write(t, a.Store, 2, 10, 100)
	b := NewReplica(openStore(t), Rules{Namespaces: map[bamboo.Author]bool{authorN(admin): true}, PerNamespace: 1700})
	meet(t, a, b, SessionConfig{Peer: "b"}, SessionConfig{Peer: "a"})
	ra, rb := meet(t, a, b, SessionConfig{Peer: "b"}, SessionConfig{Peer: "a"})
	if ra.err != nil || rb.err != nil || rb.Pulled.Entries != 10 || rb.Refused != 1 || !strings.Contains(rb.Reason, "quota of namespace "+authorN(admin).String()) {
		t.Fatalf("%+v %v; %+v %v", ra.Result, ra.err, rb.Result, rb.err)
	}
}
