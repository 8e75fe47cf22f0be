package rendezvous

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/rendezvous/rustcheck"
	"dibber/netkit/wire"
)

// TestBadRequestsGetAStatus sends what a server must refuse, each with the
// status the specification has for it.
func TestBadRequestsGetAStatus(t *testing.T) {
	point, client, stranger := newHost(t), newHost(t), newHost(t)
	s := newServer(t, point, ServerConfig{})
	good := sealFor(t, client, 10, Standard)
	many := make([]ma.Multiaddr, 33)
	for i := range many {
		many[i] = ma.StringCast(fmt.Sprintf("/ip4/203.0.113.7/tcp/%d", 1+i))
	}
	seal := func(addrs []ma.Multiaddr) []byte {
		envelope, err := SealRecord(client.Peerstore().PrivKey(client.ID()), 20, addrs, Standard)
		if err != nil {
			t.Fatal(err)
		}
		return envelope
	}
	withTTL := func(seconds uint64) []byte {
		m := registerOf("ns", good, nil)
		m.register.ttl = &seconds
		return m.encode()
	}
	withCookie := func(cookie []byte) []byte {
		m := discoverOf("ns", false)
		m.discover.cookie = cookie
		return m.encode()
	}
	tests := []struct {
		name    string
		request []byte
		want    Status
	}{
		{"no namespace", message{kind: new(typeRegister), register: &registerMessage{record: good}}.encode(), 100},
		{"empty namespace", registerOf("", good, nil).encode(), 100},
		{"long namespace", registerOf(strings.Repeat("n", 256), good, nil).encode(), 100},
		{"namespace not UTF-8", []byte("\x08\x00\x12\x04\x0a\x02\xff\xfe"), 100},
		{"long discover namespace", discoverOf(strings.Repeat("n", 256), false).encode(), 100},
		{"discover namespace of wrong type", []byte("\x08\x03\x2a\x02\x08\x01"), 100},
		{"no register body", []byte("\x08\x00"), 100},
		{"truncated body", []byte("\x08\x00\x12\x7f"), 101},
		{"no record", registerOf("ns", nil, nil).encode(), 101},
		{"record is noise", registerOf("ns", []byte("noise"), nil).encode(), 101},
		{"record is unsigned PeerInfo of revision 1", registerOf("ns", append([]byte("\x0a\x26"), make([]byte, 38)...), nil).encode(), 101},
		{"record without addresses", registerOf("ns", seal(nil), nil).encode(), 101},
		{"record with 33 addresses", registerOf("ns", seal(many), nil).encode(), 101},
		{"record above 2 KiB", registerOf("ns", make([]byte, 2049), nil).encode(), 101},
		{"second record of the same flavour", registerOf("ns", good, good).encode(), 101},
		{"second record is noise", registerOf("ns", good, []byte("noise")).encode(), 101},
		{"record of somebody else", registerOf("ns", sealFor(t, stranger, 10, Standard), nil).encode(), 200},
		{"second record of somebody else", registerOf("ns", good, sealFor(t, stranger, 10, Legacy)).encode(), 200},
		{"ttl below minimum", withTTL(7199), 102},
		{"ttl zero", withTTL(0), 102},
		{"ttl above maximum", withTTL(72*3600 + 1), 102},
		{"ttl beyond any duration", withTTL(1 << 63), 102},
		{"ttl of wrong type", []byte("\x08\x00\x12\x03\x1a\x01\x00"), 102},
		{"short cookie", withCookie([]byte("1234")), 103},
		{"foreign cookie", withCookie(append(make([]byte, 8), "somebody else's ns"...)), 103},
		{"cookie from before the registry was lost", withCookie(s.key.Load().mint("ns", 1<<40)), 103},
		{"cookie of another namespace", withCookie(s.key.Load().mint("other", 0)), 103},
		{"cookie of wrong type", []byte("\x08\x03\x2a\x02\x18\x01"), 103},
		{"unknown type", []byte("\x08\x64"), 300},
		{"response as request", []byte("\x08\x01"), 300},
		{"noise", []byte("\xff\xff\xff"), 300},
		{"empty", []byte{}, 300},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := statusIn(askRaw(t, client, point, test.request)); got != test.want {
				t.Errorf("status %s, want %s", got, test.want)
			}
		})
	}
	if got := statusIn(ask(t, client, point, registerOf("ns", good, nil))); got != StatusOK {
		t.Errorf("a good request afterwards got %s", got)
	}
}

