package perf

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/network"
	manet "github.com/multiformats/go-multiaddr/net"
)

// ErrNoRaw means that no plain connection could be measured beside the libp2p one.
var ErrNoRaw = errors.New("no plain TCP connection to compare with")

// ends are the IP addresses of both ends of a direct connection.
func ends(c network.Conn) (local, remote netip.Addr, err error) {
	if addr.IsRelayed(c.RemoteMultiaddr()) {
		return local, remote, errors.New("the connection is relayed")
	}
	var ips [2]net.IP
	if ips[0], err = manet.ToIP(c.LocalMultiaddr()); err == nil {
		ips[1], err = manet.ToIP(c.RemoteMultiaddr())
	}
	if err != nil {
		return local, remote, fmt.Errorf("addresses of the connection: %w", err)
	}
	local, _ = netip.AddrFromSlice(ips[0])
	remote, _ = netip.AddrFromSlice(ips[1])
	return local.Unmap(), remote.Unmap(), nil
}

// raw opens a TCP port on the address that the peer's connection came to, for that
// peer's address and for as long as its stream is open.
func (s *Server) raw(st network.Stream) error {
	local, remote, err := ends(st.Conn())
	if err != nil {
		return err
	}
	config := net.ListenConfig{Control: s.n.Control}
	opened, err := config.Listen(s.ctx, "tcp", netip.AddrPortFrom(local, 0).String())
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	l, _ := opened.(*net.TCPListener) // which every listener on tcp is
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Duration)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var token [tokenSize]byte
	_, _ = rand.Read(token[:]) // never fails
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.acceptRaw(ctx, l, remote, token[:])
	}()
	defer func() { cancel(); <-served }()
	reply := binary.BigEndian.AppendUint16(nil, l.Addr().(*net.TCPAddr).AddrPort().Port())
	if _, err := st.Write(append(reply, token[:]...)); err != nil {
		return fmt.Errorf("send port: %w", err)
	}
	_, err = st.Read(make([]byte, 1)) // returns when the peer is done
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// acceptRaw answers connections from one address, one after the other.
func (s *Server) acceptRaw(ctx context.Context, l *net.TCPListener, from netip.Addr, token []byte) {
	defer l.Close()
	for taken := 0; taken < rawConns; {
		c, err := l.AcceptTCP()
		if err != nil {
			return
		}
		if c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap() == from {
			taken++
			s.answerRaw(ctx, c, token)
		}
		_ = c.Close()
	}
}

func (s *Server) answerRaw(ctx context.Context, c *net.TCPConn, token []byte) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	got := make([]byte, tokenSize)
	if c.SetDeadline(time.Now().Add(s.cfg.Duration)) != nil {
		return
	}
	if _, err := io.ReadFull(c, got); err != nil || subtle.ConstantTimeCompare(got, token) != 1 {
		return
	}
	_ = answer(c, s.sent, make([]byte, chunkSize)) // the client sees how it went
}

// rawPort is where the peer takes plain connections.
type rawPort struct {
	at    netip.AddrPort
	token []byte
	dial  net.Dialer
	close func()
}

// askRaw has the peer open a port; the caller closes it.
func askRaw(ctx context.Context, n *host.Node, c network.Conn) (rawPort, error) {
	_, remote, err := ends(c)
	if err != nil {
		return rawPort{}, fmt.Errorf("%w: %w", ErrNoRaw, err)
	}
	st, err := n.OpenStream(ctx, c, RawProtocol)
	if err != nil {
		return rawPort{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	var reply [2 + tokenSize]byte
	if _, err := io.ReadFull(st, reply[:]); err != nil {
		stop()
		_ = st.Reset() // the first error is the one to tell
		return rawPort{}, fmt.Errorf("%w: peer opened no port: %w", ErrNoRaw, err)
	}
	port := binary.BigEndian.Uint16(reply[:])
	return rawPort{netip.AddrPortFrom(remote, port), reply[2:], net.Dialer{Control: n.Control}, func() { stop(); _ = st.Close() }}, nil
}

// open connects with the port.
func (r rawPort) open(ctx context.Context) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, rawConnectTimeout)
	defer cancel()
	c, err := r.dial.DialContext(ctx, "tcp", r.at.String())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRaw, err)
	}
	if _, err := c.Write(r.token); err != nil {
		_ = c.Close() // the first error is the one to tell
		return nil, fmt.Errorf("%w: %w", ErrNoRaw, err)
	}
	return c.(*net.TCPConn), nil
}

const rawConnectTimeout = 5 * time.Second
