package relay_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
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
