package rendezvous

import (
	"bytes"
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/wire"
)

// watching starts a watch and returns its events. The error comes when it ends.
func watching(t *testing.T, h, server host.Host, req WatchRequest) (<-chan WatchEvent, <-chan error, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	events, ended := make(chan WatchEvent, 10_000), make(chan error, 1)
	go func() { ended <- Watch(ctx, h, infoOf(server), req, func(e WatchEvent) { events <- e }) }()
	t.Cleanup(cancel)
	return events, ended, cancel
}

// next returns the next event.
func next(t *testing.T, events <-chan WatchEvent) WatchEvent {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-testContext(t).Done():
		t.Fatal("no event")
		return WatchEvent{}
	}
}

func (e WatchEvent) brief() string {
	out := string(e.Kind)
	for _, entry := range e.Entries {
		out += fmt.Sprintf(" %s@%s", entry.Peer.ShortString(), entry.Namespace)
	}
	if e.Peer != "" {
		out += fmt.Sprintf(" -%s@%s", e.Peer.ShortString(), e.Namespace)
	}
	return out
}

func TestWatch(t *testing.T) {
	point, early, late, watcher := newHost(t), newHost(t), newHost(t), newHost(t)
	s := newServer(t, point, ServerConfig{Limits: Limits{MinTTL: time.Minute}})
	register := func(h host.Host, ns string) {
		t.Helper()
		if _, err := Register(testContext(t), h, infoOf(point), RegisterRequest{Namespace: ns}); err != nil {
			t.Fatal(err)
		}
	}
	register(early, "ns")
	register(watcher, "ns") // its own is not shown
	events, ended, cancel := watching(t, watcher, point, WatchRequest{Namespace: "ns"})
	all, _, _ := watching(t, watcher, point, WatchRequest{})
	expect := func(events <-chan WatchEvent, want string) WatchEvent {
		t.Helper()
		e := next(t, events)
		if got := e.brief(); got != want {
			t.Errorf("event %q, want %q", got, want)
		}
		return e
	}
	name := func(h host.Host, ns string) string { return h.ID().ShortString() + "@" + ns }
	for _, events := range []<-chan WatchEvent{events, all} {
		expect(events, "snapshot "+name(early, "ns"))
		expect(events, "synced")
	}
	register(late, "ns")
	added := expect(events, "add "+name(late, "ns"))
	expect(all, "add "+name(late, "ns"))
	register(late, "other")
	expect(all, "add "+name(late, "other"))
	register(early, "ns")
	refreshed := expect(events, "refresh "+name(early, "ns"))
	if refreshed.Seq <= added.Seq || len(refreshed.Entries[0].Addrs) == 0 || refreshed.Cookie == nil {
		t.Errorf("refresh %+v after %+v", refreshed, added)
	}
	if err := Unregister(testContext(t), late, infoOf(point), "ns"); err != nil {
		t.Fatal(err)
	}
	expect(events, "remove -"+name(late, "ns"))
	s.sweep(time.Now().Add(3 * time.Hour))
	for range 2 { // the watcher's own too, as it happens
		e := next(t, events)
		if e.Kind != WatchExpire {
			t.Errorf("event %q, want expire", e.brief())
		}
	}
	if got := s.Stats(); got.Watchers != 2 || got.WatchMessages < 5 || got.Requests["watch"]["OK"] != 2 {
		t.Errorf("stats %+v", got)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}

	// A cookie of a watch is one of DISCOVER, and the other way about.
	register(late, "ns")
	page, err := Discover(testContext(t), watcher, infoOf(point), DiscoverRequest{Namespace: "ns", Cookie: refreshed.Cookie})
	if err != nil || len(page.Entries) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	again, _, _ := watching(t, watcher, point, WatchRequest{Namespace: "ns", Cookie: page.Cookie})
	expect(again, "synced")
}

