package natlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/marcopolo/simnet"
)

// receiveBuffer is how many packets wait in a socket that nobody reads: about
// what fits into the 2 MiB that quic-go asks the kernel for.
const receiveBuffer = 1500

// socket is a UDP socket of a machine. simnet's connection gives it reading,
// deadlines and the life of the payload; the socket adds what an operating system
// does around them: a receive buffer, wildcard addresses, errors of package net.
type socket struct {
	*simnet.SimConn
	machine *Machine
	bound   netip.AddrPort // unspecified address for a wildcard
	both    bool           // hears IPv4 and IPv6
	inbox   chan *simnet.Packet
	closed  chan struct{}
	once    sync.Once
	pump    sync.WaitGroup

	mu      sync.Mutex // guards sending
	sending packet     // what WriteTo is handing to simnet
}

// ListenUDP opens a socket as net.ListenUDP does: network is "udp", "udp4" or
// "udp6", an unspecified address hears all addresses of the family, port 0 takes
// a free one. Errors wrap those of the operating system (EADDRINUSE,
// EADDRNOTAVAIL, EAFNOSUPPORT).
func (m *Machine) ListenUDP(network string, laddr *net.UDPAddr) (net.PacketConn, error) {
	m.lab.mu.Lock()
	defer m.lab.mu.Unlock()
	bound, both, err := m.bind(network, laddr)
	if err != nil {
		return nil, fmt.Errorf("listen %s %s on %s: %w", network, laddr, m.name, err)
	}
	s := &socket{
		SimConn: simnet.NewBlockingSimConn(net.UDPAddrFromAddrPort(bound)),
		machine: m, bound: bound, both: both,
		inbox: make(chan *simnet.Packet, receiveBuffer), closed: make(chan struct{}),
	}
	s.SetUpPacketReceiver(outlet{s})
	m.sockets[bound.Port()] = append(m.sockets[bound.Port()], s)
	s.pump.Go(s.fill)
	return s, nil
}

// bind resolves what a new socket listens on. The caller holds lab.mu.
func (m *Machine) bind(network string, laddr *net.UDPAddr) (bound netip.AddrPort, both bool, err error) {
	if laddr == nil {
		laddr = &net.UDPAddr{}
	}
	addr := addrPort(laddr).Addr()
	if !addr.IsValid() {
		addr, both = netip.IPv6Unspecified(), network == "udp"
		if network == "udp4" {
			addr = netip.IPv4Unspecified()
		}
	}
	switch {
	case addr.IsUnspecified() && !both && !m.source(addr).IsValid():
		return bound, false, syscall.EAFNOSUPPORT
	case !addr.IsUnspecified() && !slices.Contains(m.addrs, addr):
		return bound, false, syscall.EADDRNOTAVAIL
	}
	port := uint16(laddr.Port)
	if port == 0 {
		port = m.freePort()
	}
	for _, s := range m.sockets[port] {
		if s.bound.Addr() == addr || s.hearsAll(addr) || addr.IsUnspecified() && (both || addr.Is4() == s.bound.Addr().Is4()) {
			return bound, false, syscall.EADDRINUSE
		}
	}
	return netip.AddrPortFrom(addr, port), both, nil
}

// freePort is an ephemeral port that no socket of the machine uses.
func (m *Machine) freePort() uint16 {
	for {
		port := m.next
		m.next = max(m.next+1, firstEphemeral)
		if len(m.sockets[port]) == 0 {
			return port
		}
	}
}

// hearsAll reports whether the socket's wildcard covers an address.
func (s *socket) hearsAll(a netip.Addr) bool {
	return s.bound.Addr().IsUnspecified() && (s.both || s.bound.Addr().Is4() == a.Is4())
}

// WriteTo sends a packet. Sending to a family of which the machine has no
// address is ENETUNREACH; a packet that gets lost is no error.
func (s *socket) WriteTo(b []byte, to net.Addr) (int, error) {
	remote, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("write to %s: %w", to, syscall.EINVAL)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sending = packet{proto: udp, dst: addrPort(remote), bytes: len(b)}
	if len(b) > 0 {
		s.sending.head = b[0]
	}
	src := s.bound.Addr()
	if src.IsUnspecified() {
		s.machine.lab.mu.Lock()
		src = s.machine.source(s.sending.dst.Addr())
		s.machine.lab.mu.Unlock()
	}
	if !src.IsValid() || src.Is4() != s.sending.dst.Addr().Is4() {
		return 0, fmt.Errorf("write to %s from %s: %w", to, s.machine.name, syscall.ENETUNREACH)
	}
	s.sending.src = netip.AddrPortFrom(src, s.bound.Port())
	return s.SimConn.WriteTo(b, to)
}

// outlet takes packets from a socket's simnet connection.
type outlet struct{ s *socket }

// RecvPacket puts the packet that WriteTo described on the machine's link.
func (o outlet) RecvPacket(payload *simnet.Packet) {
	p, m := o.s.sending, o.s.machine
	p.payload = payload
	m.lab.mu.Lock()
	defer m.lab.mu.Unlock()
	now := time.Now()
	if !slices.Contains(m.addrs, p.src.Addr()) {
		m.lab.note(now, m.name, "lost: source address is gone", p)
		return
	}
	m.lab.note(now, m.name, "sent", p)
	network := m.network
	m.link.cross(now, up, p, func(now time.Time) { network.route(now, p) })
}

// push puts an arrived packet into the receive buffer, if there is room.
func (s *socket) push(p packet) bool {
	p.payload.From = net.UDPAddrFromAddrPort(p.src)
	select {
	case s.inbox <- p.payload:
		return true
	default:
		return false
	}
}

// fill moves packets from the receive buffer to the reader.
func (s *socket) fill() {
	for {
		select {
		case p := <-s.inbox:
			s.SimConn.RecvPacket(p)
		case <-s.closed:
			return
		}
	}
}

// ReadFrom reads a packet; a deadline that passed is os.ErrDeadlineExceeded.
func (s *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := s.SimConn.ReadFrom(b)
	return n, from, netError(err)
}

// SetDeadline sets both deadlines; simnet's own would not wake a reader.
func (s *socket) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// Close frees the port and wakes a reader.
func (s *socket) Close() error {
	s.once.Do(func() {
		m := s.machine
		m.lab.mu.Lock()
		port := s.bound.Port()
		m.sockets[port] = slices.DeleteFunc(m.sockets[port], func(other *socket) bool { return other == s })
		m.lab.mu.Unlock()
		close(s.closed)
		_ = s.SimConn.Close() // returns nil always
		s.pump.Wait()
	})
	return nil
}

// netError turns simnet's time-out into the one that programs look for.
func netError(err error) error {
	if errors.Is(err, simnet.ErrDeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	return err
}
