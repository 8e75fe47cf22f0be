package relay_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"dibber/netkit/relay"

	"github.com/google/go-cmp/cmp"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
)

// TestNothingIsLeftOver opens and ends circuits and reservations in every way at
// the same time. Whatever began has ended in the end, and nothing is counted still.
func TestNothingIsLeftOver(t *testing.T) {
	bothTransports(t, func(t *testing.T, listen string) {
		h := stock(t, listen)
		s, story, at := start(t, h, relay.Config{Limits: relay.Limits{CircuitsPerPeer: 4, Bytes: 5000}, Requests: 1e6, Burst: 1e6})
		var targets, sources []corehost.Host
		for i := range 6 {
			h := stock(t, listen)
			if i < 3 {
				accept(h)
				reserve(t, h, at)
				targets = append(targets, h)
				continue
			}
			if err := h.Connect(t.Context(), at); err != nil {
				t.Fatal(err)
			}
			sources = append(sources, h)
		}
		var busy sync.WaitGroup
		for i, src := range sources {
			busy.Go(func() {
				rng := rand.New(rand.NewPCG(1, uint64(i)))
				for range 30 {
					dst := targets[rng.IntN(len(targets))]
					st, ok := try(t, src, at.ID, dst)
					switch rng.IntN(6) {
					case 0:
						s.EndPeer(dst.ID(), "sent away")
						// Refused only when the other sources have just filled the relay.
						_, _ = client.Reserve(t.Context(), dst, at)
					case 1:
						for _, c := range s.Circuits() {
							s.EndCircuit(c.ID, "ended")
						}
					case 2:
						if ok {
							_, _ = st.Write(noise(6000)) // more than the limit
						}
					case 3:
						if err := s.SetLimits(relay.Limits{CircuitsPerPeer: 1 + rng.IntN(4), Bytes: 5000}); err != nil {
							t.Error(err)
						}
					}
					if ok && rng.IntN(2) == 0 {
						_ = st.Reset()
					}
				}
			})
		}
		busy.Wait()
		for _, h := range append(targets, sources...) {
			if err := h.Network().ClosePeer(at.ID); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "an end of everything", func() bool {
			st := s.Stats()
			return st.Circuits == 0 && st.Reservations == 0
		})
		if err := s.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		checkBalance(t, s, story)
	})
}

// try opens a circuit that the relay may refuse.
func try(t *testing.T, from corehost.Host, at peer.ID, to corehost.Host) (network.Stream, bool) {
	st, err := from.NewStream(t.Context(), at, proto.ProtoIDv2Hop)
	if err != nil {
		t.Error(err)
		return nil, false
	}
	var msg pb.HopMessage
	rd := util.NewDelimitedReader(st, 4096)
	defer rd.Close()
	if err := util.NewDelimitedWriter(st).WriteMsg(connectTo(to.ID())); err != nil {
		t.Error(err)
	} else if err := rd.ReadMsg(&msg); err != nil && !errors.Is(err, network.ErrReset) {
		t.Error(err)
	}
	return st, msg.GetStatus() == pb.Status_OK
}

// checkBalance compares the events with each other and with the statistics.
func checkBalance(t *testing.T, s *relay.Server, story *story) {
	t.Helper()
	n := make(map[relay.EventKind]uint64)
	closed := make(map[relay.Reason]uint64)
	refused := make(map[relay.Reason]uint64)
	var bytes int64
	for _, e := range story.events {
		n[e.Kind]++
		bytes += e.Sent + e.Received
		if e.Status != 0 {
			refused[e.Reason]++
		} else if e.Kind == relay.EventCircuitClosed {
			closed[e.Reason]++
		}
	}
	if n[relay.EventCircuitOpened] == 0 || n[relay.EventCircuitOpened] != n[relay.EventCircuitClosed] ||
		n[relay.EventReservationOpened] != n[relay.EventReservationClosed] {
		t.Errorf("events: %v", n)
	}
	want := relay.Stats{
		Reserved: n[relay.EventReservationOpened], Renewed: n[relay.EventReservationRenewed], Opened: n[relay.EventCircuitOpened],
		Bytes: bytes, Refused: refused, Closed: closed,
	}
	if diff := cmp.Diff(want, s.Stats()); diff != "" {
		t.Error("statistics:", diff)
	}
}