// TestWatchFlavours watches as each kind while one peer of each registers.
func TestWatchFlavours(t *testing.T) {
	point, goPeer, rustPeer, watcher := newHost(t), newHost(t), newHost(t), newHost(t)
	newServer(t, point, ServerConfig{})
	ask(t, goPeer, point, registerOf("ns", sealFor(t, goPeer, 1, Standard), nil))
	streams := make(map[Format]<-chan WatchEvent)
	for _, format := range []Format{FormatAuto, FormatStandard, FormatLegacy} {
		streams[format], _, _ = watching(t, watcher, point, WatchRequest{Namespace: "ns", Format: format})
		if format != FormatLegacy {
			next(t, streams[format])
		}
		if e := next(t, streams[format]); e.Kind != WatchSynced {
			t.Fatalf("format %q: %s", format, e.brief())
		}
	}
	ask(t, rustPeer, point, registerOf("ns", sealFor(t, rustPeer, 1, Legacy), nil))
	ask(t, goPeer, point, registerOf("ns", sealFor(t, goPeer, 2, Standard), nil))
	for format, want := range map[Format][]WatchKind{
		FormatAuto:     {WatchAdd, WatchRefresh},
		FormatStandard: {WatchRemove, WatchRefresh}, // of nothing it knows
		FormatLegacy:   {WatchAdd, WatchRemove},
	} {
		for _, kind := range want {
			e := next(t, streams[format])
			if e.Kind != kind || e.Skipped != 0 {
				t.Errorf("format %q: %q, want %s", format, e.brief(), kind)
			}
		}
	}
}

