package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"dibber/netkit/etcd"
	"dibber/netkit/rendezvous"
	"dibber/netkit/store"
)

func newHost(t testing.TB) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"), libp2p.DisableRelay(), libp2p.ResourceManager(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// point starts a server.
func point(t testing.TB, cfg rendezvous.ServerConfig) peer.AddrInfo {
	t.Helper()
	h := newHost(t)
	s, err := rendezvous.NewServer(h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return infoOf(h)
}

// registries are those that the tests run on: each returns the two servers clients go to, which
// are one and the same where the registry has no other.
func registries() map[string]func(testing.TB, rendezvous.Limits) [2]peer.AddrInfo {
	return map[string]func(testing.TB, rendezvous.Limits) [2]peer.AddrInfo{
		"embedded": func(t testing.TB, l rendezvous.Limits) [2]peer.AddrInfo {
			db, err := store.Open(t.TempDir(), store.Config{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			at := point(t, rendezvous.ServerConfig{Limits: l, DB: db})
			return [2]peer.AddrInfo{at, at}
		},
		"etcd": func(t testing.TB, l rendezvous.Limits) [2]peer.AddrInfo {
			m := newMember(t)
			return [2]peer.AddrInfo{
				point(t, rendezvous.ServerConfig{Limits: l, Space: m.space(t, etcd.Config{})}),
				point(t, rendezvous.ServerConfig{Limits: l, Space: m.space(t, etcd.Config{})}),
			}
		},
	}
}

// onEach runs a test on every registry.
func onEach(t *testing.T, l rendezvous.Limits, test func(t *testing.T, at [2]peer.AddrInfo)) {
	t.Helper()
	for name, start := range registries() {
		t.Run(name, func(t *testing.T) { test(t, start(t, l)) })
	}
}

func register(ctx context.Context, h host.Host, at peer.AddrInfo, ns string) error {
	_, err := rendezvous.Register(ctx, h, at, rendezvous.RegisterRequest{Namespace: ns})
	return err
}

func discover(t *testing.T, h host.Host, at peer.AddrInfo, cookie []byte, want int) []byte {
	t.Helper()
	page, err := rendezvous.Discover(t.Context(), h, at, rendezvous.DiscoverRequest{Namespace: "ns", Cookie: cookie})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Entries) != want {
		t.Fatalf("found %d registrations, not %d", len(page.Entries), want)
	}
	return page.Cookie
}

func status(err error) rendezvous.Status {
	if refused, ok := errors.AsType[*rendezvous.StatusError](err); ok {
		return refused.Status
	}
	return rendezvous.StatusOK
}

func TestRegistersAndDiscovers(t *testing.T) {
	onEach(t, rendezvous.Limits{}, func(t *testing.T, at [2]peer.AddrInfo) {
		asker, a, b := newHost(t), newHost(t), newHost(t)
		cookie := discover(t, asker, at[1], nil, 0)
		for i, h := range []host.Host{a, b} {
			if err := register(t.Context(), h, at[i], "ns"); err != nil {
				t.Fatal(err)
			}
			cookie = discover(t, asker, at[1-i], cookie, 1)
		}
		if err := register(t.Context(), a, at[1], "ns"); err != nil { // a refresh, at the other
			t.Fatal(err)
		}
		cookie = discover(t, asker, at[0], cookie, 1)
		discover(t, asker, at[1], cookie, 0)
		if err := rendezvous.Unregister(t.Context(), b, at[0], "ns"); err != nil {
			t.Fatal(err)
		}
		discover(t, asker, at[1], nil, 1)
		if _, err := rendezvous.Discover(t.Context(), asker, at[0], rendezvous.DiscoverRequest{Namespace: "other", Cookie: cookie}); status(err) != rendezvous.StatusInvalidCookie {
			t.Fatalf("a cookie of another namespace: %v", err)
		}
	})
}

func TestQuotaOfAPeerIsExact(t *testing.T) {
	const most = 5
	onEach(t, rendezvous.Limits{PerPeer: most}, func(t *testing.T, at [2]peer.AddrInfo) {
		h := newHost(t)
		var running sync.WaitGroup
		var taken, refused atomic.Int64
		for i := range 4 * most {
			running.Go(func() {
				err := register(t.Context(), h, at[i%2], fmt.Sprint(i))
				for status(err) == rendezvous.StatusInvalidSignedPeerRecord { // overtaken by a newer one
					err = register(t.Context(), h, at[i%2], fmt.Sprint(i))
				}
				switch {
				case err == nil:
					taken.Add(1)
				case status(err) == rendezvous.StatusNotAuthorized:
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		running.Wait()
		if taken.Load() != most || refused.Load() != 3*most {
			t.Fatalf("%d registrations taken and %d refused of %d, with a quota of %d", taken.Load(), refused.Load(), 4*most, most)
		}
	})
}

func TestWatchPushes(t *testing.T) {
	onEach(t, rendezvous.Limits{}, func(t *testing.T, at [2]peer.AddrInfo) {
		events := make(chan rendezvous.WatchEvent, 16)
		ctx, cancel := context.WithCancel(t.Context())
		watcher, h := newHost(t), newHost(t)
		var running sync.WaitGroup
		running.Go(func() {
			_ = rendezvous.Watch(ctx, watcher, at[1], rendezvous.WatchRequest{Namespace: "ns"}, func(e rendezvous.WatchEvent) { events <- e })
		})
		defer running.Wait()
		defer cancel()
		expect := func(kind rendezvous.WatchKind) {
			t.Helper()
			select {
			case e := <-events:
				if e.Kind != kind {
					t.Fatalf("%s, not %s", e.Kind, kind)
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("no %s", kind)
			}
		}
		expect(rendezvous.WatchSynced)
		for _, kind := range []rendezvous.WatchKind{rendezvous.WatchAdd, rendezvous.WatchRefresh} {
			if err := register(ctx, h, at[0], "ns"); err != nil {
				t.Fatal(err)
			}
			expect(kind)
		}
		if err := rendezvous.Unregister(ctx, h, at[0], "ns"); err != nil {
			t.Fatal(err)
		}
		expect(rendezvous.WatchRemove)
	})
}

func TestCompactedCookieIsRefused(t *testing.T) {
	m := newMember(t)
	at := point(t, rendezvous.ServerConfig{Space: m.space(t, etcd.Config{})})
	asker, h := newHost(t), newHost(t)
	old := discover(t, asker, at, nil, 0)
	for range 3 {
		if err := register(t.Context(), h, at, "ns"); err != nil {
			t.Fatal(err)
		}
	}
	_, revision, err := m.space(t, etcd.Config{}).All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	compact := exec.CommandContext(t.Context(), "etcdctl", "--endpoints", m.at, "compact", fmt.Sprint(revision))
	compact.Env = append(compact.Environ(), "ETCDCTL_API=3")
	if out, err := compact.CombinedOutput(); err != nil {
		t.Skipf("no etcdctl that compacts (Debian: etcd-client): %v: %s", err, out)
	}
	if _, err := rendezvous.Discover(t.Context(), asker, at, rendezvous.DiscoverRequest{Namespace: "ns", Cookie: old}); status(err) != rendezvous.StatusInvalidCookie {
		t.Fatalf("a cookie from before: %v", err)
	}
	discover(t, asker, at, discover(t, asker, at, nil, 1), 0)
}

func TestWithoutEtcdNothingIsClaimed(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	at := point(t, rendezvous.ServerConfig{Space: m.space(t, etcd.Config{Attempt: time.Second})})
	asker, h := newHost(t), newHost(t)
	if err := register(t.Context(), h, at, "ns"); err != nil {
		t.Fatal(err)
	}
	m.kill()
	claimsNothing(t, h, at, m.at)
	m.start(t)
	until(t, "it is back", func() bool {
		err := register(t.Context(), h, at, "ns")
		if err != nil && status(err) != rendezvous.StatusUnavailable {
			t.Fatal(err)
		}
		return err == nil
	})
	discover(t, asker, at, nil, 1)
}
