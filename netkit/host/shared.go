package host

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// sharedQueue is how many datagrams wait for each reader; more are dropped.
	sharedQueue = 256
	// sharedMax is the most bytes of a datagram that are handed on.
	sharedMax = 2048
)

// sharedSockets hand what comes in at QUIC's sockets and is not QUIC to everybody who
// reads there: libp2p gives each datagram to one of them.
type sharedSockets struct {
	mu   sync.Mutex // guards following
	open map[netip.AddrPort]*sharedSocket
}

// sharedSocket is one socket with its readers.
type sharedSocket struct {
	net.PacketConn
	pump    sync.WaitGroup
	readers []*sharedConn // guarded by sharedSockets.mu
}

// sharedConn is a socket for one reader.
type sharedConn struct {
	all    *sharedSockets
	at     netip.AddrPort
	socket *sharedSocket
	queue  chan datagram
	closed chan struct{}
	once   sync.Once
}

type datagram struct {
	data []byte
	from net.Addr
}

// join adds a reader to the socket of an endpoint, which open opens for the first.
func (s *sharedSockets) join(at netip.AddrPort, open func() (net.PacketConn, error)) (net.PacketConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	socket := s.open[at]
	if socket == nil {
		c, err := open()
		if err != nil {
			return nil, err
		}
		socket = &sharedSocket{PacketConn: c}
		if s.open == nil {
			s.open = make(map[netip.AddrPort]*sharedSocket)
		}
		s.open[at] = socket
		socket.pump.Go(func() { s.read(socket) })
	}
	c := &sharedConn{all: s, at: at, socket: socket, queue: make(chan datagram, sharedQueue), closed: make(chan struct{})}
	socket.readers = append(socket.readers, c)
	return c, nil
}

// read hands on until the socket is closed.
func (s *sharedSockets) read(socket *sharedSocket) {
	buf := make([]byte, sharedMax)
	for {
		n, from, err := socket.ReadFrom(buf)
		s.mu.Lock()
		readers := slices.Clone(socket.readers)
		s.mu.Unlock()
		if err != nil {
			for _, c := range readers {
				c.end() // the host is closing
			}
			return
		}
		d := datagram{slices.Clone(buf[:n]), from}
		for _, c := range readers {
			select {
			case c.queue <- d: // nobody changes what is in it
			default:
			}
		}
	}
}

// leave takes a reader from its socket, and closes that after the last.
func (s *sharedSockets) leave(c *sharedConn) error {
	s.mu.Lock()
	c.socket.readers = slices.DeleteFunc(c.socket.readers, func(o *sharedConn) bool { return o == c })
	last := len(c.socket.readers) == 0 && s.open[c.at] == c.socket
	if last {
		delete(s.open, c.at)
	}
	s.mu.Unlock()
	if !last {
		return nil
	}
	err := c.socket.Close()
	c.socket.pump.Wait()
	return err
}

func (c *sharedConn) end() { c.once.Do(func() { close(c.closed) }) }

// ReadFrom implements net.PacketConn.
func (c *sharedConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-c.queue:
		return copy(b, d.data), d.from, nil
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements net.PacketConn.
func (c *sharedConn) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
		return c.socket.WriteTo(b, to)
	}
}

// Close implements net.PacketConn.
func (c *sharedConn) Close() (err error) {
	c.once.Do(func() {
		close(c.closed)
		err = c.all.leave(c)
	})
	return err
}

// LocalAddr implements net.PacketConn.
func (c *sharedConn) LocalAddr() net.Addr { return c.socket.LocalAddr() }

// SetDeadline implements net.PacketConn: there are none.
func (c *sharedConn) SetDeadline(time.Time) error { return errors.ErrUnsupported }

// SetReadDeadline implements net.PacketConn: there are none.
func (c *sharedConn) SetReadDeadline(time.Time) error { return errors.ErrUnsupported }

// SetWriteDeadline implements net.PacketConn: there are none.
func (c *sharedConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
