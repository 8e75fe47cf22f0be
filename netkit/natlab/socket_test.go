package natlab_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"dibber/netkit/natlab"
)

func TestListenErrors(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		m := lab.Internet().Machine("m", natlab.MachineConfig{})
		own := m.Addrs()[0].AsSlice()
		foreign := lab.Internet().Machine("other", natlab.MachineConfig{}).Addrs()[0].AsSlice()
		open(t, m, 1000)
		if _, err := m.ListenUDP("udp4", &net.UDPAddr{IP: own, Port: 2000}); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name, network string
			laddr         *net.UDPAddr
			want          error
		}{
			{"port of a wildcard", "udp4", &net.UDPAddr{IP: own, Port: 1000}, syscall.EADDRINUSE},
			{"wildcard on a port", "udp4", &net.UDPAddr{Port: 2000}, syscall.EADDRINUSE},
			{"same address and port", "udp4", &net.UDPAddr{IP: own, Port: 2000}, syscall.EADDRINUSE},
			{"somebody else's address", "udp4", &net.UDPAddr{IP: foreign, Port: 3000}, syscall.EADDRNOTAVAIL},
			{"loopback, which machines lack", "udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, syscall.EADDRNOTAVAIL},
			{"family that the machine lacks", "udp6", &net.UDPAddr{IP: net.IPv6zero}, syscall.EAFNOSUPPORT},
		} {
			if _, err := m.ListenUDP(c.network, c.laddr); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", c.name, err, c.want)
			}
		}
	})
}

func TestPortZero(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		m := lab.Internet().Machine("m", natlab.MachineConfig{})
		a, b := open(t, m, 0), open(t, m, 0)
		if x, y := a.conn.LocalAddr().String(), b.conn.LocalAddr().String(); x == y {
			t.Errorf("two sockets on %s", x)
		}
	})
}

func TestClosedPortIsFree(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, b, from, to := pair(t, lab, natlab.LinkConfig{})
		for range 2 {
			if err := to.conn.Close(); err != nil {
				t.Fatal(err)
			}
		}
		from.send(at(b, 1000), "to nobody")
		open(t, b, 1000).from()
	})
}

// TestDualStackSocket: a wildcard socket speaks both families, each from the
// machine's address of that family.
func TestDualStackSocket(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		both := natlab.MachineConfig{Families: natlab.DualStack}
		a, b := lab.Internet().Machine("a", both), lab.Internet().Machine("b", both)
		from, to := open(t, a, 1000), open(t, b, 1000)
		for i, addr := range b.Addrs() {
			from.send(netip.AddrPortFrom(addr, 1000), "x")
			if got := to.from(); got.Addr() != a.Addrs()[i] {
				t.Errorf("to %s from %s", addr, got)
			}
		}
	})
}

// TestSeveralAddresses: sockets on different addresses of a machine hear only
// their own packets and send from their own address.
func TestSeveralAddresses(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		a := lab.Internet().Machine("a", natlab.MachineConfig{})
		b := lab.Internet().Machine("b", natlab.MachineConfig{Addresses: 2})
		from, all := open(t, a, 1000), open(t, b, 2000)
		for _, addr := range b.Addrs() {
			on := netip.AddrPortFrom(addr, 1000)
			conn, err := b.ListenUDP("udp4", net.UDPAddrFromAddrPort(on))
			if err != nil {
				t.Fatal(err)
			}
			one := station{t, conn}
			from.send(on, "x")
			one.send(one.from(), "y")
			if got := from.from(); got != on {
				t.Errorf("packet to %s answered from %s", on, got)
			}
			from.send(netip.AddrPortFrom(addr, 2000), "to the wildcard")
			all.from()
		}
	})
}

// TestReaderWakes: a reader that waits sees a deadline set later, and Close.
func TestReaderWakes(t *testing.T) {
	for _, c := range []struct {
		name string
		wake func(net.PacketConn) error
		want error
	}{
		{"read deadline", func(c net.PacketConn) error { return c.SetReadDeadline(time.Now()) }, os.ErrDeadlineExceeded},
		{"both deadlines", func(c net.PacketConn) error { return c.SetDeadline(time.Now()) }, os.ErrDeadlineExceeded},
		{"close", net.PacketConn.Close, net.ErrClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				conn := open(t, lab.Internet().Machine("m", natlab.MachineConfig{}), 1000).conn
				read := make(chan error)
				go func() {
					_, _, err := conn.ReadFrom(make([]byte, 1))
					read <- err
				}()
				time.Sleep(time.Second)
				if err := c.wake(conn); err != nil {
					t.Fatal(err)
				}
				if err := <-read; !errors.Is(err, c.want) {
					t.Errorf("read: %v, want %v", err, c.want)
				}
			})
		})
	}
}

// TestReceiveBuffer: a socket that nobody reads takes some packets and loses the
// rest, and the lab goes on.
func TestReceiveBuffer(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		const sent = 3000
		_, b, from, to := pair(t, lab, natlab.LinkConfig{})
		for range sent {
			from.send(at(b, 1000), "x")
		}
		time.Sleep(time.Second)
		heard := 0
		for got, _ := to.hear(); got != ""; got, _ = to.hear() {
			heard++
		}
		if heard < 1500 || heard == sent {
			t.Errorf("heard %d of %d", heard, sent)
		}
	})
}
