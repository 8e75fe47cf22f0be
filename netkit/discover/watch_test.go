package discover_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dibber/netkit/discover"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/rendezvous"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// disk is a database that outlives its server.
type disk struct {
	mu   sync.Mutex
	data map[string][]byte
}

func (d *disk) Scan(prefix []byte, fn func(key, value []byte) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(d.data)) {
		if strings.HasPrefix(k, string(prefix)) {
			if err := fn([]byte(k), d.data[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *disk) Write(changes map[string][]byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, v := range changes {
		if v == nil {
			delete(d.data, k)
		} else {
			d.data[k] = slices.Clone(v)
		}
	}
	return nil
}

// watched is what a search tells of peers: who there is, and each event since it
// was last asked for.
type watched struct {
	mu     sync.Mutex
	there  map[peer.ID]bool
	events []string
	bad    []string
	source discover.SourceResult
}

func (w *watched) on(e discover.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Source != nil {
		w.source = *e.Source
	}
	if e.Peer == nil {
		return
	}
	if w.there[e.Peer.ID] == (e.Kind == discover.PeerAdded) {
		w.bad = append(w.bad, fmt.Sprintf("%s of a peer that is there: %v", e.Kind, w.there[e.Peer.ID]))
	}
	w.there[e.Peer.ID] = e.Kind != discover.PeerExpired
	w.events = append(w.events, string(e.Kind)+" "+e.Peer.ID.String())
}

// take returns the events, sorted.
func (w *watched) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.events
	w.events = nil
	slices.Sort(events)
	return events
}

// pointAt starts a rendezvous point on a machine, and returns what ends it.
func pointAt(t *testing.T, m *natlab.Machine, key crypto.PrivKey, db rendezvous.DB) (server peer.AddrInfo, end func()) {
	t.Helper()
	n := m.Host(host.Config{Identity: key})
	s, err := rendezvous.NewServer(n, rendezvous.ServerConfig{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	return infoOf(n), sync.OnceFunc(func() {
		if err := errors.Join(s.Close(), n.Close()); err != nil {
			t.Error(err)
		}
	})
}

// TestWatchedServerRestarts ends a server, in order or as a power cut does, starts
// it again, and has peers come and go before it is found. What was known stays
// known meanwhile; within 10 s of its return everything is as the server has it.
func TestWatchedServerRestarts(t *testing.T) {
	for name, c := range map[string]struct {
		crash bool
		away  time.Duration
	}{
		"ended, for a second":    {false, time.Second},
		"ended, for ten minutes": {false, 10 * time.Minute},
		"killed, back at once":   {true, 100 * time.Millisecond},
		"killed, for 4 s":        {true, 4 * time.Second},
		"killed, for 20 s":       {true, 20 * time.Second},
		"killed, for 10 minutes": {true, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				key, _, err := crypto.GenerateEd25519Key(rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				machine, db := lab.Internet().Machine("server", natlab.MachineConfig{}), &disk{data: make(map[string][]byte)}
				watcher := lab.Internet().Machine("watcher", natlab.MachineConfig{}).Host(host.Config{})
				var peers []*host.Node
				for i := range 3 {
					peers = append(peers, lab.Internet().Machine(fmt.Sprintf("peer%d", i), natlab.MachineConfig{}).Host(host.Config{}))
				}
				server, end := pointAt(t, machine, key, db)
				register(t, peers[0], server, "garden")
				register(t, peers[1], server, "garden")

				w := &watched{there: make(map[peer.ID]bool)}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					_, _ = discover.Watch(ctx, watcher, discover.Config{
						Servers: []peer.AddrInfo{server}, Namespace: "garden", Interval: time.Hour, On: w.on,
					})
				}()
				defer func() { cancel(); <-ended }()
				time.Sleep(2 * time.Second)
				expect := func(when string, want ...string) {
					t.Helper()
					slices.Sort(want)
					if diff := cmp.Diff(want, w.take()); diff != "" {
						t.Errorf("%s (-want +got):\n%s", when, diff)
					}
				}
				expect("at first", "peer.added "+peers[0].ID().String(), "peer.added "+peers[1].ID().String())

				if c.crash {
					machine.Link().Cut() // it cannot say goodbye
				}
				end()
				time.Sleep(c.away)
				expect("while it is away")
				machine.Link().Restore()
				server, end = pointAt(t, machine, key, db)
				defer end()
				returned := time.Now()
				for _, p := range peers {
					_ = p.Network().ClosePeer(server.ID)
				}
				if err := rendezvous.Unregister(t.Context(), peers[0], server, "garden"); err != nil {
					t.Fatal(err)
				}
				register(t, peers[2], server, "garden")
				time.Sleep(time.Until(returned.Add(10 * time.Second)))
				expect("10 s after its return", "peer.expired "+peers[0].ID().String(), "peer.added "+peers[2].ID().String())
				register(t, peers[0], server, "garden")
				time.Sleep(time.Second)
				expect("afterwards", "peer.added "+peers[0].ID().String())
				if !w.source.OK || *w.source.Via != "push" || len(w.bad) > 0 {
					t.Errorf("source %+v; %q", w.source, w.bad)
				}
			})
		})
	}
}

// TestWatchAllOfSeveralServers watches all namespaces of a server that pushes and
// of one that does not: a peer is told of once, and goes with its last
// registration.
func TestWatchAllOfSeveralServers(t *testing.T) {
	east, west := point(t, rendezvous.ServerConfig{}), oldPoint(t, rendezvous.ServerConfig{})
	alice, n := node(t, host.Config{}), node(t, host.Config{})
	events := make(chan discover.Event, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan discover.Result)
	go func() {
		r, _ := discover.Watch(ctx, n, discover.Config{
			Servers: []peer.AddrInfo{east, west}, Interval: 10 * time.Millisecond,
			On: func(e discover.Event) {
				if e.Peer != nil {
					events <- e
				}
			},
		})
		ended <- r
	}()
	wait := func(kind discover.EventKind, found ...string) {
		t.Helper()
		select {
		case e := <-events:
			var got []string
			for _, f := range e.Peer.Found {
				got = append(got, *f.Namespace)
			}
			if diff := cmp.Diff(found, got); e.Kind != kind || diff != "" {
				t.Fatalf("%s, want %s: %s", e.Kind, kind, diff)
			}
		case <-time.After(patience):
			t.Fatalf("waited in vain for %s %s", kind, found)
		}
	}
	unregister := func(server peer.AddrInfo, ns string) {
		t.Helper()
		if err := rendezvous.Unregister(t.Context(), alice, server, ns); err != nil {
			t.Fatal(err)
		}
	}
	at := ma.StringCast("/ip4/127.0.0.1/tcp/1")
	register(t, alice, east, "garden", at)
	wait(discover.PeerAdded, "garden")
	register(t, alice, east, "kitchen", at)
	wait(discover.PeerUpdated, "garden", "kitchen")
	register(t, alice, west, "cellar", at)
	wait(discover.PeerUpdated, "garden", "kitchen", "cellar")
	unregister(east, "garden")
	wait(discover.PeerUpdated, "kitchen", "cellar")
	unregister(west, "cellar")
	wait(discover.PeerUpdated, "kitchen")
	unregister(east, "kitchen")
	wait(discover.PeerExpired, "kitchen")
	cancel()
	r := <-ended
	if *r.Sources[0].Via != "push" || *r.Sources[1].Via != "poll" {
		t.Errorf("sources %+v", r.Sources)
	}
}

// TestWatch watches a server that pushes, which is never asked, and one that does
// not.
func TestWatch(t *testing.T) {
	for via, start := range map[string]func(*testing.T, rendezvous.ServerConfig) peer.AddrInfo{"push": point, "poll": oldPoint} {
		t.Run(via, func(t *testing.T) {
			var asked atomic.Int32
			server := start(t, rendezvous.ServerConfig{On: func(e rendezvous.Event) {
				if e.Kind == rendezvous.EventDiscover {
					asked.Add(1)
				}
			}})
			r := watchOne(t, server, map[string]time.Duration{"push": time.Hour, "poll": 20 * time.Millisecond}[via])
			if s := r.Sources[0]; !s.OK || s.Via == nil || *s.Via != via || s.MS == nil || s.Count != 1 {
				t.Errorf("source %+v", s)
			}
			if n := asked.Load(); via == "push" && n != 0 || via == "poll" && n < 4 {
				t.Errorf("the server was asked %d times", n)
			}
		})
	}
}

// watchOne has a peer come, change, go and come again while its namespace is
// watched.
func watchOne(t *testing.T, server peer.AddrInfo, interval time.Duration) discover.Result {
	t.Helper()
	alice, n := node(t, host.Config{}, quicAddr), node(t, host.Config{}, quicAddr)
	events := make(chan discover.Event, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	var r discover.Result
	var err error
	go func() {
		defer close(ended)
		r, err = discover.Watch(ctx, n, discover.Config{
			Servers: []peer.AddrInfo{server}, Namespace: "garden", Interval: interval,
			On: func(e discover.Event) {
				if e.Peer != nil {
					events <- e
				}
			},
		})
	}()
	wait := func(kind discover.EventKind, at ...ma.Multiaddr) {
		t.Helper()
		select {
		case e := <-events:
			if e.Kind != kind || e.Peer.ID != alice.ID() || !slices.Equal(e.Peer.Addrs, full(alice.ID(), at)) {
				t.Fatalf("got %s %+v, want %s at %s", e.Kind, e.Peer, kind, at)
			}
		case <-time.After(patience):
			t.Fatalf("waited in vain for %s", kind)
		}
	}
	first, second := ma.StringCast("/ip4/127.0.0.1/tcp/1"), ma.StringCast("/ip4/127.0.0.1/tcp/2")
	register(t, alice, server, "garden", first)
	wait(discover.PeerAdded, first)
	register(t, alice, server, "garden", second)
	wait(discover.PeerUpdated, second)
	register(t, alice, server, "garden", second) // a refresh, which is no news
	register(t, alice, server, "elsewhere", first)
	if err := rendezvous.Unregister(t.Context(), alice, server, "garden"); err != nil {
		t.Fatal(err)
	}
	wait(discover.PeerExpired, second)
	register(t, alice, server, "garden", first)
	wait(discover.PeerAdded, first)
	cancel()
	<-ended
	if !errors.Is(err, context.Canceled) || r.Count != 1 {
		t.Errorf("result %+v, error %v", r, err)
	}
	return r
}

// Only the first question of a round is answered with everything; the others have
// the cookie of the answer before.
func TestCookiesAreKept(t *testing.T) {
	answered := make(chan int, 1000)
	server := oldPoint(t, rendezvous.ServerConfig{On: func(e rendezvous.Event) {
		if e.Kind == rendezvous.EventDiscover {
			answered <- e.Count
		}
	}})
	register(t, node(t, host.Config{}, quicAddr), server, "garden")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	n := node(t, host.Config{})
	var got []int
	r, err := discover.Watch(ctx, n, discover.Config{
		Servers: []peer.AddrInfo{server}, Namespace: "garden", Interval: time.Millisecond,
		On: func(e discover.Event) {
			for len(answered) > 0 {
				got = append(got, <-answered)
			}
			if len(got) >= 13 {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) || r.Count != 1 {
		t.Fatalf("result %+v, error %v", r, err)
	}
	// All of it, and the empty page after it; nine times no news; all of it again.
	want := []int{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0}
	if diff := cmp.Diff(want, got[:13]); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}
