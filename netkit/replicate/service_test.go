package replicate

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/logstore"
	"dibber/netkit/negentropy"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// node is a host on loopback.
func node(t testing.TB) *host.Node {
	t.Helper()
	n, err := host.New(host.Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1"), ma.StringCast("/ip4/127.0.0.1/tcp/0")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// serving is a node with a service, which tells its sessions.
func serving(t testing.TB, r *Replica, cfg Config) (*host.Node, <-chan Event) {
	t.Helper()
	n := node(t)
	events := make(chan Event, 1000)
	cfg.On = func(e Event) { events <- e }
	s, err := New(n, r, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return n, events
}

func connect(t testing.TB, from, to *host.Node) network.Conn {
	t.Helper()
	c, err := from.Dial(t.Context(), to.ID(), to.ListenAddrs())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestServiceKeepsInStep brings three stores in step by themselves, one of which the first does not know.
func TestServiceKeepsInStep(t *testing.T) {
	a, b, c := replicaOf(t), replicaOf(t), replicaOf(t)
	write(t, a.Store, 1, 100, 100)
	write(t, c.Store, 3, 100, 100)
	na, _ := serving(t, a, Config{})
	nb, _ := serving(t, b, Config{})
	nc, _ := serving(t, c, Config{})
	connect(t, na, nb)
	connect(t, nb, nc)
	for rootOf(t, a) != rootOf(t, c) || logOf(t, b.Store, 1).Height != 100 {
		select {
		case <-t.Context().Done():
			t.Fatal("they do not come in step")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestTwoSessionsAtOnce brings two stores in step from both sides at once, again and again while both grow.
func TestTwoSessionsAtOnce(t *testing.T) {
	a, b := replicaOf(t), replicaOf(t)
	// One that has ended here may not have ended there.
	limits := Config{Every: -1, Rate: 1000, Sessions: 32, PerPeer: 16}
	na, _ := serving(t, a, limits)
	nb, _ := serving(t, b, limits)
	connect(t, na, nb)
	for range 10 {
		write(t, a.Store, 1, 700, 100)
		write(t, b.Store, 2, 700, 100)
		p, err := a.Store.NewPayload(bytes.NewReader(make([]byte, 300_000)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Store.Append(keyN(1), 0, p); err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		for _, d := range []struct {
			n  *host.Node
			to peer.ID
			r  *Replica
		}{{na, nb.ID(), a}, {nb, na.ID(), b}, {na, nb.ID(), a}} {
			both.Go(func() {
				if _, err := doPatiently(t, d.n, d.to, d.r); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		res, err := doPatiently(t, na, nb.ID(), a)
		if err != nil || !res.Converged {
			t.Fatalf("%+v %v", res, err)
		}
	}
	for _, r := range []*Replica{a, b} {
		if report, err := r.Store.Verify(t.Context(), logstore.VerifyConfig{}); err != nil || report.Found > 0 {
			t.Fatalf("%+v %v", report, err)
		}
	}
}

// doPatiently is Do, again as long as the other side has no memory to spare for one more.
func doPatiently(t *testing.T, n *host.Node, p peer.ID, r *Replica) (Result, error) {
	for {
		res, err := Do(t.Context(), n, p, r, SyncConfig{})
		if reset, ok := errors.AsType[*network.StreamError](err); !ok || reset.ErrorCode != network.StreamResourceLimitExceeded {
			return res, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestServiceLimits refuses sessions beyond the limit, and resets those that come too often.
func TestServiceLimits(t *testing.T) {
	a, b := replicaOf(t), replicaOf(t)
	na, nb := node(t), node(t)
	events := make(chan Event, 1000)
	s, err := New(na, a, Config{Every: -1, PerPeer: 1, Burst: 100, Rate: 0.001, On: func(e Event) { events <- e }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	conn := connect(t, nb, na)
	held, err := nb.OpenStream(t.Context(), conn, Protocol)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := held.Write([]byte{100}); err != nil { // the beginning of a frame
		t.Fatal(err)
	}
	counted := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.of[nb.ID()] == 1
	}
	for !counted() {
		time.Sleep(time.Millisecond)
	}
	if _, err := Do(t.Context(), nb, na.ID(), b, SyncConfig{}); !errors.Is(err, ErrRefused) {
		t.Errorf("one too many: %v", err)
	}
	if err := held.Reset(); err != nil {
		t.Fatal(err)
	}
	for e := range events { // the one that was held has ended, with nothing said
		if e.Err != nil {
			break
		}
	}
	for range 100 {
		_, err = Do(t.Context(), nb, na.ID(), b, SyncConfig{})
	}
	if reset, ok := errors.AsType[*network.StreamError](err); !ok || reset.ErrorCode != network.StreamRateLimited {
		t.Errorf("too many sessions: %v", err)
	}
}

// TestConnectionClosedUnheard: when the connection that a session began on is closed before the peer said a word, another is
// taken; and a peer that closes each of them is no reason to go on for ever.
func TestConnectionClosedUnheard(t *testing.T) {
	for closes, reached := range map[int]bool{maxUnheard: true, maxUnheard + 1: false} {
		a, b := replicaOf(t), replicaOf(t)
		write(t, b.Store, 1, 10, 100)
		n, other := node(t), node(t)
		s, err := New(other, b, Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		var begun atomic.Int32
		other.SetStreamHandler(Protocol, func(st network.Stream) {
			if int(begun.Add(1)) <= closes {
				_ = st.Conn().Close()
				return
			}
			s.handle(st)
		})
		connect(t, n, other)
		if res, err := Do(t.Context(), n, other.ID(), a, SyncConfig{}); (err == nil) != reached || reached && !res.Converged {
			t.Errorf("closed %d times: %+v, %v", closes, res, err)
		}
	}
}

// TestUnsupported tells a peer that takes no part from one that cannot be reached.
func TestUnsupported(t *testing.T) {
	n, other := node(t), node(t)
	connect(t, n, other)
	if _, err := Do(t.Context(), n, other.ID(), replicaOf(t), SyncConfig{}); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}

// TestSetsOfEntries reconciles the ids of all entries by negentropy, and costs what the differences cost.
func TestSetsOfEntries(t *testing.T) {
	a, b := replicaOf(t), replicaOf(t)
	write(t, a.Store, 1, 20_000, 10)
	met(t, a, b, SessionConfig{}, SessionConfig{})
	write(t, a.Store, 1, 10, 10)
	write(t, b.Store, 2, 20, 10)
	na, _ := serving(t, a, Config{Every: -1})
	nb := node(t)
	conn := connect(t, nb, na)
	var have, need, bytes, rounds int
	see(t, b.Store, func(v *logstore.View) {
		i, err := negentropy.NewInitiator(v, negentropyFrame)
		if err != nil {
			t.Fatal(err)
		}
		msg, err := i.Open()
		for ; err == nil && msg != nil; rounds++ {
			var answer []byte
			if answer, err = ask(t.Context(), nb, conn, msg); err != nil {
				break
			}
			bytes += len(msg) + len(answer)
			var d negentropy.Diff
			msg, d, err = i.Next(answer)
			have, need = have+len(d.Have), need+len(d.Need)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if have != 20 || need != 10 || rounds > 3 || bytes > 8000 {
		t.Errorf("have %d, need %d, %d rounds, %d bytes", have, need, rounds, bytes)
	}
}

func ask(ctx context.Context, n *host.Node, conn network.Conn, msg []byte) ([]byte, error) {
	st, err := n.OpenStream(ctx, conn, SetProtocol)
	if err != nil {
		return nil, err
	}
	return wire.Exchange(ctx, st, msg, maxFrame)
}
