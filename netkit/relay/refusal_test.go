package relay_test

import (
	"errors"
	"io"
	"testing"

	"dibber/netkit/relay"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	ma "github.com/multiformats/go-multiaddr"
)

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
