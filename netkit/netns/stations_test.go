//go:build linux

package netns_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"dibber/netkit/netns"

	"golang.org/x/sys/unix"
)

const (
	// patience bounds the wait for what must come.
	patience = 30 * time.Second
	// silence is how long nothing must come, where no later packet can tell that
	// an earlier one is lost. A shorter wait would miss more mistakes, and fail no
	// test.
	silence = 150 * time.Millisecond
)

// station is a UDP socket in a namespace.
type station struct {
	t *testing.T
	*net.UDPConn
}

// open opens a socket on an address of h.
func open(t *testing.T, h *netns.Host, at netip.AddrPort) station {
	t.Helper()
	var c *net.UDPConn
	err := h.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return station{t, c}
}

func (s station) send(to netip.AddrPort, content string) {
	s.t.Helper()
	if _, err := s.WriteToUDPAddrPort([]byte(content), to); err != nil {
		s.t.Fatal(err)
	}
}

// hear returns the next packet.
func (s station) hear() (content string, from netip.AddrPort) {
	s.t.Helper()
	s.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 2000)
	n, from, err := s.ReadFromUDPAddrPort(b)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b[:n]), netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

// from returns the source of the next packet.
func (s station) from() netip.AddrPort {
	s.t.Helper()
	_, from := s.hear()
	return from
}

// until collects packets up to the one with the given content. Links keep the
// order of packets, so what was sent before it and is not there was lost.
func (s station) until(last string) (before []string) {
	s.t.Helper()
	for {
		content, _ := s.hear()
		if content == last {
			return before
		}
		before = append(before, content)
	}
}

// told sends a packet to an endpoint that nobody opened, and reports whether the
// sender is told so.
func told(t *testing.T, h *netns.Host, to netip.AddrPort, want bool) bool {
	t.Helper()
	var c net.Conn
	err := h.Do(func() (err error) {
		c, err = net.Dial("udp", to.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("anybody there?")); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(wait(want)))
	_, err = c.Read(make([]byte, 1))
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// wait is how long to wait for something that must come, or must not.
func wait(comes bool) time.Duration {
	if comes {
		return patience
	}
	return silence
}

// shared lets several sockets use one port, as go-libp2p's do.
func shared(_, _ string, c syscall.RawConn) error {
	var err error
	control := c.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	})
	return errors.Join(control, err)
}

// listen accepts TCP connections on an endpoint and keeps them to the test's end.
func listen(t *testing.T, h *netns.Host, at netip.AddrPort) (peers <-chan netip.AddrPort) {
	t.Helper()
	var l net.Listener
	err := h.Do(func() (err error) {
		l, err = (&net.ListenConfig{Control: shared}).Listen(t.Context(), "tcp", at.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan netip.AddrPort, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			accepted <- c.RemoteAddr().(*net.TCPAddr).AddrPort()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return accepted
}

// dial opens a TCP connection from one endpoint to another and keeps it to the
// test's end. The error is nil, ECONNREFUSED, or about the time-out.
func dial(t *testing.T, h *netns.Host, from, to netip.AddrPort, timeout time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return h.Do(func() error {
		c, err := (&net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from), Control: shared}).DialContext(ctx, "tcp", to.String())
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
		}
		return err
	})
}

// dialed is dial when it must work; it returns the endpoint that the listener saw.
func dialed(t *testing.T, h *netns.Host, from, to netip.AddrPort, peers <-chan netip.AddrPort) netip.AddrPort {
	t.Helper()
	if err := dial(t, h, from, to, patience); err != nil {
		t.Fatal(err)
	}
	return <-peers
}

// at is an endpoint on the host's i-th address.
func at(h *netns.Host, i int, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(h.Addrs()[i], port)
}

// mapping names the mapping of RFC 4787 section 4.1 by what a remote endpoint,
// another port there, and another remote saw of one inside endpoint.
func mapping(first, otherPort, otherAddress netip.AddrPort) string {
	switch {
	case first == otherPort && first == otherAddress:
		return "EIM"
	case first == otherPort:
		return "ADM"
	default:
		return "APDM"
	}
}

// ports names the choice of ports (section 4.2) by what three remotes saw.
func ports(inside uint16, seen ...netip.AddrPort) string {
	preserved, sequential := true, true
	for i, s := range seen {
		preserved = preserved && s.Port() == inside
		sequential = sequential && i > 0 == (i > 0 && s.Port() == seen[i-1].Port()+1)
	}
	switch {
	case preserved:
		return "preserved"
	case sequential:
		return "sequential"
	default:
		return "random"
	}
}

// filtering names the filter (section 5) by which of two strangers got in.
func filtering(heard []string) string {
	switch fmt.Sprint(heard) {
	case "[other port other address]":
		return "EIF"
	case "[other port]":
		return "ADF"
	case "[]":
		return "APDF"
	default:
		return fmt.Sprintf("heard %q", heard)
	}
}
