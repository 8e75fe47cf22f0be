package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"pgregory.net/rapid"
)

var addrA = ma.StringCast("/ip4/203.0.113.7/udp/1/quic-v1")

// lab runs a keeper in virtual time against a server that is a few variables.
type lab struct {
	start time.Time
	keep  *keeper
	stop  func()

	addrs     atomic.Pointer[[]ma.Multiaddr]
	fail      atomic.Pointer[error]
	ttl       time.Duration
	connected atomic.Int32
	log       chan string
}

func newLab(t *testing.T, addrs ...ma.Multiaddr) *lab {
	l := &lab{start: time.Now(), ttl: 2 * time.Hour, log: make(chan string, 1000)}
	l.addrs.Store(&addrs)
	l.keep = newKeeper(RegistrarConfig{
		Addrs:        func() []ma.Multiaddr { return *l.addrs.Load() },
		Debounce:     30 * time.Second,
		FirstRetry:   2 * time.Second,
		LastRetry:    5 * time.Minute,
		Timeout:      30 * time.Second,
		CloseTimeout: 3 * time.Second,
		On: func(e RegistrarEvent) {
			l.log <- fmt.Sprintf("%s %s %d", time.Since(l.start), e.Kind, len(e.Addrs))
		},
	}, keeperActions{
		connect: func(context.Context) error {
			l.connected.Add(1)
			return l.failure()
		},
		register: func(_ context.Context, addrs []ma.Multiaddr) (Registration, error) {
			return Registration{TTL: l.ttl, Addrs: addrs}, l.failure()
		},
		unregister: func(context.Context) error { return l.failure() },
		cause:      func() error { return ErrServerLost },
	}, func() float64 { return 0.5 })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		l.keep.run(ctx)
		close(done)
	}()
	l.stop = func() {
		cancel()
		<-done
		l.keep.end()
	}
	return l
}

func (l *lab) failure() error {
	if err := l.fail.Load(); err != nil {
		return *err
	}
	return nil
}

func (l *lab) setFailure(err error) {
	if err == nil {
		l.fail.Store(nil)
		return
	}
	l.fail.Store(&err)
}

func (l *lab) announce(addrs ...ma.Multiaddr) {
	l.addrs.Store(&addrs)
	l.keep.poke(signalAddrs)
}

// at waits until d after the start.
func (l *lab) at(d time.Duration) {
	time.Sleep(time.Until(l.start.Add(d)))
	synctest.Wait()
}

func (l *lab) expect(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	var got []string
	for len(l.log) > 0 {
		got = append(got, <-l.log)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRegistrarRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, addrA)
		l.expect(t, "0s registered 1")
		l.at(71 * time.Minute)
		l.expect(t)
		l.at(145 * time.Minute)
		l.expect(t, "1h12m0s refreshed 1", "2h24m0s refreshed 1")
		l.stop()
		l.expect(t, "2h25m0s unregistered 0")
	})
}

func TestRegistrarWaitsForAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.expect(t, "0s waiting 0")
		if l.connected.Load() != 1 {
			t.Error("the server was not connected to")
		}
		l.at(time.Hour)
		l.announce(addrA)
		l.expect(t, "1h0m0s registered 1")
		l.stop()
		l.expect(t, "1h0m0s unregistered 0")
	})
}

// TestRegistrarWithoutAddressesTellsNobody: there is nothing to unregister.
func TestRegistrarWithoutAddressesTellsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.expect(t, "0s waiting 0")
		l.stop()
		l.expect(t)
	})
}

// TestRegistrarDebounces changes addresses all the time.
func TestRegistrarDebounces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, addrA)
		l.at(10 * time.Second)
		for i := range 60 {
			l.announce(addrA, ma.StringCast(fmt.Sprintf("/ip4/203.0.113.7/udp/%d/quic-v1", 2+i)))
			time.Sleep(time.Second)
		}
		l.expect(t, "0s registered 1", "11s refreshed 2", "41s refreshed 2")
		l.at(20 * time.Minute)
		l.expect(t, "1m11s refreshed 2")
		l.announce(addrA, ma.StringCast("/ip4/203.0.113.7/udp/61/quic-v1"))
		l.at(21 * time.Minute)
		l.expect(t) // the same in the end
		l.stop()
		l.expect(t, "21m0s unregistered 0")
	})
}

func TestRegistrarBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, addrA)
		l.expect(t, "0s registered 1")
		l.setFailure(errors.New("refused"))
		l.at(72*time.Minute + 20*time.Second)
		l.expect(t, "1h12m0s failed 0", "1h12m2s failed 0", "1h12m6s failed 0", "1h12m14s failed 0")
		// Addresses that come and go do not get around the back-off.
		l.announce(addrA, ma.StringCast("/ip4/203.0.113.8/udp/1/quic-v1"))
		l.at(72*time.Minute + 29*time.Second)
		l.expect(t)
		l.at(100 * time.Minute)
		var failed int
		for ; len(l.log) > 0; failed++ {
			<-l.log
		}
		if failed < 8 || failed > 12 {
			t.Errorf("%d attempts in half an hour", failed)
		}
		l.setFailure(nil)
		l.at(106 * time.Minute)
		if len(l.log) != 1 {
			t.Errorf("%d events within the longest back-off of the server's return, want 1", len(l.log))
		}
		l.stop()
	})
}

