package rendezvous

import (
	"errors"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// picture builds from the events of a follower what it knows, by record seq.
type picture struct {
	mu    sync.Mutex
	known map[entryKey]uint64
	told  []string
	// gate holds back the follower where it is not nil.
	gate chan struct{}
}

func (p *picture) on(e FollowerEvent) {
	if p.gate != nil {
		<-p.gate
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	told := string(e.Kind) + " " + string(e.Via)
	if e.Answer {
		told += " answer"
	}
	p.told = append(p.told, strings.TrimSpace(told))
	if e.Kind == FollowerAll || p.known == nil {
		p.known = make(map[entryKey]uint64)
	}
	for _, entry := range e.Entries {
		p.known[entryKey{entry.Namespace, entry.Peer}] = entry.Seq
	}
	if e.Kind == FollowerGone {
		delete(p.known, entryKey{e.Namespace, e.Peer})
	}
}

// await waits until what is known is what a registry holds in a namespace.
func (p *picture) await(t *testing.T, s *Server, ns string) {
	t.Helper()
	want := make(map[entryKey]uint64)
	for _, e := range everything(s.reg) {
		if ns == "" || e.space.ns == ns {
			want[e.key()] = e.packed.recordSeq(e.owner.id, Standard)
		}
	}
	var got map[entryKey]uint64
	defer func() {
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(entryKey{})); diff != "" {
			t.Errorf("namespace %q: %s", ns, diff)
		}
	}()
	p.until(t, func() bool {
		got = maps.Clone(p.known)
		return got != nil && maps.Equal(want, got)
	})
}

// until waits for something.
func (p *picture) until(t *testing.T, what func() bool) {
	t.Helper()
	for ctx := testContext(t); ctx.Err() == nil; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		done := what()
		p.mu.Unlock()
		if done {
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Fatalf("waited in vain; told %q", p.told)
}

// count is how many events of a kind were told.
func (p *picture) count(told string) (n int) {
	for _, one := range p.told {
		if one == told {
			n++
		}
	}
	return n
}

func following(t *testing.T, h, server host.Host, p *picture, cfg FollowerConfig) {
	t.Helper()
	cfg.Server, cfg.On = infoOf(server), p.on
	f, err := NewFollower(h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if h.ConnManager().IsProtected(server.ID(), f.protectTag()) {
			t.Error("the connection to the server is still protected")
		}
	})
}

func mustStore(t *testing.T, s *Server, c claim) {
	t.Helper()
	if _, why := s.put(t.Context(), c); why != nil {
		t.Fatal(why)
	}
}

// TestFollowerByPush follows several namespaces, and all, of a server that
// pushes: it is never asked.
func TestFollowerByPush(t *testing.T) {
	point, reader := newHost(t), newHost(t)
	s := newServer(t, point, ServerConfig{})
	ids := sealedPeers(t, 3)
	mustStore(t, s, ids[0].claim(t, "a", 1))
	views := map[string]*picture{"": {}, "a": {}, "b": {}}
	for ns, p := range views {
		following(t, reader, point, p, FollowerConfig{Namespace: ns, Interval: time.Millisecond})
	}
	check := func() {
		t.Helper()
		for ns, p := range views {
			p.await(t, s, ns)
		}
	}
	check()
	mustStore(t, s, ids[1].claim(t, "a", 1))
	mustStore(t, s, ids[2].claim(t, "b", 1))
	mustStore(t, s, ids[0].claim(t, "a", 2))
	check()
	s.reg.remove(entryKey{"a", ids[1].id})
	check()
	s.sweep(time.Now().Add(3 * time.Hour))
	check()
	for ns, p := range views {
		p.mu.Lock()
		if got := p.count("all push answer"); got != 1 || len(p.told) < 2 {
			t.Errorf("namespace %q: %q", ns, p.told)
		}
		p.mu.Unlock()
	}
	if got := s.Stats().Requests; got["discover"]["OK"] != 0 || got["watch"]["OK"] != 3 {
		t.Errorf("requests %v", got)
	}
}

// TestFollowerFallsBack follows servers that do not push: they are asked.
func TestFollowerFallsBack(t *testing.T) {
	for name, c := range map[string]struct {
		// spoil keeps the server from pushing.
		spoil func(point host.Host)
		cfg   FollowerConfig
		limit Limits
		tried uint64 // watches refused
	}{
		// An older server, or one of rust or waku.
		"without the protocol": {spoil: func(point host.Host) { point.RemoveStreamHandler(WatchProtocolID) }},
		"silent": {
			spoil: func(point host.Host) {
				point.SetStreamHandler(WatchProtocolID, func(st network.Stream) {
					<-t.Context().Done()
					_ = st.Reset()
				})
			},
			cfg: FollowerConfig{Timeout: time.Second},
		},
		"talking nonsense": {spoil: func(point host.Host) {
			point.SetStreamHandler(WatchProtocolID, func(st network.Stream) {
				_, _ = st.Write([]byte{2, 8, 99})
				_ = st.Close()
			})
		}},
		"with too many watchers":      {limit: Limits{Watchers: 1}, tried: 1},
		"with too many registrations": {cfg: FollowerConfig{Max: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			point, reader, other := newHost(t), newHost(t), newHost(t)
			s := newServer(t, point, ServerConfig{Limits: c.limit})
			if c.spoil != nil {
				c.spoil(point)
			}
			for _, p := range sealedPeers(t, 3) {
				mustStore(t, s, p.claim(t, "ns", 1))
			}
			if c.limit.Watchers == 1 {
				busy, _, _ := watching(t, other, point, WatchRequest{})
				next(t, busy)
			}
			p := new(picture)
			c.cfg.Namespace, c.cfg.Interval = "ns", time.Millisecond
			following(t, reader, point, p, c.cfg)
			p.await(t, s, "ns")
			late := sealedPeers(t, 1)[0]
			mustStore(t, s, late.claim(t, "ns", 1))
			p.await(t, s, "ns")
			if c.cfg.Max == 0 { // else nothing tells who is gone
				s.reg.remove(entryKey{"ns", late.id})
				p.await(t, s, "ns")
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.count("all push answer") > 0 || p.count("news poll answer") == 0 || p.count("failed") > 0 {
				t.Errorf("told %q", p.told)
			}
			if got := s.Stats().Requests["watch"][StatusUnavailable.String()]; got != c.tried {
				t.Errorf("%d watches were refused, want %d", got, c.tried)
			}
		})
	}
}

// TestFollowerIsToldOfTheProtocol follows a server that begins to push later.
func TestFollowerIsToldOfTheProtocol(t *testing.T) {
	point, reader := newHost(t), newHost(t)
	s := newServer(t, point, ServerConfig{})
	point.RemoveStreamHandler(WatchProtocolID)
	p := new(picture)
	following(t, reader, point, p, FollowerConfig{Namespace: "ns", Interval: time.Hour})
	p.until(t, func() bool { return p.count("all poll answer") > 0 })
	// Asked for the second time in an hour: it is identify that tells.
	point.SetStreamHandler(WatchProtocolID, s.watch.handle)
	p.until(t, func() bool { return p.count("all push answer") > 0 })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count("all push answer") != 1 || p.count("failed") > 0 {
		t.Errorf("told %q", p.told)
	}
}

// TestFollowerThatCameTooSoon follows a server that takes questions before it pushes, and of which identify had told that it does.
func TestFollowerThatCameTooSoon(t *testing.T) {
	point, reader := newHost(t), newHost(t)
	s := newServer(t, point, ServerConfig{})
	var early atomic.Bool
	point.SetStreamHandler(WatchProtocolID, func(st network.Stream) {
		if early.CompareAndSwap(false, true) {
			_ = st.Reset()
			return
		}
		s.watch.handle(st)
	})
	p := new(picture)
	following(t, reader, point, p, FollowerConfig{Namespace: "ns", Interval: time.Hour})
	p.until(t, func() bool { return p.count("all push answer") > 0 })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count("all poll answer") != 1 {
		t.Errorf("told %q", p.told)
	}
}

// TestFollowerComesBack breaks the stream, in every way, while things change.
func TestFollowerComesBack(t *testing.T) {
	for name, memory := range map[string]bool{"from a database": true, "with nothing": false} {
		t.Run(name, func(t *testing.T) {
			point, reader := newHost(t), newHost(t)
			var cfg ServerConfig
			if memory {
				cfg.DB = &memDB{data: make(map[string][]byte)}
			}
			s := newServer(t, point, cfg)
			ids := sealedPeers(t, 3)
			mustStore(t, s, ids[0].claim(t, "ns", 1))
			mustStore(t, s, ids[1].claim(t, "ns", 1))
			p := new(picture)
			following(t, reader, point, p, FollowerConfig{Namespace: "ns", Interval: time.Hour, FirstRetry: time.Millisecond, LastRetry: time.Millisecond})
			p.await(t, s, "ns")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			p.until(t, func() bool { return p.count("failed") > 0 })
			s = newServer(t, point, cfg)
			s.reg.remove(entryKey{"ns", ids[0].id})
			mustStore(t, s, ids[2].claim(t, "ns", 1))
			if memory {
				p.await(t, s, "ns")
			}
			// Whatever of that came too late is shown by the new stream.
			p.until(t, func() bool { return p.count("all push answer") > 1 })
			p.await(t, s, "ns")
			if err := point.Network().ClosePeer(reader.ID()); err != nil {
				t.Fatal(err)
			}
			s.reg.remove(entryKey{"ns", ids[2].id})
			p.await(t, s, "ns")
			mustStore(t, s, ids[0].claim(t, "ns", 2))
			p.await(t, s, "ns")
		})
	}
}

// TestFollowerThatIsHeldUp does not read while more changes than the stream and
// the server's queue take. It is shown what it missed, who left too.
func TestFollowerThatIsHeldUp(t *testing.T) {
	point, reader := newHost(t), newHost(t)
	s := newServer(t, point, ServerConfig{Limits: Limits{WatchQueue: 4}})
	ids := sealedPeers(t, 3)
	mustStore(t, s, ids[0].claim(t, "ns", 1))
	mustStore(t, s, ids[1].claim(t, "ns", 1))
	p := &picture{gate: make(chan struct{})}
	following(t, reader, point, p, FollowerConfig{Namespace: "ns", Interval: time.Hour})
	release := sync.OnceFunc(func() { close(p.gate) })
	t.Cleanup(release)
	p.gate <- struct{}{}
	p.await(t, s, "ns")
	// Without a word from the reader the stream takes some hundred kB.
	var addrs []ma.Multiaddr
	for range 32 {
		addrs = append(addrs, ma.StringCast("/dns4/a-name-as-long-as-they-come-is-what-fills-a-record-soonest.example/tcp/4001"))
	}
	envelope, err := SealRecord(ids[0].key, 2, addrs, Standard)
	if err != nil {
		t.Fatal(err)
	}
	long := ids[0].claim(t, "ns", 2)
	long.packed = pack(ids[0].id, [2][]byte{envelope, nil})
	for range 2000 {
		mustStore(t, s, long)
	}
	s.reg.remove(entryKey{"ns", ids[1].id})
	mustStore(t, s, ids[2].claim(t, "ns", 1))
	release()
	p.await(t, s, "ns")
	if got := s.Stats(); got.WatchResyncs == 0 || got.WatchMessages > 1500 {
		t.Errorf("%d resyncs, %d messages", got.WatchResyncs, got.WatchMessages)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count("all push") == 0 || p.count("all push answer") != 1 || p.count("failed") > 0 {
		t.Errorf("told %q", p.told)
	}
}

// TestFollowerFailures follows who refuses, who is no server and who is not
// there.
func TestFollowerFailures(t *testing.T) {
	locked, plain, reader := newHost(t), newHost(t), newHost(t)
	newServer(t, locked, ServerConfig{Allow: func(peer.ID, string) error { return errors.New("members only") }})
	absent := peer.AddrInfo{ID: sealedPeers(t, 1)[0].id, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/1")}}
	var refused *StatusError
	for name, c := range map[string]struct {
		server peer.AddrInfo
		is     func(error) bool
		soon   bool
	}{
		"refuses":   {infoOf(locked), func(err error) bool { return errors.As(err, &refused) && refused.Status == StatusNotAuthorized }, false},
		"no server": {infoOf(plain), func(err error) bool { return errors.Is(err, ErrUnsupported) }, true},
		"not there": {absent, func(err error) bool { return strings.HasPrefix(err.Error(), "connect to rendezvous server: ") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			events := make(chan FollowerEvent, 100)
			f, err := NewFollower(reader, FollowerConfig{Server: c.server, Interval: time.Hour, On: func(e FollowerEvent) { events <- e }})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			select {
			case e := <-events:
				if e.Kind != FollowerFailed || !c.is(e.Err) || (e.Next < time.Hour) != c.soon {
					t.Errorf("%+v", e)
				}
			case <-testContext(t).Done():
				t.Error("no event")
			}
		})
	}
}

func TestNewFollowerRefusesBadConfig(t *testing.T) {
	h := newHost(t)
	for _, cfg := range []FollowerConfig{
		{},
		{Server: infoOf(h)},
		{Server: peer.AddrInfo{ID: "server"}, Namespace: strings.Repeat("n", maxNamespace+1)},
	} {
		if f, err := NewFollower(h, cfg); err == nil {
			_ = f.Close()
			t.Errorf("%+v was accepted", cfg)
		}
	}
}
