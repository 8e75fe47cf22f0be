package relay_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/relay"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/libp2p/go-libp2p"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/record"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	ma "github.com/multiformats/go-multiaddr"
)

// stock starts a host as go-libp2p makes it, without limits of its own.
func stock(t *testing.T, listen string, opts ...libp2p.Option) corehost.Host {
	t.Helper()
	return stockWithin(t, &network.NullResourceManager{}, listen, opts...)
}

// stockWithin is stock with a resource manager.
func stockWithin(t *testing.T, rm network.ResourceManager, listen string, opts ...libp2p.Option) corehost.Host {
	t.Helper()
	h, err := libp2p.New(append([]libp2p.Option{libp2p.ListenAddrStrings(listen), libp2p.DisableMetrics(), libp2p.ResourceManager(rm)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

const (
	quicAddr = "/ip4/127.0.0.1/udp/0/quic-v1"
	tcpAddr  = "/ip4/127.0.0.1/tcp/0"
)

// story records the events of a server.
type story struct {
	mu     sync.Mutex
	events []relay.Event
	watch  func(relay.Event) // unless nil, sees each event when it is told
	more   chan struct{}
}

func newStory() *story { return &story{more: make(chan struct{}, 1)} }

func (s *story) tell(e relay.Event) {
	s.mu.Lock()
	s.events = append(s.events, e)
	watch := s.watch
	s.mu.Unlock()
	if watch != nil {
		watch(e)
	}
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// await returns the first event of a kind after those taken before.
func (s *story) await(t *testing.T, kind relay.EventKind) relay.Event {
	t.Helper()
	for {
		s.mu.Lock()
		for i, e := range s.events {
			if e.Kind == kind {
				s.events = slices.Delete(s.events, i, i+1)
				s.mu.Unlock()
				return e
			}
		}
		s.mu.Unlock()
		select {
		case <-s.more:
		case <-t.Context().Done():
			t.Fatal("no event", kind)
		}
	}
}

// start relays on h and records what happens.
func start(t *testing.T, h corehost.Host, cfg relay.Config) (*relay.Server, *story, peer.AddrInfo) {
	t.Helper()
	story := newStory()
	cfg.On = story.tell
	s, err := relay.New(h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, story, peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}
}

// reserve connects h to a relay and reserves there with the stock client.
func reserve(t *testing.T, h corehost.Host, at peer.AddrInfo) *client.Reservation {
	t.Helper()
	if err := h.Connect(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	r, err := client.Reserve(t.Context(), h, at)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// accept makes h accept every circuit and hands out their streams.
func accept(h corehost.Host) <-chan network.Stream {
	circuits := make(chan network.Stream, 1024)
	h.SetStreamHandler(proto.ProtoIDv2Stop, func(st network.Stream) {
		var msg pb.StopMessage
		rd := util.NewDelimitedReader(st, 4096)
		defer rd.Close()
		ok := &pb.StopMessage{Type: pb.StopMessage_STATUS.Enum(), Status: pb.Status_OK.Enum()}
		if rd.ReadMsg(&msg) != nil || util.NewDelimitedWriter(st).WriteMsg(ok) != nil {
			_ = st.Reset()
			return
		}
		circuits <- st
	})
	return circuits
}

// send sends a request on a new stream of the hop protocol.
func send(t *testing.T, h corehost.Host, at peer.AddrInfo, msg *pb.HopMessage) network.Stream {
	t.Helper()
	if err := h.Connect(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	st, err := h.NewStream(network.WithAllowLimitedConn(t.Context(), "test"), at.ID, proto.ProtoIDv2Hop)
	if err != nil {
		t.Fatal(err)
	}
	// A relay that has seen enough takes no more; its answer says so.
	if err := util.NewDelimitedWriter(st).WriteMsg(msg); err != nil && !errors.Is(err, network.ErrReset) {
		t.Fatal(err)
	}
	return st
}

// status reads a relay's answer.
func status(t *testing.T, st network.Stream) *pb.HopMessage {
	t.Helper()
	var msg pb.HopMessage
	rd := util.NewDelimitedReader(st, 4096)
	defer rd.Close()
	if err := rd.ReadMsg(&msg); err != nil {
		t.Fatal(err)
	}
	if msg.Type == nil || msg.GetType() != pb.HopMessage_STATUS {
		t.Fatalf("the answer is %v", &msg)
	}
	return &msg
}

func connectTo(p peer.ID) *pb.HopMessage {
	return &pb.HopMessage{Type: pb.HopMessage_CONNECT.Enum(), Peer: util.PeerInfoToPeerV2(peer.AddrInfo{ID: p})}
}

// eventually waits for what nobody tells of.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for !is() {
		select {
		case <-time.After(time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("there was never", what)
		}
	}
}

// circuit opens a circuit from one host to another, which accepts.
func circuit(t *testing.T, from corehost.Host, at peer.AddrInfo, to peer.ID) network.Stream {
	t.Helper()
	st := send(t, from, at, connectTo(to))
	if got := status(t, st).GetStatus(); got != pb.Status_OK {
		t.Fatal("connect:", got)
	}
	return st
}

func circuitAddr(at peer.AddrInfo) ma.Multiaddr {
	return at.Addrs[0].Encapsulate(ma.StringCast("/p2p/" + at.ID.String() + "/p2p-circuit"))
}

func unlimited() relay.Limits {
	return relay.Limits{Duration: relay.NoLimit, Bytes: relay.NoLimit}
}

// TestStockClients lets hosts as go-libp2p makes them reserve and meet.
func TestStockClients(t *testing.T) {
	for _, listen := range []string{quicAddr, tcpAddr} {
		for _, c := range []struct {
			name    string
			limits  relay.Limits
			limited bool
		}{{"limited", relay.Limits{}, true}, {"unlimited", unlimited(), false}} {
			t.Run(addr.Transport(ma.StringCast(listen))+" "+c.name, func(t *testing.T) {
				h := stock(t, listen)
				s, story, at := start(t, h, relay.Config{Limits: c.limits})
				a, b := stock(t, listen), stock(t, listen)
				r := reserve(t, a, at)
				checkReservation(t, r, at, a.ID(), s.Limits())
				b.SetStreamHandler("/nothing", func(network.Stream) {})
				a.SetStreamHandler("/echo", func(st network.Stream) {
					_, _ = io.Copy(st, st)
					_ = st.Close()
				})
				if err := b.Connect(t.Context(), peer.AddrInfo{ID: a.ID(), Addrs: []ma.Multiaddr{circuitAddr(at)}}); err != nil {
					t.Fatal(err)
				}
				conn := b.Network().ConnsToPeer(a.ID())[0]
				if got := conn.Stat().Limited; got != c.limited {
					t.Errorf("limited %v", got)
				}
				if c.limited {
					extra := conn.Stat().Extra
					if extra[client.StatLimitDuration] != 2*time.Minute || extra[client.StatLimitData] != uint64(128<<10) {
						t.Errorf("the dialer was told %v", extra)
					}
				}
				opened := story.await(t, relay.EventCircuitOpened)
				if opened.Peer != b.ID() || opened.Destination != a.ID() {
					t.Errorf("opened: %+v", opened)
				}
				st, err := b.NewStream(network.WithAllowLimitedConn(t.Context(), "test"), a.ID(), "/echo")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := st.Write([]byte("there and back")); err != nil {
					t.Fatal(err)
				}
				if err := st.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(st); err != nil || string(got) != "there and back" {
					t.Errorf("%q came back: %v", got, err)
				}
				if err := conn.Close(); err != nil {
					t.Fatal(err)
				}
				if e := story.await(t, relay.EventCircuitClosed); e.Circuit != opened.Circuit || e.Sent == 0 || e.Received == 0 {
					t.Errorf("closed: %+v", e)
				}
			})
		}
	}
}

func checkReservation(t *testing.T, r *client.Reservation, at peer.AddrInfo, p peer.ID, l relay.Limits) {
	t.Helper()
	if left := time.Until(r.Expiration); left < 59*time.Minute || left > time.Hour {
		t.Errorf("the reservation lasts %s", left)
	}
	if v := r.Voucher; v == nil || v.Relay != at.ID || v.Peer != p || !v.Expiration.Equal(r.Expiration) {
		t.Errorf("voucher %+v", v)
	}
	var want []ma.Multiaddr
	for _, a := range at.Addrs {
		want = append(want, addr.WithPeer(a, at.ID))
	}
	if diff := cmp.Diff(want, r.Addrs); diff != "" {
		t.Error("addresses:", diff)
	}
	if wantDuration := max(l.Duration, 0); r.LimitDuration != wantDuration || r.LimitData != uint64(max(l.Bytes, 0)) {
		t.Errorf("the client was told %s and %d bytes", r.LimitDuration, r.LimitData)
	}
}

// TestVoucherIsSignedByTheRelay looks at the bytes, as other implementations do.
func TestVoucherIsSignedByTheRelay(t *testing.T) {
	_, _, at := start(t, stock(t, quicAddr), relay.Config{})
	a := stock(t, quicAddr)
	msg := status(t, send(t, a, at, &pb.HopMessage{Type: pb.HopMessage_RESERVE.Enum()}))
	envelope, rec, err := record.ConsumeEnvelope(msg.GetReservation().GetVoucher(), proto.RecordDomain)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := peer.IDFromPublicKey(envelope.PublicKey)
	if err != nil || signer != at.ID {
		t.Errorf("signed by %s: %v", signer, err)
	}
	if v, ok := rec.(*proto.ReservationVoucher); !ok || v.Peer != a.ID() || v.Expiration.Unix() != int64(msg.GetReservation().GetExpire()) {
		t.Errorf("voucher %+v", rec)
	}
}

// TestAnswerFitsWhatClientsRead: a relay may have more addresses than the 4 KiB
// that clients read have room for.
func TestAnswerFitsWhatClientsRead(t *testing.T) {
	var many []ma.Multiaddr
	for range 200 {
		many = append(many, ma.StringCast("/dns4/a.host.with.a.rather.long.name.example/tcp/4001"))
	}
	h := stock(t, quicAddr, libp2p.AddrsFactory(func([]ma.Multiaddr) []ma.Multiaddr { return many }))
	_, _, at := start(t, h, relay.Config{})
	at.Addrs = h.Network().ListenAddresses()
	if r := reserve(t, stock(t, quicAddr), at); len(r.Addrs) == 0 || len(r.Addrs) == len(many) {
		t.Errorf("%d of %d addresses were told", len(r.Addrs), len(many))
	}
}

func TestAddrFilter(t *testing.T) {
	h := stock(t, quicAddr)
	_, _, at := start(t, h, relay.Config{AddrFilter: func(ma.Multiaddr) bool { return false }})
	if r := reserve(t, stock(t, quicAddr), at); len(r.Addrs) != 0 {
		t.Errorf("told %s", r.Addrs)
	}
}

// TestRefusals asks for what a relay must refuse, and looks for the status, the
// reason and the count.
func TestRefusals(t *testing.T) {
	reserveMsg := &pb.HopMessage{Type: pb.HopMessage_RESERVE.Enum()}
	stranger := peer.ID("\x00\x01a")
	type setup struct {
		s    *relay.Server
		at   peer.AddrInfo
		dst  corehost.Host // has a reservation and accepts
		from corehost.Host
	}
	toDst := func(t *testing.T, u setup) *pb.HopMessage { return connectTo(u.dst.ID()) }
	always := func(msg *pb.HopMessage) func(*testing.T, setup) *pb.HopMessage {
		return func(*testing.T, setup) *pb.HopMessage { return msg }
	}
	for _, c := range []struct {
		name   string
		cfg    relay.Config
		ask    func(*testing.T, setup) *pb.HopMessage
		kind   relay.EventKind
		status pb.Status
		why    relay.Reason
	}{
		{
			name: "no type", ask: always(&pb.HopMessage{Status: pb.Status_OK.Enum()}),
			kind: relay.EventRefused, status: pb.Status_MALFORMED_MESSAGE, why: relay.ReasonMalformed,
		},
		{
			name: "larger than 4 KiB", ask: always(&pb.HopMessage{Type: pb.HopMessage_CONNECT.Enum(), Peer: &pb.Peer{Id: make([]byte, 4096)}}),
			kind: relay.EventRefused, status: pb.Status_MALFORMED_MESSAGE, why: relay.ReasonMalformed,
		},
		{
			name: "a status", ask: always(&pb.HopMessage{Type: pb.HopMessage_STATUS.Enum()}),
			kind: relay.EventRefused, status: pb.Status_UNEXPECTED_MESSAGE, why: relay.ReasonUnexpected,
		},
		{
			name: "an unknown type", ask: always(&pb.HopMessage{Type: new(pb.HopMessage_Type(7))}),
			kind: relay.EventRefused, status: pb.Status_UNEXPECTED_MESSAGE, why: relay.ReasonUnexpected,
		},
		{
			name: "connect to nobody", ask: always(&pb.HopMessage{Type: pb.HopMessage_CONNECT.Enum()}),
			kind: relay.EventCircuitRefused, status: pb.Status_MALFORMED_MESSAGE, why: relay.ReasonMalformed,
		},
		{
			name: "connect to what is no peer", ask: always(&pb.HopMessage{Type: pb.HopMessage_CONNECT.Enum(), Peer: &pb.Peer{Id: []byte("nobody")}}),
			kind: relay.EventCircuitRefused, status: pb.Status_MALFORMED_MESSAGE, why: relay.ReasonMalformed,
		},
		{
			name: "connect to a stranger", ask: always(connectTo(stranger)),
			kind: relay.EventCircuitRefused, status: pb.Status_NO_RESERVATION, why: relay.ReasonNoReservation,
		},
		{
			name: "reservations", cfg: relay.Config{Limits: relay.Limits{Reservations: 1}}, ask: always(reserveMsg),
			kind: relay.EventReservationRefused, status: pb.Status_RESERVATION_REFUSED, why: relay.ReasonReservations,
		},
		{
			name: "reservations of an address", cfg: relay.Config{Limits: relay.Limits{ReservationsPerIP: 1}}, ask: always(reserveMsg),
			kind: relay.EventReservationRefused, status: pb.Status_RESERVATION_REFUSED, why: relay.ReasonIP,
		},
		{
			name: "reserving denied", ask: always(reserveMsg),
			cfg: relay.Config{AllowReserve: func() func(peer.ID, ma.Multiaddr) bool {
				first := true
				return func(peer.ID, ma.Multiaddr) bool {
					defer func() { first = false }()
					return first
				}
			}()},
			kind: relay.EventReservationRefused, status: pb.Status_PERMISSION_DENIED, why: relay.ReasonDenied,
		},
		{
			name: "connecting denied", ask: toDst,
			cfg:  relay.Config{AllowConnect: func(peer.ID, ma.Multiaddr, peer.ID) bool { return false }},
			kind: relay.EventCircuitRefused, status: pb.Status_PERMISSION_DENIED, why: relay.ReasonDenied,
		},
		{
			name: "circuits", cfg: relay.Config{Limits: relay.Limits{Circuits: 1}},
			ask: func(t *testing.T, u setup) *pb.HopMessage {
				circuit(t, u.from, u.at, u.dst.ID())
				return connectTo(u.dst.ID())
			},
			kind: relay.EventCircuitRefused, status: pb.Status_RESOURCE_LIMIT_EXCEEDED, why: relay.ReasonCircuits,
		},
		{
			name: "circuits of the source", cfg: relay.Config{Limits: relay.Limits{CircuitsPerPeer: 1}},
			ask: func(t *testing.T, u setup) *pb.HopMessage {
				circuit(t, u.from, u.at, u.dst.ID())
				return connectTo(u.dst.ID())
			},
			kind: relay.EventCircuitRefused, status: pb.Status_RESOURCE_LIMIT_EXCEEDED, why: relay.ReasonSourceCircuits,
		},
		{
			name: "circuits of the destination", cfg: relay.Config{Limits: relay.Limits{CircuitsPerPeer: 1}},
			ask: func(t *testing.T, u setup) *pb.HopMessage {
				circuit(t, stock(t, quicAddr), u.at, u.dst.ID())
				return connectTo(u.dst.ID())
			},
			kind: relay.EventCircuitRefused, status: pb.Status_RESOURCE_LIMIT_EXCEEDED, why: relay.ReasonDestinationCircuits,
		},
		{
			name: "the destination refuses", kind: relay.EventCircuitRefused, status: pb.Status_CONNECTION_FAILED, why: relay.ReasonDestinationRefused,
			ask: func(t *testing.T, u setup) *pb.HopMessage {
				u.dst.SetStreamHandler(proto.ProtoIDv2Stop, func(st network.Stream) {
					_ = util.NewDelimitedWriter(st).WriteMsg(&pb.StopMessage{Type: pb.StopMessage_STATUS.Enum(), Status: pb.Status_PERMISSION_DENIED.Enum()})
					_ = st.Close()
				})
				return connectTo(u.dst.ID())
			},
		},
		{
			name: "the destination does not speak stop", kind: relay.EventCircuitRefused, status: pb.Status_CONNECTION_FAILED, why: relay.ReasonDestinationRefused,
			ask: func(t *testing.T, u setup) *pb.HopMessage {
				u.dst.RemoveStreamHandler(proto.ProtoIDv2Stop)
				return connectTo(u.dst.ID())
			},
		},
		{
			name: "reserving while draining", kind: relay.EventReservationRefused, status: pb.Status_RESERVATION_REFUSED, why: relay.ReasonDraining,
			ask: func(t *testing.T, u setup) *pb.HopMessage {
				u.s.Drain()
				return reserveMsg
			},
		},
		{
			name: "connecting while draining", kind: relay.EventCircuitRefused, status: pb.Status_RESOURCE_LIMIT_EXCEEDED, why: relay.ReasonDraining,
			ask: func(t *testing.T, u setup) *pb.HopMessage {
				circuit(t, u.from, u.at, u.dst.ID())
				u.s.Drain()
				return connectTo(u.dst.ID())
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, story, at := start(t, stock(t, quicAddr), c.cfg)
			u := setup{s, at, stock(t, quicAddr), stock(t, quicAddr)}
			accept(u.dst)
			reserve(t, u.dst, at)
			st := send(t, u.from, at, c.ask(t, u))
			if got := status(t, st).GetStatus(); got != c.status {
				t.Errorf("answered %s, want %s", got, c.status)
			}
			want := relay.Event{Kind: c.kind, Peer: u.from.ID(), Reason: c.why, Status: c.status}
			if diff := cmp.Diff(want, story.await(t, c.kind), cmpopts.IgnoreFields(relay.Event{}, "Destination")); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(map[relay.Reason]uint64{c.why: 1}, s.Stats().Refused); diff != "" {
				t.Error("counted:", diff)
			}
			if _, err := st.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("after the answer the stream gives %v", err)
			}
		})
	}
}

// TestGarbageIsMalformed sends bytes that are no message, and half of one.
func TestGarbageIsMalformed(t *testing.T) {
	_, _, at := start(t, stock(t, quicAddr), relay.Config{})
	h := stock(t, quicAddr)
	if err := h.Connect(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	for _, garbage := range []string{"\x03\xff\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x09half", ""} {
		st, err := h.NewStream(t.Context(), at.ID, proto.ProtoIDv2Hop)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Write([]byte(garbage)); err != nil {
			t.Fatal(err)
		}
		if err := st.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got := status(t, st).GetStatus(); got != pb.Status_MALFORMED_MESSAGE {
			t.Errorf("%q is answered with %s", garbage, got)
		}
	}
}

// TestTooManyRequestsAreRefusedUnread: the limit stands before everything else.
func TestTooManyRequestsAreRefusedUnread(t *testing.T) {
	s, story, at := start(t, stock(t, quicAddr), relay.Config{Requests: 1e-9, Burst: 3})
	a, b := stock(t, quicAddr), stock(t, quicAddr)
	for range 3 {
		reserve(t, a, at)
	}
	st := send(t, a, at, &pb.HopMessage{Type: pb.HopMessage_RESERVE.Enum()})
	if got := status(t, st).GetStatus(); got != pb.Status_RESOURCE_LIMIT_EXCEEDED {
		t.Error("the fourth is answered with", got)
	}
	if e := story.await(t, relay.EventRefused); e.Reason != relay.ReasonRate || e.Peer != a.ID() {
		t.Errorf("%+v", e)
	}
	reserve(t, b, at) // has a limit of its own
	if got := s.Stats(); got.Reserved != 2 || got.Renewed != 2 || got.Reservations != 2 {
		t.Errorf("%+v", got)
	}
}

// TestNoRelayOverRelay: who comes through another relay gets nothing here.
func TestNoRelayOverRelay(t *testing.T) {
	_, _, first := start(t, stock(t, quicAddr), relay.Config{Limits: unlimited()})
	h := stock(t, quicAddr)
	_, story, _ := start(t, h, relay.Config{})
	reserve(t, h, first)
	a := stock(t, quicAddr)
	there := peer.AddrInfo{ID: h.ID(), Addrs: []ma.Multiaddr{circuitAddr(first)}}
	for _, msg := range []*pb.HopMessage{{Type: pb.HopMessage_RESERVE.Enum()}, connectTo(first.ID)} {
		if got := status(t, send(t, a, there, msg)).GetStatus(); got != pb.Status_PERMISSION_DENIED {
			t.Errorf("%s is answered with %s", msg.GetType(), got)
		}
	}
	if e := story.await(t, relay.EventReservationRefused); e.Reason != relay.ReasonRelayed {
		t.Errorf("%+v", e)
	}
}

// TestReservationEndsWithTheLastConnection: not with the first of two.
func TestReservationEndsWithTheLastConnection(t *testing.T) {
	h := stock(t, quicAddr)
	s, story, at := start(t, h, relay.Config{})
	a := node(t)
	reserve(t, a, at)
	second, err := a.DialAddr(t.Context(), at.ID, at.Addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a second connection", func() bool { return len(h.Network().ConnsToPeer(a.ID())) == 2 })
	gone := make(chan struct{}, 2)
	h.Network().Notify(&network.NotifyBundle{DisconnectedF: func(network.Network, network.Conn) { gone <- struct{}{} }})
	if err := a.Network().ClosePeer(at.ID); err != nil {
		t.Fatal(err)
	}
	<-gone
	if got := s.Reservations(); len(got) != 1 {
		t.Fatal("the reservation ended with the first of two connections")
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if e := story.await(t, relay.EventReservationClosed); e.Peer != a.ID() || e.Reason != relay.ReasonDisconnected {
		t.Errorf("%+v", e)
	}
	if got := s.Reservations(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// TestResourceManager: what it does not give is not taken, and the answer says so.
func TestResourceManager(t *testing.T) {
	service := func(l rcmgr.ResourceLimits) rcmgr.PartialLimitConfig {
		return rcmgr.PartialLimitConfig{Service: map[string]rcmgr.ResourceLimits{relay.ServiceName: l}}
	}
	for _, c := range []struct {
		name   string
		limits rcmgr.PartialLimitConfig
		kind   relay.EventKind
	}{
		{"requests", service(rcmgr.ResourceLimits{StreamsInbound: rcmgr.BlockAllLimit}), relay.EventRefused},
		{"buffers", service(rcmgr.ResourceLimits{Memory: 40 << 10}), relay.EventCircuitRefused},
		{"streams to the destination", service(rcmgr.ResourceLimits{StreamsOutbound: rcmgr.BlockAllLimit}), relay.EventCircuitRefused},
		{
			"streams of the protocol",
			rcmgr.PartialLimitConfig{Protocol: map[protocol.ID]rcmgr.ResourceLimits{proto.ProtoIDv2Stop: {StreamsOutbound: rcmgr.BlockAllLimit}}},
			relay.EventCircuitRefused,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(c.limits.Build(rcmgr.InfiniteLimits)), rcmgr.WithMetricsDisabled())
			if err != nil {
				t.Fatal(err)
			}
			_, story, at := start(t, stockWithin(t, rm, quicAddr), relay.Config{})
			a, b := stock(t, quicAddr), stock(t, quicAddr)
			accept(a)
			if c.kind == relay.EventCircuitRefused {
				reserve(t, a, at)
			}
			if got := status(t, send(t, b, at, connectTo(a.ID()))).GetStatus(); got != pb.Status_RESOURCE_LIMIT_EXCEEDED {
				t.Error("answered", got)
			}
			if e := story.await(t, c.kind); e.Reason != relay.ReasonResources {
				t.Errorf("%+v", e)
			}
		})
	}
}

// TestCloseWakesRequests: neither a client that says nothing nor a destination
// that does not answer holds up the end.
func TestCloseWakesRequests(t *testing.T) {
	h := stock(t, quicAddr)
	s, _, at := start(t, h, relay.Config{})
	a, b := stock(t, quicAddr), stock(t, quicAddr)
	asked := make(chan network.Stream, 1)
	a.SetStreamHandler(proto.ProtoIDv2Stop, func(st network.Stream) { asked <- st })
	reserve(t, a, at)
	st := send(t, b, at, connectTo(a.ID()))
	silent, err := b.NewStream(t.Context(), at.ID, proto.ProtoIDv2Hop)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := silent.Write([]byte{5}); err != nil {
		t.Fatal(err)
	}
	<-asked
	eventually(t, "two requests under way", func() bool {
		n := 0
		for _, st := range h.Network().ConnsToPeer(b.ID())[0].GetStreams() {
			if st.Protocol() == proto.ProtoIDv2Hop {
				n++
			}
		}
		return n == 2
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, st := range []network.Stream{st, silent} {
		if _, err := st.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
			t.Errorf("a request under way ended with %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error("closing twice:", err)
	}
	if err := s.Wait(context.Background()); err != nil {
		t.Error("waiting after the end:", err)
	}
}
