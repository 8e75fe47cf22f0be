package replicate

import (
	"bytes"
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

// TestGrantsInBundle takes a bundle by a namespace's key at once, wherever the key stands among the authors.
func TestGrantsInBundle(t *testing.T) {
	const author = 1
	for admin := 2; admin < 6; admin++ {
		a := replicaOf(t)
		grant(t, a.Store, admin, GrantAllow+" "+authorN(author).String())
		write(t, a.Store, author, 10, 100)
		var bundle bytes.Buffer
		if _, err := a.Export(t.Context(), &bundle, nil); err != nil {
			t.Fatal(err)
		}
		b := NewReplica(openStore(t), Rules{Namespaces: map[bamboo.Author]bool{authorN(admin): true}})
		if report, err := b.Import(t.Context(), &bundle); err != nil || report.Refused > 0 || rootOf(t, a) != rootOf(t, b) {
			t.Errorf("with the namespace %s, author %s: %+v %v", authorN(admin), authorN(author), report, err)
		}
	}
}

// TestForkByWhoMayNotWrite keeps no proof about an author whom a namespace does not let write and of whom nothing is here.
func TestForkByWhoMayNotWrite(t *testing.T) {
	const admin = 9
	one, two := branch(t, 1, nil, 1, "one"), branch(t, 1, nil, 1, "two")
	a := replicaOf(t)
	if _, err := a.Store.PutFork(one[0].Signed, two[0].Signed); err != nil {
		t.Fatal(err)
	}
	b := NewReplica(openStore(t), Rules{Namespaces: map[bamboo.Author]bool{authorN(admin): true}})
	pass := func(want int) {
		t.Helper()
		ra, rb := meet(t, a, b, SessionConfig{}, SessionConfig{})
		if got := forksOf(t, b); ra.err != nil || rb.err != nil || len(got) != want {
			t.Errorf("kept %v, want %d; %v; %v", got, want, ra.err, rb.err)
		}
	}
	pass(0)
	grant(t, b.Store, admin, GrantAllow+" "+authorN(1).String())
	pass(1)
}