// TestRegistrarComesBack loses the connection, which comes back by itself or
// not.
func TestRegistrarComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, addrA)
		l.at(10 * time.Minute)
		l.keep.poke(signalDown)
		l.at(11 * time.Minute)
		l.expect(t, "0s registered 1", "10m0s lost 0", "10m1s registered 1")
		// Lost again and again, soon after: a server that hangs up on us.
		for range 4 {
			l.keep.poke(signalDown)
			time.Sleep(10 * time.Second)
		}
		l.expect(t, "11m0s lost 0", "11m1s registered 1", "11m10s lost 0", "11m11s registered 1",
			"11m20s lost 0", "11m27s registered 1", "11m30s lost 0")
		l.at(12 * time.Minute)
		l.expect(t, "11m59s registered 1")
		// Lost and found by another before the registrar tries.
		l.at(30 * time.Minute)
		l.keep.poke(signalDown)
		l.at(30*time.Minute + 500*time.Millisecond)
		l.keep.poke(signalUp)
		l.expect(t, "30m0s lost 0", "30m0.5s registered 1")
		l.at(31 * time.Minute)
		l.expect(t)
		l.stop()
	})
}

// TestScheduleRefreshesInTime draws TTLs and chances: the refresh is always at
// 50 to 70 % of the TTL.
func TestScheduleRefreshesInTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ttl := time.Duration(rapid.IntRange(60, 72*3600).Draw(t, "ttl")) * time.Second
		chance := rapid.Float64Range(0, 0.999999).Draw(t, "chance")
		s := schedule{chance: func() float64 { return chance }}
		now := time.Unix(1_000_000, 0)
		s.done(now, ttl, nil)
		if part := float64(s.next.Sub(now)) / float64(ttl); part < 0.5 || part > 0.7 {
			t.Fatalf("refresh at %.3f of the ttl", part)
		}
	})
}

// TestRegistrarOnHosts registers, loses its server to a restart without a
// database, comes back, and unregisters.
func TestRegistrarOnHosts(t *testing.T) {
	point, client, reader := newHost(t), newHost(t), newHost(t)
	old := newServer(t, point, ServerConfig{})
	events := make(chan RegistrarEvent, 100)
	r, err := NewRegistrar(client, RegistrarConfig{
		Server:     infoOf(point),
		Namespace:  "ns",
		FirstRetry: 10 * time.Millisecond,
		On:         func(e RegistrarEvent) { events <- e },
	})
	if err != nil {
		t.Fatal(err)
	}
	wait := func(kinds ...RegistrarEventKind) {
		t.Helper()
		for {
			select {
			case e := <-events:
				if slices.Contains(kinds, e.Kind) {
					return
				}
			case <-testContext(t).Done():
				t.Fatalf("no event %v", kinds)
			}
		}
	}
	wait(RegistrarRegistered)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, point, ServerConfig{})
	if err := point.Network().ClosePeer(client.ID()); err != nil {
		t.Fatal(err)
	}
	wait(RegistrarLost)
	wait(RegistrarRegistered)
	if diff := cmp.Diff([]peer.ID{client.ID()}, peersIn(t, reader, point, "ns")); diff != "" {
		t.Error(diff)
	}
	if !client.ConnManager().IsProtected(point.ID(), "") {
		t.Error("the connection to the server is not protected")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if client.ConnManager().IsProtected(point.ID(), "") {
		t.Error("the connection to the server is still protected")
	}
	wait(RegistrarUnregistered)
	if got := s.Stats().Registrations; got != 0 {
		t.Errorf("%d registrations after closing", got)
	}
}

// TestRegistrarHearsOfAddresses tells a registrar of addresses in both ways: by
// Poke, and by the host's event.
func TestRegistrarHearsOfAddresses(t *testing.T) {
	point, client := newHost(t), newHost(t)
	newServer(t, point, ServerConfig{})
	var addrs atomic.Pointer[[]ma.Multiaddr]
	addrs.Store(new([]ma.Multiaddr))
	events := make(chan RegistrarEvent, 100)
	r, err := NewRegistrar(client, RegistrarConfig{
		Server:    infoOf(point),
		Namespace: "ns",
		Addrs:     func() []ma.Multiaddr { return *addrs.Load() },
		On:        func(e RegistrarEvent) { events <- e },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if e := <-events; e.Kind != RegistrarWaiting {
		t.Fatalf("first %+v", e)
	}
	addrs.Store(&[]ma.Multiaddr{addrA})
	r.Poke()
	if e := <-events; e.Kind != RegistrarRegistered || len(e.Addrs) != 1 {
		t.Fatalf("after Poke %+v", e)
	}
	emitter, err := client.EventBus().Emitter(new(event.EvtLocalAddressesUpdated))
	if err != nil {
		t.Fatal(err)
	}
	defer emitter.Close()
	addrs.Store(&[]ma.Multiaddr{addrA, ma.StringCast("/ip4/203.0.113.8/udp/1/quic-v1")})
	if err := emitter.Emit(event.EvtLocalAddressesUpdated{}); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Kind != RegistrarRefreshed || len(e.Addrs) != 2 {
		t.Fatalf("after the event %+v", e)
	}
}

func TestNewRegistrarRefusesBadConfig(t *testing.T) {
	h := newHost(t)
	for _, cfg := range []RegistrarConfig{
		{Server: peer.AddrInfo{ID: "server"}},
		{Namespace: "ns"},
		{Namespace: "ns", Server: infoOf(h)},
	} {
		if r, err := NewRegistrar(h, cfg); err == nil {
			_ = r.Close()
			t.Errorf("%+v was accepted", cfg)
		}
	}
}
