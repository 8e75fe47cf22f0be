package etcd_test

import (
	"context"
	"io"
	"maps"
	"net"
	"sync"
	"testing"
	"time"

	client "go.etcd.io/etcd/client/v3"

	"github.com/libp2p/go-libp2p/core/peer"

	"dibber/netkit/etcd"
	"dibber/netkit/rendezvous"
)

// cable is a connection to a member that can be pulled out.
type cable struct {
	net.Listener
	to string

	mu    sync.Mutex
	out   bool
	conns []net.Conn
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{Listener: l, to: to}
	var running sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); c.pull(true); running.Wait() })
	running.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := new(net.Dialer).DialContext(context.Background(), "tcp", to)
			if err != nil || !c.add(near, far) {
				_ = near.Close()
				continue
			}
			for _, ends := range [][2]net.Conn{{near, far}, {far, near}} {
				running.Go(func() {
					_, _ = io.Copy(ends[0], ends[1])
					_ = ends[0].Close()
				})
			}
		}
	})
	return c
}

// add keeps both ends of a connection, unless the cable is out.
func (c *cable) add(ends ...net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, ends...)
	if c.out {
		for _, end := range ends {
			_ = end.Close()
		}
	}
	return !c.out
}

// pull pulls the cable out, or puts it in again.
func (c *cable) pull(out bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out = out; out {
		for _, end := range c.conns {
			_ = end.Close()
		}
		c.conns = nil
	}
}

// pushed is what a client has been pushed of each peer last.
type pushed struct {
	events chan rendezvous.WatchEvent
	last   map[peer.ID]rendezvous.WatchKind
}

// watch has a server push, until the test ends.
func watch(t *testing.T, at peer.AddrInfo) *pushed {
	t.Helper()
	p := &pushed{make(chan rendezvous.WatchEvent, 64), make(map[peer.ID]rendezvous.WatchKind)}
	ctx, cancel := context.WithCancel(t.Context())
	h := newHost(t)
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	running.Go(func() {
		_ = rendezvous.Watch(ctx, h, at, rendezvous.WatchRequest{Namespace: "ns"}, func(e rendezvous.WatchEvent) { p.events <- e })
		close(p.events)
	})
	if e := <-p.events; e.Kind != rendezvous.WatchSynced {
		t.Fatalf("at first %s", e.Kind)
	}
	return p
}

// await waits until the last that was pushed of peers is what is wanted.
func (p *pushed) await(t *testing.T, want map[peer.ID]rendezvous.WatchKind) {
	t.Helper()
	end := time.After(time.Minute)
	for !maps.Equal(p.last, want) {
		select {
		case e, on := <-p.events:
			if !on {
				t.Fatalf("the push ended with %v, not %v", p.last, want)
			}
			if e.Peer != "" {
				p.last[e.Peer] = e.Kind
			}
			for _, one := range e.Entries {
				p.last[one.Peer] = e.Kind
			}
		case <-end:
			t.Fatalf("pushed %v, not %v", p.last, want)
		}
	}
}

// TestPushOutlivesEtcd cuts a server off from etcd under a client that it pushes registrations to. At
// another server peers come and go meanwhile; then etcd forgets how that came about, and restarts. The
// client is told all of it, on the stream it has.
func TestPushOutlivesEtcd(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	line := newCable(t, m.at)
	a := point(t, rendezvous.ServerConfig{Space: m.space(t, etcd.Config{Endpoints: []string{line.Addr().String()}})})
	b := point(t, rendezvous.ServerConfig{Space: m.space(t, etcd.Config{})})
	push := watch(t, a)
	stays, goes, comes := newHost(t), newHost(t), newHost(t)
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(register(t.Context(), stays, b, "ns"))
	do(register(t.Context(), goes, b, "ns"))
	push.await(t, map[peer.ID]rendezvous.WatchKind{stays.ID(): rendezvous.WatchAdd, goes.ID(): rendezvous.WatchAdd})

	line.pull(true)
	do(register(t.Context(), stays, b, "ns"))
	do(rendezvous.Unregister(t.Context(), goes, b, "ns"))
	do(register(t.Context(), comes, b, "ns"))
	_, revision, err := m.space(t, etcd.Config{}).All(t.Context())
	do(err)
	do(failure(m.client(t).Compact(t.Context(), int64(revision), client.WithCompactPhysical())))
	m.kill()
	m.start(t)
	m.await(t, etcd.Config{})
	line.pull(false)
	push.await(t, map[peer.ID]rendezvous.WatchKind{
		stays.ID(): rendezvous.WatchRefresh, goes.ID(): rendezvous.WatchRemove, comes.ID(): rendezvous.WatchAdd,
	})

	m.kill() // and once more, with nothing forgotten
	m.start(t)
	m.await(t, etcd.Config{})
	until(t, "the other server follows again", func() bool { return register(t.Context(), goes, b, "ns") == nil })
	push.await(t, map[peer.ID]rendezvous.WatchKind{
		stays.ID(): rendezvous.WatchRefresh, goes.ID(): rendezvous.WatchAdd, comes.ID(): rendezvous.WatchAdd,
	})
}
