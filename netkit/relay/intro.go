package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/multiformats/go-multistream"
	"google.golang.org/protobuf/encoding/protowire"
)

// IntroProtocol is how a relay carries one message to a peer that has a reservation,
// and its answer back, so that two peers can agree on how to connect before they have a
// relayed connection. The relay does not look into either. A request is one frame, and so
// is the reply:
//
//	Request { destination = 1, message = 2 }
//	Reply   { status = 1, answer = 2 }
//
// in protobuf; status is that of circuit relay v2, answer is there if it is OK.
const IntroProtocol protocol.ID = "/dibber/intro/1.0.0"

// OfferProtocol is what the relay speaks with the destination: the message in one frame,
// and the answer in another. Who wrote it the message itself has to show.
const OfferProtocol protocol.ID = "/dibber/offer/1.0.0"

const (
	// MaxIntro is the largest message or answer that a relay carries, in bytes.
	MaxIntro = 8 << 10
	// introHead is what a request or reply may have besides.
	introHead = 256
	// introTimeout bounds how long a destination may take to answer.
	introTimeout = 5 * time.Second
)

// IntroError means that a relay did not carry a message.
type IntroError struct {
	Relay  peer.ID
	Status Status
}

func (e *IntroError) Error() string {
	return fmt.Sprintf("introduction by %s: relay answered %s", e.Relay, e.Status)
}

var errIntro = errors.New("malformed introduction")

// Introduce has the relay at the other end of c carry a message to dst, and returns the
// answer. The error is an *IntroError where the relay would not, or dst did not answer.
func Introduce(ctx context.Context, n *host.Node, c network.Conn, dst peer.ID, message []byte) ([]byte, error) {
	st, err := n.OpenStream(ctx, c, IntroProtocol)
	if err != nil {
		return nil, err
	}
	request := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte(dst))
	request = protowire.AppendBytes(protowire.AppendTag(request, 2, protowire.BytesType), message)
	raw, err := wire.Exchange(ctx, st, request, MaxIntro+introHead)
	if err != nil {
		return nil, fmt.Errorf("introduction by %s: %w", c.RemotePeer(), err)
	}
	status, answer, err := readIntro(raw, protowire.VarintType)
	if err != nil {
		return nil, fmt.Errorf("introduction by %s: %w", c.RemotePeer(), err)
	}
	code, n0 := protowire.ConsumeVarint(status)
	if s := Status(min(code, 1<<16)); n0 < 0 || s != pb.Status_OK {
		return nil, &IntroError{c.RemotePeer(), s}
	}
	return answer, nil
}

// readIntro reads a request or a reply, whose first field is of the given kind; of a
// varint the bytes are returned.
func readIntro(raw []byte, first protowire.Type) (head, body []byte, err error) {
	for len(raw) > 0 {
		num, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return nil, nil, errIntro
		}
		raw = raw[n:]
		size := protowire.ConsumeFieldValue(num, kind, raw)
		if size < 0 {
			return nil, nil, errIntro
		}
		value := raw[:size]
		raw = raw[size:]
		if kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
		}
		switch {
		case num == 1 && kind == first:
			head = value
		case num == 2 && kind == protowire.BytesType:
			body = value
		}
	}
	return head, body, nil
}

// introService serves IntroProtocol.
func (s *Server) introService() *wire.Service {
	return wire.NewService(wire.ServiceConfig{
		Name: ServiceName + ".intro", MaxRequest: MaxIntro + introHead, MaxReply: MaxIntro + introHead,
		Timeout: requestTimeout, Rate: s.cfg.Requests, Burst: s.cfg.Burst, RatePeers: ratedPeers,
	}, s.introduce)
}

// introduce answers a request to carry a message.
func (s *Server) introduce(ctx context.Context, req wire.Request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, introTimeout)
	defer cancel()
	began := time.Now()
	r := refusal{kind: EventRefused, peer: req.Peer}
	var answer []byte
	dst, message, err := readIntro(req.Body, protowire.BytesType)
	r.dst = peer.ID(dst)
	switch {
	case err != nil || len(dst) == 0 || len(message) == 0 || len(message) > MaxIntro || r.dst.Validate() != nil:
		r.why, r.dst = ReasonMalformed, ""
	case addr.IsRelayed(req.Conn.RemoteMultiaddr()):
		r.why = ReasonRelayed
	case s.cfg.AllowConnect != nil && !s.cfg.AllowConnect(req.Peer, req.Conn.RemoteMultiaddr(), r.dst):
		r.why = ReasonDenied
	default:
		answer, r.why = s.forward(ctx, req.Peer, r.dst, message)
	}
	status := pb.Status_OK
	if r.why != "" {
		status = r.why.status(pb.HopMessage_CONNECT)
		s.mu.Lock()
		s.stats.Refused[r.why]++
		s.mu.Unlock()
		s.emit(Event{Kind: r.kind, Peer: r.peer, Destination: r.dst, Reason: r.why, Status: status})
	} else {
		s.mu.Lock()
		s.stats.Offers++
		s.mu.Unlock()
		s.emit(Event{Kind: EventOfferCarried, Peer: r.peer, Destination: r.dst, Took: time.Since(began)})
	}
	reply := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(status))
	return protowire.AppendBytes(protowire.AppendTag(reply, 2, protowire.BytesType), answer), nil
}

// forward carries a message and its answer, which count as a circuit while they are
// under way.
func (s *Server) forward(ctx context.Context, src, dst peer.ID, message []byte) ([]byte, Reason) {
	if _, why := s.admit(src, dst); why != "" {
		return nil, why
	}
	defer s.dismiss(src, dst)
	st, why := s.reach(ctx, dst, OfferProtocol)
	if why != "" {
		return nil, why
	}
	if err := st.Scope().SetService(ServiceName); err != nil {
		_ = st.Reset()
		return nil, ReasonResources
	}
	if err := st.Scope().ReserveMemory(MaxIntro, network.ReservationPriorityAlways); err != nil {
		_ = st.Reset()
		return nil, ReasonResources
	}
	defer st.Scope().ReleaseMemory(MaxIntro)
	asked := lazyStream{st, multistream.NewMSSelect(st, OfferProtocol)}
	answer, err := wire.Exchange(ctx, asked, message, MaxIntro)
	if err != nil {
		// The negotiation is read by a goroutine of its own, which this waits for.
		_, _ = asked.Read(nil)
		return nil, ReasonDestinationRefused
	}
	return answer, ""
}

// lazyStream proposes its protocol with the first write, which saves a round trip.
type lazyStream struct {
	network.Stream
	lazy io.ReadWriter
}

func (s lazyStream) Read(b []byte) (int, error)  { return s.lazy.Read(b) }
func (s lazyStream) Write(b []byte) (int, error) { return s.lazy.Write(b) }
