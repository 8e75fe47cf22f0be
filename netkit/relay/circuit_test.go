package relay_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/relay"

	"github.com/google/go-cmp/cmp"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	ma "github.com/multiformats/go-multiaddr"
)

// joined is a relay with a circuit from b to a.
type joined struct {
	s     *relay.Server
	story *story
	at    peer.AddrInfo
	a, b  corehost.Host
	near  network.Stream // b's end
	far   network.Stream // a's end
	more  <-chan network.Stream
}

func join(t *testing.T, listen string, cfg relay.Config) joined {
	t.Helper()
	var j joined
	j.s, j.story, j.at = start(t, stock(t, listen), cfg)
	j.a, j.b = stock(t, listen), stock(t, listen)
	j.more = accept(j.a)
	reserve(t, j.a, j.at)
	j.near = circuit(t, j.b, j.at, j.a.ID())
	j.far = <-j.more
	return j
}

func bothTransports(t *testing.T, f func(t *testing.T, listen string)) {
	for _, listen := range []string{quicAddr, tcpAddr} {
		t.Run(addr.Transport(ma.StringCast(listen)), func(t *testing.T) { f(t, listen) })
	}
}

// TestCircuitsAreListed with all that a person wants to know of them.
func TestCircuitsAreListed(t *testing.T) {
	j := join(t, quicAddr, relay.Config{})
	pass(t, j.near, j.far, noise(1000))
	pass(t, j.far, j.near, noise(300))
	got := j.s.Circuits()
	if len(got) != 1 {
		t.Fatalf("%+v", got)
	}
	c := got[0]
	if c.AgeMS <= 0 || c.LeftMS == nil || *c.LeftMS > 120_000 || *c.LeftMS+c.AgeMS < 119_999 || *c.LeftMS+c.AgeMS > 120_001 {
		t.Errorf("times: %+v", c)
	}
	at := func(h corehost.Host) string { return h.Addrs()[0].String() }
	left := func(n int64) *int64 { return &n }
	want := relay.Circuit{
		ID: 1, Source: j.b.ID(), Destination: j.a.ID(), SourceAddr: at(j.b), DestinationAddr: at(j.a),
		SourceTransport: "quic", DestinationTransport: "quic",
		Opened: c.Opened, AgeMS: c.AgeMS, LeftMS: c.LeftMS,
		Sent: 1000, Received: 300, SentLeft: left(128<<10 - 1000), ReceivedLeft: left(128<<10 - 300),
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	slots := j.s.Reservations()
	if len(slots) != 1 || slots[0].Peer != j.a.ID() || slots[0].Addr != at(j.a) || slots[0].Transport != "quic" || slots[0].Circuits != 1 ||
		!slots[0].Renewed.Equal(slots[0].Opened) || slots[0].Expires.Sub(slots[0].Opened) != time.Hour {
		t.Errorf("%+v", slots)
	}
	if got := j.s.Stats(); got.Bytes != 1300 || got.Circuits != 1 || got.Reservations != 1 {
		t.Errorf("%+v", got)
	}
}

func TestUnlimitedCircuitHasNothingLeftToTell(t *testing.T) {
	j := join(t, quicAddr, relay.Config{Limits: unlimited()})
	if c := j.s.Circuits()[0]; c.LeftMS != nil || c.SentLeft != nil || c.ReceivedLeft != nil {
		t.Errorf("%+v", c)
	}
}

// TestEndCircuit and TestEndPeer: what an operator ends, ends for both sides with
// the operator's word, and nothing else does.
func TestEndCircuit(t *testing.T) {
	bothTransports(t, func(t *testing.T, listen string) {
		j := join(t, listen, relay.Config{})
		second := circuit(t, j.b, j.at, j.a.ID())
		<-j.more
		id := j.s.Circuits()[0].ID
		if !j.s.EndCircuit(id, relay.ReasonOperator) {
			t.Fatal("no such circuit")
		}
		for _, st := range []network.Stream{j.near, j.far} {
			_, err := st.Read(make([]byte, 1))
			if why := new(network.StreamError); !errors.As(err, &why) || !why.Remote || why.ErrorCode != network.StreamGated {
				t.Error("an end got", err)
			}
		}
		if e := j.story.await(t, relay.EventCircuitClosed); e.Reason != relay.ReasonOperator || e.Circuit != id {
			t.Errorf("%+v", e)
		}
		if j.s.EndCircuit(id, "again") {
			t.Error("it ended twice")
		}
		if got := j.s.Circuits(); len(got) != 1 || got[0].ID == id {
			t.Errorf("left: %+v", got)
		}
		_ = second.Reset()
	})
}

func TestEndPeer(t *testing.T) {
	j := join(t, quicAddr, relay.Config{})
	c := stock(t, quicAddr)
	accept(c)
	reserve(t, c, j.at)
	circuit(t, j.b, j.at, c.ID())
	if n, reserved := j.s.EndPeer(j.a.ID(), "banned"); n != 1 || !reserved {
		t.Errorf("%d circuits, reservation %v", n, reserved)
	}
	if e := j.story.await(t, relay.EventReservationClosed); e.Reason != "banned" || e.Peer != j.a.ID() {
		t.Errorf("%+v", e)
	}
	if e := j.story.await(t, relay.EventCircuitClosed); e.Reason != "banned" {
		t.Errorf("%+v", e)
	}
	if got := status(t, send(t, j.b, j.at, connectTo(j.a.ID()))).GetStatus(); got != pb.Status_NO_RESERVATION {
		t.Error("afterwards:", got)
	}
	if n, reserved := j.s.EndPeer(j.b.ID(), "banned"); n != 1 || reserved {
		t.Errorf("of the other: %d circuits, reservation %v", n, reserved)
	}
}

// TestPeerSentAwayWhileACircuitOpens does not get the circuit.
func TestPeerSentAwayWhileACircuitOpens(t *testing.T) {
	s, story, at := start(t, stock(t, quicAddr), relay.Config{})
	a, b := stock(t, quicAddr), stock(t, quicAddr)
	asked := make(chan network.Stream)
	a.SetStreamHandler(proto.ProtoIDv2Stop, func(st network.Stream) { asked <- st })
	reserve(t, a, at)
	st := send(t, b, at, connectTo(a.ID()))
	far := <-asked
	if n, reserved := s.EndPeer(a.ID(), "banned"); n != 0 || !reserved {
		t.Errorf("%d circuits, reservation %v", n, reserved)
	}
	ok := &pb.StopMessage{Type: pb.StopMessage_STATUS.Enum(), Status: pb.Status_OK.Enum()}
	if err := util.NewDelimitedWriter(far).WriteMsg(ok); err != nil {
		t.Fatal(err)
	}
	if got := status(t, st).GetStatus(); got != pb.Status_NO_RESERVATION {
		t.Error("answered", got)
	}
	if e := story.await(t, relay.EventCircuitRefused); e.Reason != relay.ReasonNoReservation {
		t.Errorf("%+v", e)
	}
	if got := s.Stats(); got.Circuits != 0 || got.Opened != 0 {
		t.Errorf("%+v", got)
	}
}

// TestNewLimitsCutNothing: what stands stays as it was granted, what is new obeys.
func TestNewLimitsCutNothing(t *testing.T) {
	j := join(t, quicAddr, relay.Config{})
	want := relay.Limits{Reservations: 1, CircuitsPerPeer: 1, Bytes: 10, Duration: time.Hour}
	if err := j.s.SetLimits(want); err != nil {
		t.Fatal(err)
	}
	if err := j.s.SetLimits(relay.Limits{PrefixLength: 300}); err == nil {
		t.Error("a prefix of 300 bits was accepted")
	}
	if got := j.s.Limits(); got.Reservations != 1 || got.Bytes != 10 || got.Circuits != 1024 {
		t.Errorf("in force: %+v", got)
	}
	pass(t, j.near, j.far, noise(1000))
	if got := status(t, send(t, j.b, j.at, connectTo(j.a.ID()))).GetStatus(); got != pb.Status_RESOURCE_LIMIT_EXCEEDED {
		t.Error("a second circuit:", got)
	}
	reserve(t, j.a, j.at) // needs no room
	msg := status(t, send(t, stock(t, quicAddr), j.at, &pb.HopMessage{Type: pb.HopMessage_RESERVE.Enum()}))
	if msg.GetStatus() != pb.Status_RESERVATION_REFUSED {
		t.Error("a second reservation:", msg.GetStatus())
	}
	_ = j.near.Reset()
	j.story.await(t, relay.EventCircuitClosed)
	eventually(t, "an end of the circuit", func() bool { return j.s.Stats().Circuits == 0 })
	next := status(t, send(t, j.b, j.at, connectTo(j.a.ID())))
	if got := next.GetLimit(); got.GetData() != 10 || got.GetDuration() != 3600 {
		t.Errorf("a new circuit has %v", got)
	}
}

// TestDrain: nothing new, nothing cut; reservations last until their circuits end.
func TestDrain(t *testing.T) {
	j := join(t, quicAddr, relay.Config{})
	idle := stock(t, quicAddr)
	reserve(t, idle, j.at)
	j.s.Drain()
	j.s.Drain() // is no error
	if e := j.story.await(t, relay.EventReservationClosed); e.Peer != idle.ID() || e.Reason != relay.ReasonDraining {
		t.Errorf("%+v", e)
	}
	if got := j.s.Reservations(); len(got) != 1 || got[0].Peer != j.a.ID() || !j.s.Draining() {
		t.Errorf("draining %v, held: %+v", j.s.Draining(), got)
	}
	pass(t, j.near, j.far, noise(1000))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.s.Wait(ended); !errors.Is(err, context.Canceled) {
		t.Error("waiting with a circuit open:", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- j.s.Wait(t.Context()) }()
	if err := j.near.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := j.far.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Error("waiting for the last circuit:", err)
	}
	if e := j.story.await(t, relay.EventReservationClosed); e.Peer != j.a.ID() || e.Reason != relay.ReasonDraining {
		t.Errorf("%+v", e)
	}
	if got := j.s.Reservations(); len(got) != 0 {
		t.Errorf("held after the last circuit: %+v", got)
	}
}

// TestCloseEndsCircuits: both ends learn of it, and it is told what ended.
func TestCloseEndsCircuits(t *testing.T) {
	bothTransports(t, func(t *testing.T, listen string) {
		j := join(t, listen, relay.Config{})
		if err := j.s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, st := range []network.Stream{j.near, j.far} {
			if _, err := st.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
				t.Error("an end got", err)
			}
		}
		if e := j.story.await(t, relay.EventCircuitClosed); e.Reason != relay.ReasonShutdown {
			t.Errorf("%+v", e)
		}
		if e := j.story.await(t, relay.EventReservationClosed); e.Reason != relay.ReasonShutdown {
			t.Errorf("%+v", e)
		}
		if got := j.s.Stats(); got.Circuits != 0 || got.Reservations != 0 {
			t.Errorf("%+v", got)
		}
	})
}
