package route

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/wire"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/event"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/proto"
)

// tracedHost is the node as the library sees it: its dials are noted in the trace of the lookup that they are for, and
// its handler stands behind the guard.
type tracedHost struct {
	*host.Node
	guard *guard
	bus   *modeBus
}

// EventBus implements host.Host.
func (h *tracedHost) EventBus() event.Bus { return h.bus }

// ConnManager implements host.Host.
func (h *tracedHost) ConnManager() connmgr.ConnManager { return taggedOnly{h.Node.ConnManager()} }

// Connect implements host.Host. Unlike the host's own it does not wait for identify, which no request needs.
func (h *tracedHost) Connect(ctx context.Context, pi peer.AddrInfo) error {
	h.Peerstore().AddAddrs(pi.ID, pi.Addrs, peerstore.TempAddrTTL)
	if connected := h.Network().Connectedness(pi.ID); connected == network.Connected || connected == network.Limited {
		return nil
	}
	if traceOf(ctx).spares(pi.ID) {
		return errSpared
	}
	began := time.Now()
	c, err := h.Network().DialPeer(ctx, pi.ID)
	traceOf(ctx).dialled(pi.ID, c, began, time.Now(), err)
	return err
}

// errSpared is why a peer that is looked for is not dialled.
var errSpared = errors.New("its addresses are looked for, not itself")

// SetStreamHandler implements host.Host.
func (h *tracedHost) SetStreamHandler(id protocol.ID, handle network.StreamHandler) {
	h.Node.SetStreamHandler(id, h.guard.wrap(handle))
}

// Why a peer did not answer.
var (
	// ErrNoDHT means that it does not speak the protocol of this network.
	ErrNoDHT = errors.New("the peer does not speak the protocol of this network")
	// ErrRefused means that it reset the stream instead of answering.
	ErrRefused = errors.New("the peer refused")
)

// sender sends the library's requests, each on a stream of its own: that costs no round trip, and a refused one tells
// nothing about those before and after it.
type sender struct {
	n        *host.Node
	protocol protocol.ID
	timeout  time.Duration
}

func (s *Service) sender(corehost.Host, []protocol.ID) pb.MessageSenderWithDisconnect {
	return &sender{s.n, s.cfg.Protocol, s.cfg.Timeout}
}

// OnDisconnect implements pb.MessageSenderWithDisconnect: there is nothing to tidy up.
func (s *sender) OnDisconnect(context.Context, peer.ID) {}

// SendRequest sends a request and returns the answer.
func (s *sender) SendRequest(ctx context.Context, p peer.ID, m *pb.Message) (*pb.Message, error) {
	answer := new(pb.Message)
	err := s.exchange(ctx, p, m, answer)
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// SendMessage sends a message that has no answer, and waits until the peer has closed the stream after it: a refused one
// is reset.
func (s *sender) SendMessage(ctx context.Context, p peer.ID, m *pb.Message) error {
	return s.exchange(ctx, p, m, nil)
}

// exchange is one request; answer is nil for one without.
func (s *sender) exchange(ctx context.Context, p peer.ID, m, answer *pb.Message) error {
	body, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	t := traceOf(ctx)
	within, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	began := time.Now()
	c, first, err := s.send(within, p, body, answer)
	if err != nil && ctx.Err() == nil && within.Err() != nil {
		err = fmt.Errorf("no answer within %s: %w", s.timeout, context.DeadlineExceeded)
	}
	t.asked(query{
		peer: p, conn: c, request: requestName(m.GetType()),
		began: began, first: first, ended: time.Now(), answer: answer, err: err,
	})
	if err == nil && answer != nil && !first.IsZero() {
		s.n.Peerstore().RecordLatency(p, first.Sub(began))
	}
	return err
}

// send sends one request over the best connection, and says when the first byte of the answer came.
func (s *sender) send(ctx context.Context, p peer.ID, body []byte, answer *pb.Message) (c network.Conn, first time.Time, err error) {
	conns := s.n.Conns(p)
	if len(conns) == 0 {
		if c, err = s.n.Network().DialPeer(ctx, p); err != nil {
			return nil, first, err
		}
	} else {
		c = conns[0]
	}
	st, err := s.n.OpenStream(ctx, c, s.protocol)
	if err != nil {
		return c, first, err
	}
	timed := &firstByte{Stream: st}
	if answer == nil {
		err = hand(ctx, timed, body)
	} else {
		var reply []byte
		if reply, err = wire.Exchange(ctx, timed, body, network.MessageSizeMax); err == nil {
			if err = proto.Unmarshal(reply, answer); err != nil {
				err = fmt.Errorf("decode answer: %w", err)
			}
		}
	}
	return c, timed.at, s.reason(ctx, c, err)
}

// hand sends a message that has no answer. That the peer closes the stream after it is the sign that it was taken; to reset it
// is to refuse, which [wire.Send] does not tell apart.
func hand(ctx context.Context, st network.Stream, body []byte) error {
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	err := wire.WriteFrame(st, body, len(body))
	if err == nil {
		_ = st.CloseWrite() // the peer may have reset it already, which the next line tells
		_, err = io.Copy(io.Discard, io.LimitReader(st, 1))
	}
	switch {
	case err == nil:
		return st.Close()
	case ctx.Err() != nil:
		err = ctx.Err()
	}
	_ = st.Reset()
	return err
}

// reason tells what a reset stream means: a peer that does not speak the protocol resets it as one that refuses does.
func (s *sender) reason(ctx context.Context, c network.Conn, err error) error {
	switch {
	case err == nil || ctx.Err() != nil || c.IsClosed():
		return err
	case host.NotSupported(err):
		return ErrNoDHT
	case !errors.Is(err, network.ErrReset):
		return err
	}
	if speaks, asked := s.n.Supports(ctx, c, s.protocol); asked == nil && !speaks {
		return ErrNoDHT
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// firstByte notes when the first byte of the answer came.
type firstByte struct {
	network.Stream
	at time.Time
}

// Read implements io.Reader.
func (f *firstByte) Read(b []byte) (int, error) {
	n, err := f.Stream.Read(b)
	if n > 0 && f.at.IsZero() {
		f.at = time.Now()
	}
	return n, err
}
