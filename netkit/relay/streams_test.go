package relay_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/relay"

	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/transport"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	"github.com/multiformats/go-multistream"
)

// TestManyCircuitsToOnePeer: QUIC lets a peer open 256 streams on a connection.
// With more than that the destination's second connection is used, and without
// one the refusal is clear and quick.
func TestManyCircuitsToOnePeer(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		const perConn = 256
		l := unlimited()
		l.CircuitsPerPeer = relay.NoLimit
		s, story, at := start(t, site(lab, "relay"), relay.Config{Limits: l, Requests: 1000, Burst: 1000})
		busy := lab.Internet().Machine("busy", natlab.MachineConfig{}).Host(host.Config{})
		first := dialBare(t, busy, at)
		reserveBare(t, first.CapableConn)
		var sources []corehost.Host
		for i := range 3 {
			sources = append(sources, site(lab, fmt.Sprint("source ", i)))
		}
		for i := range perConn {
			circuit(t, sources[i%2], at, busy.ID())
		}
		began := time.Now()
		if got := status(t, send(t, sources[2], at, connectTo(busy.ID()))).GetStatus(); got != pb.Status_RESOURCE_LIMIT_EXCEEDED {
			t.Error("one too many is answered with", got)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("that took %s", took)
		}
		if e := story.await(t, relay.EventCircuitRefused); e.Reason != relay.ReasonStreams {
			t.Errorf("%+v", e)
		}
		second := dialBare(t, busy, at)
		time.Sleep(time.Second) // the relay takes it a little later than the dialer
		for range 50 {
			circuit(t, sources[2], at, busy.ID())
		}
		if first, second := first.circuits.Load(), second.circuits.Load(); first != perConn || second != 50 {
			t.Errorf("%d circuits came over the first connection, %d over the second", first, second)
		}
		if got := len(s.Circuits()); got != perConn+50 {
			t.Errorf("%d circuits are open", got)
		}
	})
}

// TestPeerWithAllItsCircuitsCanRenew on a host as ours is built: the streams of its
// circuits must not use up what the resource manager gives a peer.
func TestPeerWithAllItsCircuitsCanRenew(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s, _, at := start(t, lab.Internet().Machine("relay", natlab.MachineConfig{}).Host(host.Config{}), relay.Config{})
		a := site(lab, "a")
		accept(a)
		reserve(t, a, at)
		per := s.Limits().CircuitsPerPeer
		for i := range per {
			circuit(t, site(lab, fmt.Sprint("source ", i)), at, a.ID())
		}
		reserve(t, a, at)
		if got := s.Stats(); got.Renewed != 1 || got.Circuits != per {
			t.Errorf("%+v", got)
		}
	})
}

// TestCircuitsAreSpread over the connections of their destination.
func TestCircuitsAreSpread(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, _, at := start(t, site(lab, "relay"), relay.Config{})
		busy := lab.Internet().Machine("busy", natlab.MachineConfig{}).Host(host.Config{})
		first, second := dialBare(t, busy, at), dialBare(t, busy, at)
		reserveBare(t, first.CapableConn)
		time.Sleep(time.Minute) // until nobody asks any more who is there
		src := site(lab, "source")
		for range 32 {
			circuit(t, src, at, busy.ID())
		}
		if first, second := first.circuits.Load(), second.circuits.Load(); first < 12 || second < 12 {
			t.Errorf("%d circuits came over the first connection, %d over the second", first, second)
		}
	})
}

// bareConn is a connection that belongs to no host.
type bareConn struct {
	transport.CapableConn
	circuits atomic.Int64 // accepted
}

// dialBare opens one more connection to a relay, accepts circuits on it, and
// refuses all other streams.
func dialBare(t *testing.T, n *host.Node, at peer.AddrInfo) *bareConn {
	t.Helper()
	opened, err := n.DialAddr(t.Context(), at.ID, at.Addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	conn := &bareConn{CapableConn: opened}
	mux := multistream.NewMultistreamMuxer[protocol.ID]()
	mux.AddHandler(proto.ProtoIDv2Stop, nil)
	var done sync.WaitGroup
	done.Go(func() {
		for {
			st, err := conn.AcceptStream()
			if err != nil {
				return
			}
			done.Go(func() {
				if _, _, err := mux.Negotiate(st); err != nil {
					_ = st.Reset()
					return
				}
				var msg pb.StopMessage
				rd := util.NewDelimitedReader(st, 4096)
				defer rd.Close()
				if rd.ReadMsg(&msg) == nil {
					conn.circuits.Add(1)
					_ = util.NewDelimitedWriter(st).WriteMsg(&pb.StopMessage{Type: pb.StopMessage_STATUS.Enum(), Status: pb.Status_OK.Enum()})
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		done.Wait()
	})
	return conn
}

// reserveBare reserves on a connection that belongs to no host.
func reserveBare(t *testing.T, conn transport.CapableConn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	st, err := conn.OpenStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := multistream.SelectProtoOrFail(protocol.ID(proto.ProtoIDv2Hop), st); err != nil {
		t.Fatal(err)
	}
	if err := util.NewDelimitedWriter(st).WriteMsg(&pb.HopMessage{Type: pb.HopMessage_RESERVE.Enum()}); err != nil {
		t.Fatal(err)
	}
	var msg pb.HopMessage
	rd := util.NewDelimitedReader(st, 4096)
	defer rd.Close()
	if err := rd.ReadMsg(&msg); err != nil || msg.GetStatus() != pb.Status_OK {
		t.Fatal(msg.GetStatus(), err)
	}
}
