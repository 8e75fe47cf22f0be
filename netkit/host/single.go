package host

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/quic-go/quic-go"
)

// single is QUIC on one socket, for one connection of the host that can have no other
// port. The listeners stay as they are, so that whatever is dialled later leaves from
// their ports and not from this one.
type single struct {
	transport.Transport
	cm       *quicreuse.ConnManager
	socket   net.PacketConn
	listener transport.Listener // nil when it was dialled
	guard    sync.WaitGroup
	once     sync.Once
}

func (n *Node) onSocket(socket net.PacketConn) (*single, error) {
	var srk quic.StatelessResetKey
	var tokens quic.TokenGeneratorKey
	_, _ = rand.Read(srk[:]) // never fails (crypto/rand)
	_, _ = rand.Read(tokens[:])
	rm := n.Network().ResourceManager()
	cm, err := quicreuse.NewConnManager(srk, tokens, append(countedQUIC(rm),
		quicreuse.OverrideListenUDP(func(string, *net.UDPAddr) (net.PacketConn, error) { return socket, nil }))...)
	if err != nil {
		_ = socket.Close() // the first error is the one to tell
		return nil, err
	}
	s := &single{cm: cm, socket: socket}
	if s.Transport, err = libp2pquic.NewTransport(n.cfg.Identity, cm, nil, n.gater, rm); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// close ends everything that stands on the socket, and it. Errors would tell nothing
// new: it is gone either way.
func (s *single) close() {
	s.once.Do(func() {
		if s.listener != nil {
			_ = s.listener.Close()
		}
		_ = s.cm.Close()
		_ = s.socket.Close()
		s.guard.Wait()
	})
}

// AcceptOn takes a connection that p makes to a socket, and makes it one of the
// host's. The socket, which nobody else may read any more, is closed with the
// connection, or if none comes while ctx lasts.
func (n *Node) AcceptOn(ctx context.Context, socket net.PacketConn, p peer.ID) error {
	s, err := n.onSocket(socket)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", socket.LocalAddr(), err)
	}
	at, err := quicreuse.ToQuicMultiaddr(socket.LocalAddr(), quic.Version1)
	if err == nil {
		s.listener, err = s.Listen(at)
	}
	if err != nil {
		s.close()
		return fmt.Errorf("listen on %s: %w", socket.LocalAddr(), err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.listener.Close() })
	c, err := s.acceptFrom(p)
	if err != nil || !stop() {
		s.close()
		return fmt.Errorf("accept on %s: %w", at, errors.Join(ctx.Err(), err))
	}
	s.guard.Go(func() { _, _ = s.acceptFrom("") }) // the listener holds the socket, and nobody else gets in
	return n.own(ctx, c, s)
}

// acceptFrom takes the first connection of p, and turns others away.
func (s *single) acceptFrom(p peer.ID) (transport.CapableConn, error) {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return nil, err
		}
		if c.RemotePeer() == p {
			return c, nil
		}
		_ = c.CloseWithError(network.ConnGated)
	}
}

// DialFrom connects to p from a socket, as AcceptOn takes a connection.
func (n *Node) DialFrom(ctx context.Context, socket net.PacketConn, p peer.ID, to netip.AddrPort) error {
	s, err := n.onSocket(socket)
	if err != nil {
		return fmt.Errorf("dial from %s: %w", socket.LocalAddr(), err)
	}
	a, err := quicreuse.ToQuicMultiaddr(net.UDPAddrFromAddrPort(to), quic.Version1)
	if err == nil {
		err = n.gated(p, a)
	}
	var c transport.CapableConn
	if err == nil {
		c, err = s.Dial(ctx, a, p)
	}
	if err != nil {
		s.close()
		return fmt.Errorf("dial %s from %s: %w", to, socket.LocalAddr(), err)
	}
	return n.own(ctx, c, s)
}

// own makes a connection one of the host's, with what it stands on.
func (n *Node) own(ctx context.Context, c transport.CapableConn, s *single) error {
	if err := n.adoption.put(ctx, singleConn{c, s}); err != nil {
		_ = c.CloseWithError(network.ConnShutdown)
		s.close()
		return fmt.Errorf("connection with %s: %w", c.RemoteMultiaddr(), err)
	}
	return nil
}

// singleConn is a connection that ends with its socket.
type singleConn struct {
	transport.CapableConn
	on *single
}

// Close implements transport.CapableConn.
func (c singleConn) Close() error {
	defer c.on.close()
	return c.CapableConn.Close()
}

// CloseWithError implements transport.CapableConn.
func (c singleConn) CloseWithError(code network.ConnErrorCode) error {
	defer c.on.close()
	return c.CapableConn.CloseWithError(code)
}