// TestTypeOfProto3Clients leaves out the zero type, as proto3 encoders do.
func TestTypeOfProto3Clients(t *testing.T) {
	point, client := newHost(t), newHost(t)
	newServer(t, point, ServerConfig{})
	m := registerOf("ns", sealFor(t, client, 1, Standard), nil)
	m.kind = nil
	if got := statusIn(ask(t, client, point, m)); got != StatusOK {
		t.Errorf("status %s", got)
	}
}

func TestRecordSeqMustNotGoBack(t *testing.T) {
	point, client := newHost(t), newHost(t)
	newServer(t, point, ServerConfig{})
	steps := []struct {
		seq     uint64
		flavour Flavour
		want    Status
	}{
		{10, Standard, StatusOK},
		{10, Standard, StatusOK},
		{9, Standard, StatusInvalidSignedPeerRecord},
		{3, Legacy, StatusOK}, // counted by itself: seconds against nanoseconds
		{2, Legacy, StatusInvalidSignedPeerRecord},
		{11, Standard, StatusOK},
	}
	for i, step := range steps {
		m := registerOf("ns", sealFor(t, client, step.seq, step.flavour), nil)
		if got := statusIn(ask(t, client, point, m)); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
}

func TestSeveralRequestsOnOneStream(t *testing.T) {
	point, client := newHost(t), newHost(t)
	newServer(t, point, ServerConfig{})
	st := openStream(t, client, point)
	defer st.Reset()
	replies := wire.NewReader(st, maxReply)
	record := sealFor(t, client, 1, Standard)
	requests := []message{
		registerOf("a", record, nil),
		discoverOf("a", false),
		{kind: new(typeUnregister), unregister: &unregisterMessage{ns: new("a")}},
		discoverOf("a", false),
	}
	var found []int
	for _, m := range requests {
		if err := wire.WriteFrame(st, m.encode(), maxRequest); err != nil {
			t.Fatal(err)
		}
		if *m.kind == typeUnregister {
			continue
		}
		frame, err := replies.Next()
		if err != nil {
			t.Fatal(err)
		}
		reply, err := decodeMessage(frame)
		if err != nil {
			t.Fatal(err)
		}
		if reply.discoverResponse != nil {
			found = append(found, len(reply.discoverResponse.registrations))
		}
	}
	if fmt.Sprint(found) != "[1 0]" {
		t.Errorf("found %v, want one and then none", found)
	}
	if err := st.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := st.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, network.ErrReset) {
		t.Errorf("after a half-close: %d bytes, %v; want a clean end", n, err)
	}
}

