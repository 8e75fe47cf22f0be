package rendezvous

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// TestDiscoverAllFollowsPages reads a registry page by page.
func TestDiscoverAllFollowsPages(t *testing.T) {
	point, owner, reader := newHost(t), newHost(t), newHost(t)
	s := newServer(t, point, ServerConfig{})
	record := sealFor(t, owner, 1, Standard)
	for i := range 25 {
		c := testClaim(string(owner.ID()), fmt.Sprintf("ns%02d", i), 2*time.Hour)
		c.packed = pack(owner.ID(), [2][]byte{record, nil})
		if _, why := s.put(t.Context(), c); why != nil {
			t.Fatal(why)
		}
	}
	page, err := DiscoverAll(testContext(t), reader, infoOf(point), DiscoverRequest{Limit: 4})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Entries) != 25 || page.Entries[24].Namespace != "ns24" {
		t.Errorf("%d entries", len(page.Entries))
	}
	later, err := DiscoverAll(testContext(t), reader, infoOf(point), DiscoverRequest{Cookie: page.Cookie})
	if err != nil || len(later.Entries) != 0 {
		t.Errorf("after the last cookie: %d entries, %v", len(later.Entries), err)
	}
}

// TestAnswersStayBelowOneMiB asks for more than a frame may hold.
func TestAnswersStayBelowOneMiB(t *testing.T) {
	point, owner, reader := newHost(t), newHost(t), newHost(t)
	s := newServer(t, point, ServerConfig{})
	for i := range 1000 {
		c := testClaim(string(owner.ID()), fmt.Sprintf("ns%03d", i), 2*time.Hour)
		padding := appendBytes(nil, 99, make([]byte, 2000))
		c.packed = pack(owner.ID(), [2][]byte{append(sealFor(t, owner, 1, Standard), padding...), nil})
		if _, why := s.put(t.Context(), c); why != nil {
			t.Fatal(why)
		}
	}
	m := discoverOf("", false)
	m.discover.limit = new(uint64(1 << 40))
	reply := ask(t, reader, point, m)
	n, size := len(reply.discoverResponse.registrations), len(reply.encode())
	if n < 300 || n == 1000 || size > 900<<10+1024 {
		t.Errorf("%d entries in %d bytes", n, size)
	}
}

// TestForgottenCookieStartsOver restarts a server that keeps nothing on disk.
func TestForgottenCookieStartsOver(t *testing.T) {
	point, owner, reader := newHost(t), newHost(t), newHost(t)
	old := newServer(t, point, ServerConfig{})
	cookie := old.key.Load().mint("ns", 0)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	newServer(t, point, ServerConfig{})
	if _, err := Register(testContext(t), owner, infoOf(point), RegisterRequest{Namespace: "ns"}); err != nil {
		t.Fatal(err)
	}
	req := DiscoverRequest{Namespace: "ns", Cookie: cookie}
	var refused *StatusError
	if _, err := Discover(testContext(t), reader, infoOf(point), req); !errors.As(err, &refused) || refused.Status != StatusInvalidCookie {
		t.Errorf("one page: %v, want E_INVALID_COOKIE", err)
	}
	page, err := DiscoverAll(testContext(t), reader, infoOf(point), req)
	if err != nil || len(page.Entries) != 1 {
		t.Errorf("all pages: %d entries, %v", len(page.Entries), err)
	}
}

// TestEndlessServer gives pages for ever; a client takes what it asked for.
func TestEndlessServer(t *testing.T) {
	point, reader, other := newHost(t), newHost(t), newHost(t)
	n := 0
	fakeServer(t, point, func(message) message {
		n++
		return message{kind: new(typeDiscoverResponse), discoverResponse: &discoverResponse{
			status:        new(StatusOK),
			cookie:        fmt.Appendf(nil, "%08d", n),
			registrations: []registerMessage{{ns: new(fmt.Sprint(n)), record: sealFor(t, other, 1, Standard), ttl: new(uint64(9))}},
		}}
	})
	page, err := DiscoverAll(testContext(t), reader, infoOf(point), DiscoverRequest{Max: 5})
	if err != nil || len(page.Entries) != 5 {
		t.Errorf("%d entries, %v", len(page.Entries), err)
	}
}

// TestDiscoverPastWhatIsHidden asks for all namespaces of a server that has more
// in a hidden one than it looks through for one answer.
func TestDiscoverPastWhatIsHidden(t *testing.T) {
	point, reader, member := newHost(t), newHost(t), newHost(t)
	var pages atomic.Int32
	s := newServer(t, point, ServerConfig{
		Limits: Limits{Total: 3 * scanSlots},
		Allow: func(p peer.ID, ns string) error {
			if p == reader.ID() && ns == "hidden" {
				return errors.New("members only")
			}
			return nil
		},
		On: func(e Event) {
			if e.Kind == EventDiscover {
				pages.Add(1)
			}
		},
	})
	for i := range 2*scanSlots + 10 {
		if _, why := s.put(t.Context(), testClaim(fmt.Sprint(i), "hidden", 2*time.Hour)); why != nil {
			t.Fatal(why)
		}
	}
	if _, err := Register(testContext(t), member, infoOf(point), RegisterRequest{Namespace: "ns"}); err != nil {
		t.Fatal(err)
	}
	page, err := DiscoverAll(testContext(t), reader, infoOf(point), DiscoverRequest{})
	if err != nil || len(page.Entries) != 1 || page.Entries[0].Peer != member.ID() {
		t.Errorf("found %+v, %v", page.Entries, err)
	}
	if n := pages.Load(); n != 4 { // two of nothing, the one, and the end
		t.Errorf("%d pages", n)
	}
}

// TestServerThatAlwaysPromisesMore is left when it has been believed long enough.
func TestServerThatAlwaysPromisesMore(t *testing.T) {
	point, reader := newHost(t), newHost(t)
	n := 0
	var requests <-chan message
	requests = fakeServer(t, point, func(message) message {
		<-requests
		n++
		return message{kind: new(typeDiscoverResponse), discoverResponse: &discoverResponse{
			status: new(StatusOK), cookie: fmt.Appendf(nil, "%08d", n), more: true,
		}}
	})
	page, err := DiscoverAll(testContext(t), reader, infoOf(point), DiscoverRequest{})
	if err != nil || len(page.Entries) != 0 || n != maxBarren {
		t.Errorf("%d entries after %d pages, %v", len(page.Entries), n, err)
	}
}

// TestServerWithoutMemory gives the same page for any cookie, and the same
// cookie, or none.
func TestServerWithoutMemory(t *testing.T) {
	for _, cookie := range []string{"", "the same"} {
		point, reader, other := newHost(t), newHost(t), newHost(t)
		requests := fakeServer(t, point, func(message) message {
			return message{kind: new(typeDiscoverResponse), discoverResponse: &discoverResponse{
				cookie:        []byte(cookie),
				registrations: []registerMessage{{record: sealFor(t, other, 1, Standard)}},
			}}
		})
		page, err := DiscoverAll(testContext(t), reader, infoOf(point), DiscoverRequest{Namespace: "ns"})
		if err != nil || len(page.Entries) != 1 || len(requests) > 2 {
			t.Errorf("cookie %q: %d entries after %d requests, %v", cookie, len(page.Entries), len(requests), err)
		}
	}
}