func TestWatchRefusals(t *testing.T) {
	point, plain, watcher := newHost(t), newHost(t), newHost(t)
	s := newServer(t, point, ServerConfig{Limits: Limits{PeerWatchers: 1, Watchers: 2}, Allow: func(_ peer.ID, ns string) error {
		if ns == "private" {
			return errors.New("members only")
		}
		return nil
	}})
	never := func(WatchEvent) { t.Error("an event") }
	if err := Watch(testContext(t), watcher, infoOf(plain), WatchRequest{Namespace: "ns"}, never); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a peer without the protocol: %v", err)
	}
	refused := func(h host.Host, req WatchRequest, want Status) {
		t.Helper()
		var status *StatusError
		err := Watch(testContext(t), h, infoOf(point), req, never)
		if !errors.As(err, &status) || status.Status != want {
			t.Errorf("%+v: %v, want %s", req, err, want)
		}
	}
	refused(watcher, WatchRequest{Namespace: "private"}, StatusNotAuthorized)
	refused(watcher, WatchRequest{Namespace: "ns", Cookie: []byte("somebody else's cookie")}, StatusInvalidCookie)
	first, _, _ := watching(t, watcher, point, WatchRequest{Namespace: "ns"})
	next(t, first)
	refused(watcher, WatchRequest{Namespace: "ns"}, StatusUnavailable)
	second, ended, _ := watching(t, plain, point, WatchRequest{Namespace: "ns"})
	next(t, second)
	refused(newHost(t), WatchRequest{Namespace: "ns"}, StatusUnavailable)
	if got := s.Stats().Refusals; got["watchers"] != 2 || got["access"] != 1 || got["cookie"] != 1 {
		t.Errorf("refusals %v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var reset *network.StreamError
	if err := <-ended; !errors.As(err, &reset) || reset.ErrorCode != network.StreamShutdown {
		t.Errorf("after the server closed: %v", err)
	}
	if got := s.watch.count(); got != 0 {
		t.Errorf("%d watchers left", got)
	}
}

// gatedStream lets writes through one at a time.
type gatedStream struct {
	network.Stream
	frames chan []byte
}

func (s *gatedStream) SetWriteDeadline(time.Time) error { return nil }
func (s *gatedStream) Write(p []byte) (int, error) {
	s.frames <- append([]byte{}, p...)
	return len(p), nil
}

// frame reads what the view writes next.
func (s *gatedStream) frame(t *testing.T) watchMessage {
	t.Helper()
	r := wire.NewReader(bytes.NewReader(<-s.frames), maxReply)
	body, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	var m watchMessage
	if err := m.decode(body); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestSlowWatcherResyncs lets more happen than a queue holds while a watcher
// does not read. Nobody waits for it; it is told that it lost something, and a
// snapshot from there, or of everything if a removal was lost.
func TestSlowWatcherResyncs(t *testing.T) {
	for _, removal := range []bool{false, true} {
		t.Run(fmt.Sprintf("removal %v", removal), func(t *testing.T) {
			point := newHost(t)
			s := newServer(t, point, ServerConfig{})
			put := func(name string) {
				t.Helper()
				if _, why := s.put(t.Context(), testClaim(name, "ns", 2*time.Hour)); why != nil {
					t.Fatal(why)
				}
			}
			put("there")
			st := &gatedStream{frames: make(chan []byte)}
			w := &watcher{peer: "w", ns: "ns", size: 3, wake: make(chan struct{}, 1)}
			if why := s.watch.join(w, s.reg.limits.Load()); why != nil {
				t.Fatal(why)
			}
			v := &view{s: s, st: st, peer: "w", ns: "ns", watcher: w}
			ctx, cancel := context.WithCancel(testContext(t))
			ended := make(chan error, 1)
			go func() { ended <- v.run(ctx, nil) }()
			expect := func(kind watchType, entries int) watchMessage {
				t.Helper()
				m := st.frame(t)
				if *m.kind != kind || len(m.entries.registrations) != entries {
					t.Fatalf("message %d with %d entries, want %d with %d", *m.kind, len(m.entries.registrations), kind, entries)
				}
				return m
			}
			expect(watchSnapshot, 1)
			// The view is at the synced message and nobody reads: three fit.
			for i := range 10 {
				put(fmt.Sprint(i))
			}
			if removal {
				s.reg.remove(entryKey{ns: "ns", peer: "there"})
			}
			expect(watchSynced, 0)
			for range 3 {
				expect(watchAdd, 1)
			}
			m := expect(watchResync, 0)
			if removal {
				if m.cookie != nil {
					t.Errorf("a removal was lost, and the resync is not full: %x", m.cookie)
				}
				expect(watchSnapshot, 10)
			} else {
				if after, ok := s.key.Load().open("ns", m.cookie); !ok || after != 4 {
					t.Errorf("resync from %d, want 4", after)
				}
				expect(watchSnapshot, 7)
			}
			expect(watchSynced, 0)
			put("later")
			expect(watchAdd, 1)
			if got := s.Stats().WatchResyncs; got != 1 {
				t.Errorf("%d resyncs counted", got)
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("ended with %v", err)
			}
			s.watch.leave(w)
		})
	}
}

type sealedPeer struct {
	id  peer.ID
	key crypto.PrivKey
}

func sealedPeers(t *testing.T, n int) (out []sealedPeer) {
	t.Helper()
	for range n {
		key, _, err := crypto.GenerateEd25519Key(cryptorand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, sealedPeer{id, key})
	}
	return out
}

func (p sealedPeer) claim(t *testing.T, ns string, seq uint64) claim {
	envelope, err := SealRecord(p.key, seq, []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/1")}, Standard)
	if err != nil {
		t.Error(err)
	}
	c := testClaim(string(p.id), ns, 2*time.Hour)
	c.packed, c.recordSeqs = pack(p.id, [2][]byte{envelope, nil}), [2]uint64{seq, 0}
	return c
}

func FuzzReadWatch(f *testing.F) {
	f.Add((&watchMessage{kind: new(watchSynced), cookie: []byte("12345678")}).encode())
	f.Add((&watchMessage{kind: new(watchRefused), status: new(StatusUnavailable), text: new("no")}).encode())
	f.Add((&watchMessage{kind: new(watchRemove), ns: new("ns"), peer: new("peer"), seq: new(uint64(7))}).encode())
	f.Fuzz(func(t *testing.T, frame []byte) {
		e, err := readWatch("self", "ns", frame)
		if err == nil && e.Kind == "" {
			t.Fatalf("read %x as nothing", frame)
		}
	})
}
