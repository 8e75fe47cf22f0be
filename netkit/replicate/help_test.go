package replicate

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net"
	"testing"
	"time"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// keyN is the n-th of the authors that tests have.
func keyN(n int) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0], seed[1] = byte(n), byte(n>>8)
	return ed25519.NewKeyFromSeed(seed)
}

func authorN(n int) bamboo.Author { return bamboo.Author(keyN(n)[ed25519.SeedSize:]) }

// openStore makes a store, in memory, that is closed at the end of the test.
func openStore(t testing.TB) *logstore.Store {
	t.Helper()
	return inMemory(t, vfs.NewMem()).Store
}

// write adds n entries to the log of that name by the n-th author, made if it is not there.
func write(t testing.TB, s *logstore.Store, author, n, size int) logstore.Head {
	t.Helper()
	key := keyN(author)
	name := fmt.Sprint("log of ", author)
	h, err := s.CreateLog(authorN(author), name)
	if err != nil {
		h = logOf(t, s, author)
	}
	var payloads []logstore.Payload
	for i := range n {
		data := make([]byte, size)
		copy(data, fmt.Append(nil, author, "/", i, "/", time.Now().UnixNano()))
		payloads = append(payloads, logstore.PayloadOf(data))
	}
	for len(payloads) > 0 {
		k := min(len(payloads), 1000)
		if _, err := s.Append(key, h.Log, payloads[:k]...); err != nil {
			t.Fatal(err)
		}
		payloads = payloads[k:]
	}
	return logOf(t, s, author)
}

func logOf(t testing.TB, s *logstore.Store, author int) (h logstore.Head) {
	t.Helper()
	see(t, s, func(v *logstore.View) {
		var err error
		if h, err = v.Head(authorN(author), 0); err != nil {
			t.Fatal(err)
		}
	})
	return h
}

func see(t testing.TB, s *logstore.Store, fn func(*logstore.View)) {
	t.Helper()
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}()
	fn(v)
}

// tcp is a TCP connection as a session wants it.
type tcp struct{ *net.TCPConn }

func (c tcp) Reset() error { return c.Close() }

// wires returns both ends of a connection.
func wires(t testing.TB) (a, b tcp) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a, b = tcp{c.(*net.TCPConn)}, tcp{d.(*net.TCPConn)}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// outcome is how one side saw a session.
type outcome struct {
	Result
	err error
}

// meet runs a session between two replicas.
func meet(t testing.TB, a, b *Replica, ca, cb SessionConfig) (ra, rb outcome) {
	t.Helper()
	x, y := wires(t)
	return meetOver(t, x, y, a, b, ca, cb)
}

func meetOver(t testing.TB, x, y Stream, a, b *Replica, ca, cb SessionConfig) (ra, rb outcome) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ca.Dialled = true
	done := make(chan struct{})
	go func() {
		defer close(done)
		rb.Result, rb.err = b.Run(ctx, y, cb)
	}()
	ra.Result, ra.err = a.Run(ctx, x, ca)
	<-done
	return ra, rb
}

// met is meet for sessions that must bring both in step.
func met(t testing.TB, a, b *Replica, ca, cb SessionConfig) (ra, rb outcome) {
	t.Helper()
	ra, rb = meet(t, a, b, ca, cb)
	if ra.err != nil || rb.err != nil {
		t.Fatalf("session: %v; %v", ra.err, rb.err)
	}
	if !ra.Converged || !rb.Converged || !ra.Complete || !rb.Complete {
		t.Fatalf("not converged: %+v; %+v", ra.Result, rb.Result)
	}
	return ra, rb
}

func replicaOf(t testing.TB) *Replica {
	t.Helper()
	return NewReplica(openStore(t), Rules{})
}
