package mdns

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"
)

// patience is how long a test waits for what must happen. Only a failing test waits that long.
const patience = 20 * time.Second

func loopback(t testing.TB) string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, iface := range all {
		if iface.Flags&net.FlagLoopback != 0 && iface.Flags&net.FlagUp != 0 {
			return iface.Name
		}
	}
	t.Skip("no loopback interface")
	return ""
}

// testService returns a service name that no other test run uses.
func testService() string { return fmt.Sprintf("_p2p-test-%x._udp", rand.Uint64()) }

// deaf returns a host that listens nowhere.
func deaf(t testing.TB) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// start starts a service on the loopback interface only, and returns its events.
func start(t testing.TB, h host.Host, config Config) (*Service, <-chan Event) {
	t.Helper()
	events := make(chan Event, 100)
	config.On = func(e Event) { events <- e }
	config.Interfaces = []string{loopback(t)}
	s, err := New(h, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, events
}

func wait(t testing.TB, events <-chan Event, want Event) {
	t.Helper()
	select {
	case got := <-events:
		if got.Kind != want.Kind || got.Peer.ID != want.Peer.ID {
			t.Fatalf("got %s %s, want %s %s", got.Kind, got.Peer, want.Kind, want.Peer)
		}
		if diff := cmp.Diff(textOf(want.Peer.Addrs), textOf(got.Peer.Addrs)); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", got.Kind, diff)
		}
		if (got.TTL > 0) != (want.Kind != Expired) {
			t.Fatalf("%s with a ttl of %v", got.Kind, got.TTL)
		}
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", want.Kind)
	}
}

func TestPeersFindEachOther(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	service := testService()
	a, b := deaf(t), deaf(t)
	defer a.Close()
	defer b.Close()
	addrs := mustAddrs(t, addr1, addr2)
	announce := func() []ma.Multiaddr { return addrs }
	sa, atA := start(t, a, Config{ServiceName: service, Announce: true, Browse: true, Addrs: announce})
	sb, atB := start(t, b, Config{ServiceName: service + ".local", Announce: true, Browse: true, Addrs: announce})
	wait(t, atA, Event{Kind: Found, Peer: peer.AddrInfo{ID: b.ID(), Addrs: addrs}})
	wait(t, atB, Event{Kind: Found, Peer: peer.AddrInfo{ID: a.ID(), Addrs: addrs}})
	if diff := cmp.Diff([]string{loopback(t)}, sa.Interfaces()); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
	if err := sb.Close(); err != nil {
		t.Error(err)
	}
	wait(t, atA, Event{Kind: Expired, Peer: peer.AddrInfo{ID: b.ID()}})
	if err := errors.Join(sa.Close(), sa.Close()); err != nil {
		t.Error(err)
	}
}

func TestChangesOfAddressAreTold(t *testing.T) {
	service := testService()
	a, b := deaf(t), deaf(t)
	var addrs atomic.Pointer[[]ma.Multiaddr]
	first, both := mustAddrs(t, addr1), mustAddrs(t, addr1, addr2)
	addrs.Store(&first)
	_, events := start(t, b, Config{ServiceName: service})
	start(t, a, Config{
		ServiceName: service, Announce: true, Interval: time.Second, Addrs: func() []ma.Multiaddr { return *addrs.Load() },
	})
	wait(t, events, Event{Kind: Found, Peer: peer.AddrInfo{ID: a.ID(), Addrs: first}})
	addrs.Store(&both)
	wait(t, events, Event{Kind: Updated, Peer: peer.AddrInfo{ID: a.ID(), Addrs: both}})
}

func TestListenAddressesAreAnnouncedByDefault(t *testing.T) {
	service := testService()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	_, events := start(t, deaf(t), Config{ServiceName: service})
	start(t, h, Config{ServiceName: service, Announce: true})
	wait(t, events, Event{Kind: Found, Peer: peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}})
}

// listenIn tells what packets of a service can be heard on the loopback interface: "query", or whose
// records, which may be taken back.
func listenIn(t *testing.T, service string) <-chan string {
	t.Helper()
	us, err := newNames(service)
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := openSockets([]string{loopback(t)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sockets.refresh(); err != nil {
		t.Fatal(err)
	}
	kinds := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, maxPacket)
		for {
			r, ok, err := sockets.receive4(buf)
			if err != nil {
				return
			}
			if !ok {
				continue
			}
			msg, err := parse(r.data, us)
			switch {
			case err != nil:
			case msg.asks:
				kinds <- "query"
			case len(msg.found) > 0:
				kinds <- msg.found[0].info.ID.String()
			}
		}
	}()
	t.Cleanup(func() { sockets.close(); <-done })
	return kinds
}

func TestBrowsingAloneAnnouncesNothing(t *testing.T) {
	service := testService()
	kinds := listenIn(t, service)
	addrs := func() []ma.Multiaddr { return mustAddrs(t, addr1) }
	next := func() string {
		select {
		case kind := <-kinds:
			return kind
		case <-time.After(patience):
			t.Fatal("nothing more is sent")
			return ""
		}
	}
	s, _ := start(t, deaf(t), Config{ServiceName: service, Addrs: addrs})
	// The service hears its own first question, and would answer before the second.
	for range 2 {
		if got := next(); got != "query" {
			t.Fatalf("sends records of %s", got)
		}
	}
	s.Close()
	// Packets keep their order: all it sent has been heard when those of another peer are.
	marker := deaf(t)
	start(t, marker, Config{ServiceName: service, Announce: true, Addrs: addrs})
	for got := next(); got != marker.ID().String(); got = next() {
		if got != "query" {
			t.Fatalf("sent records of %s", got)
		}
	}
}

func TestNothingIsReportedAfterClose(t *testing.T) {
	service := testService()
	var closed, late atomic.Bool
	b, err := New(deaf(t), Config{
		ServiceName: service, Interfaces: []string{loopback(t)},
		On: func(Event) {
			if closed.Load() {
				late.Store(true)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	closed.Store(true)
	kinds := listenIn(t, service)
	start(t, deaf(t), Config{ServiceName: service, Announce: true, Addrs: func() []ma.Multiaddr { return mustAddrs(t, addr1) }})
	for range 2 { // the two announcements of the start
		select {
		case <-kinds:
		case <-time.After(patience):
			t.Fatal("nothing announced")
		}
	}
	if late.Load() {
		t.Error("an event came after Close")
	}
}

func TestNewRefuses(t *testing.T) {
	h := deaf(t)
	if _, err := New(h, Config{ServiceName: "p2p"}); !errors.Is(err, ErrServiceName) {
		t.Errorf("service name: %v", err)
	}
	if _, err := New(h, Config{Interfaces: []string{"no-such-interface"}}); err == nil {
		t.Error("took an interface that does not exist")
	}
}

func TestFloodsAreDropped(t *testing.T) {
	service := testService()
	_, events := start(t, deaf(t), Config{ServiceName: service})
	loud, err := openSockets([]string{loopback(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer loud.close()
	if _, err := loud.refresh(); err != nil {
		t.Fatal(err)
	}
	garbage := make([]byte, maxPacket)
	for range 20 * packetsPerSecond {
		loud.send(link{}, [][]byte{garbage})
	}
	// Afterwards it still hears a peer: the announcements of its start, or the answer to a question.
	a := deaf(t)
	start(t, a, Config{ServiceName: service, Announce: true, Addrs: func() []ma.Multiaddr { return mustAddrs(t, addr1) }})
	wait(t, events, Event{Kind: Found, Peer: peer.AddrInfo{ID: a.ID(), Addrs: mustAddrs(t, addr1)}})
}