// TestBadStreamsHinderNobody holds a stream open half-way through a frame, and
// sends one that is too large, while another peer is served.
func TestBadStreamsHinderNobody(t *testing.T) {
	point, bad, good := newHost(t), newHost(t), newHost(t)
	newServer(t, point, ServerConfig{})
	for range 10 {
		half := openStream(t, bad, point)
		defer half.Reset()
		if _, err := half.Write([]byte{200, 1, 8}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := wire.Exchange(testContext(t), openStream(t, bad, point), make([]byte, maxRequest+1), maxReply)
	if !errors.Is(err, network.ErrReset) {
		t.Errorf("a frame that is too large got %v, want a reset", err)
	}
	if got := statusIn(ask(t, good, point, registerOf("ns", sealFor(t, good, 1, Standard), nil))); got != StatusOK {
		t.Errorf("status %s", got)
	}
}

func TestRateLimitAnswersUnavailable(t *testing.T) {
	point, client := newHost(t), newHost(t)
	refused := make(chan Event, 1)
	newServer(t, point, ServerConfig{Limits: Limits{PeerDiscover: Rate{1e-9, 2}}, On: func(e Event) {
		if e.Kind == EventRefused {
			refused <- e
		}
	}})
	for i, want := range []Status{StatusOK, StatusOK, StatusUnavailable} {
		if got := statusIn(ask(t, client, point, discoverOf("ns", false))); got != want {
			t.Errorf("request %d: %s, want %s", i, got, want)
		}
	}
	if e := <-refused; e.Status != StatusUnavailable || e.Peer != client.ID() {
		t.Errorf("event %+v", e)
	}
}

func TestAllow(t *testing.T) {
	point, friend, foe := newHost(t), newHost(t), newHost(t)
	newServer(t, point, ServerConfig{Allow: func(p peer.ID, ns string) error {
		if p == foe.ID() && ns == "private" {
			return errors.New("members only")
		}
		return nil
	}})
	ask(t, friend, point, registerOf("private", sealFor(t, friend, 1, Standard), nil))
	ask(t, friend, point, registerOf("public", sealFor(t, friend, 1, Standard), nil))
	reply := ask(t, foe, point, registerOf("private", sealFor(t, foe, 1, Standard), nil))
	if got := statusIn(reply); got != StatusNotAuthorized || *reply.registerResponse.text != "members only" {
		t.Errorf("register: %s %q", got, *reply.registerResponse.text)
	}
	if got := statusIn(ask(t, foe, point, discoverOf("private", false))); got != StatusNotAuthorized {
		t.Errorf("discover: %s", got)
	}
	all := ask(t, foe, point, discoverOf("", false)).discoverResponse
	if len(all.registrations) != 1 || *all.registrations[0].ns != "public" {
		t.Errorf("discovering everything showed %d registrations, want the public one", len(all.registrations))
	}
}

func TestNamespaces(t *testing.T) {
	for _, tt := range []struct {
		listed []string
		ns     string
		want   bool
	}{
		{nil, "chat", true},
		{[]string{"chat"}, "chat", true},
		{[]string{"chat"}, "chats", false},
		{[]string{"chat"}, "", true},
		{[]string{"game", "chat/*"}, "chat/", true},
		{[]string{"game", "chat/*"}, "chat/go", true},
		{[]string{"game", "chat/*"}, "chat", false},
		{[]string{"*"}, "chat", true},
	} {
		if got := (&Limits{Namespaces: tt.listed}).allows(tt.ns); got != tt.want {
			t.Errorf("%q with %q listed: allowed is %t", tt.ns, tt.listed, got)
		}
	}
	if _, err := (Limits{Namespaces: []string{""}}).WithDefaults(); err == nil {
		t.Error("an empty namespace is listed")
	}
}

func TestEvents(t *testing.T) {
	point, client := newHost(t), newHost(t)
	events := make(chan Event, 10)
	s := newServer(t, point, ServerConfig{On: func(e Event) { events <- e }})
	ctx := testContext(t)
	for range 2 {
		if _, err := Register(ctx, client, infoOf(point), RegisterRequest{Namespace: "ns"}); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.Stats(); got.Namespaces != 1 || got.Registrations != 1 || got.Peers != 1 {
		t.Errorf("stats %+v", got)
	}
	if _, err := Discover(ctx, client, infoOf(point), DiscoverRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := Unregister(ctx, client, infoOf(point), "ns"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []EventKind{EventRegister, EventRefresh, EventDiscover, EventUnregister} {
		if e := <-events; e.Kind != want || e.Peer != client.ID() {
			t.Errorf("event %+v, want %s", e, want)
		}
	}
	got := s.Stats()
	want := map[string]map[string]uint64{"register": {"OK": 2}, "discover": {"OK": 1}, "unregister": {"OK": 1}, "watch": {}}
	if diff := cmp.Diff(want, got.Requests); diff != "" || got.Namespaces+got.Registrations+got.Peers != 0 {
		t.Errorf("stats at the end %+v: %s", got, diff)
	}
}

// TestExpiredRegistrationsMakeRoom fills a registry with what has expired and
// is not swept yet.
func TestExpiredRegistrationsMakeRoom(t *testing.T) {
	point, client := newHost(t), newHost(t)
	events := make(chan Event, 10)
	s := newServer(t, point, ServerConfig{Limits: Limits{Total: 1}, On: func(e Event) { events <- e }})
	_, why := s.reg.put(time.Now().Add(-3*time.Hour), testClaim("gone", "ns", 2*time.Hour))
	if why != nil {
		t.Fatal(why)
	}
	if got := statusIn(ask(t, client, point, registerOf("ns", sealFor(t, client, 1, Standard), nil))); got != StatusOK {
		t.Errorf("status %s", got)
	}
	for _, want := range []EventKind{EventExpire, EventRegister} {
		if e := <-events; e.Kind != want {
			t.Errorf("event %+v, want %s", e, want)
		}
	}
}

func TestNewServerRefusesBadLimits(t *testing.T) {
	for _, limits := range []Limits{
		{MinTTL: time.Second},
		{MaxTTL: time.Hour},
		{DefaultTTL: time.Minute},
		{PerPeer: -1},
		{RecordBytes: 1 << 20},
	} {
		if s, err := NewServer(newHost(t), ServerConfig{Limits: limits}); err == nil {
			_ = s.Close()
			t.Errorf("%+v was accepted", limits)
		}
	}
}

// TestCloseWaitsForHandlers closes a server with idle streams open.
func TestCloseWaitsForHandlers(t *testing.T) {
	point, client := newHost(t), newHost(t)
	s := newServer(t, point, ServerConfig{})
	st := openStream(t, client, point)
	if err := wire.WriteFrame(st, discoverOf("", false).encode(), maxRequest); err != nil {
		t.Fatal(err)
	}
	if _, err := wire.NewReader(st, maxReply).Next(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, err := st.Read(make([]byte, 1)); err == nil {
		t.Error("the stream is still open")
	}
}

// FuzzHandle sends any bytes as a request: there is a reply that a rust client
// accepts, or the request was an UNREGISTER.
func FuzzHandle(f *testing.F) {
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableRelay())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = h.Close() })
	s, err := NewServer(h, ServerConfig{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	f.Add(goldenRegister(f, Standard).encode())
	f.Add(goldenRegister(f, Legacy).encode())
	f.Add(discoverOf("ns", true).encode())
	f.Add(message{kind: new(typeUnregister), unregister: &unregisterMessage{ns: new("a")}}.encode())
	f.Add([]byte("\x08\x03\x2a\x02\x18\x01"))
	id, err := peer.IDFromPrivateKey(goldenKey(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		reply, err := s.handle(context.Background(), wire.Request{Peer: id, Conn: oldConn{}, Body: bytes.Clone(body)})
		if err != nil {
			t.Fatal(err)
		}
		m, decodeErr := decodeMessage(body)
		if reply == nil {
			if kind, _ := requestType(m, decodeErr); kind != typeUnregister {
				t.Fatalf("no reply to %x", body)
			}
			return
		}
		if _, err := rustcheck.Check(reply, orEmpty(m.discover).both); err != nil {
			t.Fatalf("%v\n%x\n%x", err, body, reply)
		}
	})
}

// oldConn is a connection on which identify is long done.
type oldConn struct{ network.Conn }

func (oldConn) Stat() network.ConnStats       { return network.ConnStats{} }
func (oldConn) RemoteMultiaddr() ma.Multiaddr { return nil }
