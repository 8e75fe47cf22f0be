package natlab_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"dibber/netkit/natlab"
)

// station is a bare UDP socket on a machine.
type station struct {
	t    *testing.T
	conn net.PacketConn
}

// open opens a socket on a port of every address of m.
func open(t *testing.T, m *natlab.Machine, port int) station {
	t.Helper()
	c, err := m.ListenUDP("udp", &net.UDPAddr{Port: port})
	if err != nil {
		t.Fatal(err)
	}
	return station{t, c}
}

// send sends a packet with the given content.
func (s station) send(to netip.AddrPort, content string) {
	s.t.Helper()
	if _, err := s.conn.WriteTo([]byte(content), net.UDPAddrFromAddrPort(to)); err != nil {
		s.t.Fatal(err)
	}
}

// hear waits a second for a packet; its content is empty when none came.
func (s station) hear() (content string, from netip.AddrPort) {
	s.t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		s.t.Fatal(err)
	}
	b := make([]byte, 2000)
	n, addr, err := s.conn.ReadFrom(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", netip.AddrPort{}
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b[:n]), addr.(*net.UDPAddr).AddrPort()
}

// from waits for a packet and returns its source.
func (s station) from() netip.AddrPort {
	s.t.Helper()
	content, from := s.hear()
	if content == "" {
		s.t.Fatal("nothing heard")
	}
	return from
}

// silent checks that no packet comes.
func (s station) silent(why string) {
	s.t.Helper()
	if content, from := s.hear(); content != "" {
		s.t.Errorf("%s: heard %q from %s", why, content, from)
	}
}

// at is an endpoint on the first address of m.
func at(m *natlab.Machine, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(m.Addrs()[0], port)
}
