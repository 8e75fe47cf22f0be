package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/multiformats/go-multistream"
)

// OpenStream opens a stream on c that speaks proto. It does not wait for identify
// nor for the peer's answer to the protocol proposal, so a request sent at once
// is answered one round trip later (multistream-select's lazy client). If the peer
// does not speak proto the first Read fails, mostly with a bare reset, because the
// request that came along was no proposal; Supports then tells what it was.
// Relayed connections are used like any other.
func (n *Node) OpenStream(ctx context.Context, c network.Conn, proto protocol.ID) (network.Stream, error) {
	s, err := c.NewStream(network.WithAllowLimitedConn(ctx, string(proto)))
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", proto, err)
	}
	if err := s.SetProtocol(proto); err != nil {
		_ = s.Reset() // the first error is the one to tell
		return nil, fmt.Errorf("open stream %s: %w", proto, err)
	}
	return &lazyStream{s, lazy{s, multistream.NewMSSelect(s, proto)}}, nil
}

// OpenOn opens a stream on a connection made by DialAddr, as OpenStream does on
// one of the host's network.
func (n *Node) OpenOn(ctx context.Context, c transport.CapableConn, proto protocol.ID) (network.MuxedStream, error) {
	s, err := c.OpenStream(ctx)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", proto, err)
	}
	return &lazyMuxed{s, lazy{s, multistream.NewMSSelect(s, proto)}}, nil
}

// Supports asks the peer at the other end of c whether it speaks proto, by
// proposing it and waiting for the answer.
func (n *Node) Supports(ctx context.Context, c network.Conn, proto protocol.ID) (bool, error) {
	s, err := c.NewStream(network.WithAllowLimitedConn(ctx, string(proto)))
	if err != nil {
		return false, fmt.Errorf("open stream %s: %w", proto, err)
	}
	defer func() { _ = s.Reset() }() // nothing was asked for beyond the answer
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	err = multistream.SelectProtoOrFail(proto, s)
	if NotSupported(err) {
		return false, nil
	}
	return err == nil, err
}

// unspoken is a protocol that no peer has. To say so is an answer, and it counts
// against no limit: go-libp2p serves two pings of a peer at once and resets more.
const unspoken protocol.ID = "/dibber/unspoken"

// Answers proposes a protocol on a connection made by DialAddr. It returns nil if
// the peer answers at all: one that turns the host away does so after the
// handshake, which has then succeeded on this side.
func (n *Node) Answers(ctx context.Context, c transport.CapableConn) error {
	s, err := c.OpenStream(ctx)
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	defer func() { _ = s.Reset() }() // nothing was asked for beyond the answer
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if err := multistream.SelectProtoOrFail(unspoken, s); err != nil && !NotSupported(err) {
		return fmt.Errorf("propose a protocol: %w", err)
	}
	return nil
}

// Responds proposes a protocol on an open connection. It returns nil if the peer
// answers at all.
func (n *Node) Responds(ctx context.Context, c network.Conn) error {
	_, err := n.Supports(ctx, c, unspoken)
	return err
}

// NotSupported reports whether err means that the peer does not speak the protocol
// that a stream was opened for.
func NotSupported(err error) bool {
	return errors.As(err, new(multistream.ErrNotSupported[protocol.ID]))
}

// lazyStream negotiates its protocol with the first read and write.
type lazyStream struct {
	network.Stream
	lazy
}

// lazyMuxed is a lazyStream of a connection outside the host's network.
type lazyMuxed struct {
	network.MuxedStream
	lazy
}

func (s *lazyStream) Read(b []byte) (int, error)  { return s.rw.Read(b) }
func (s *lazyStream) Write(b []byte) (int, error) { return s.rw.Write(b) }
func (s *lazyStream) Close() error                { return s.close() }
func (s *lazyStream) CloseWrite() error           { return s.closeWrite() }
func (s *lazyMuxed) Read(b []byte) (int, error)   { return s.rw.Read(b) }
func (s *lazyMuxed) Write(b []byte) (int, error)  { return s.rw.Write(b) }
func (s *lazyMuxed) Close() error                 { return s.close() }
func (s *lazyMuxed) CloseWrite() error            { return s.closeWrite() }

// lazy is a stream below and its negotiation above.
type lazy struct {
	below network.MuxedStream
	rw    io.ReadWriteCloser
}

// closeTimeout bounds how long Close waits for the negotiation of a stream that
// was never read.
const closeTimeout = 10 * time.Second

func (l lazy) close() error {
	if err := l.below.SetReadDeadline(time.Now().Add(closeTimeout)); err != nil {
		return err
	}
	return l.rw.Close()
}

// closeWrite sends the proposal if nothing was written yet, then half-closes.
func (l lazy) closeWrite() error {
	if f, ok := l.rw.(interface{ Flush() error }); ok {
		if err := f.Flush(); err != nil {
			return err
		}
	}
	return l.below.CloseWrite()
}
