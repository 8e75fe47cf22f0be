package host

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// quicHost is a host with one listener.
func quicHost(t *testing.T) *Node {
	t.Helper()
	return loopback(t, Config{Transports: []Transport{QUIC}, Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}})
}

// connOf waits for a connection with p.
func connOf(t *testing.T, n *Node, p peer.ID) network.Conn {
	t.Helper()
	changed, stop := n.Changes(p)
	defer stop()
	for {
		if conns := n.Conns(p); len(conns) > 0 {
			return conns[0]
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("no connection")
		}
	}
}

// udpSocket is a socket on a free port of the loopback interface.
func udpSocket(t *testing.T, n *Node) net.PacketConn {
	t.Helper()
	c, err := n.ListenUDP(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestConnectionsOfSingleSockets: two hosts connect from sockets that are no listener
// of theirs. The connection is one of each host's, later dials leave from the listener,
// others are not let in, and the sockets end with the connection.
func TestConnectionsOfSingleSockets(t *testing.T) {
	a, b, other := quicHost(t), quicHost(t), quicHost(t)
	atA, atB := udpSocket(t, a), udpSocket(t, b)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	accepted := make(chan error, 1)
	go func() { accepted <- b.AcceptOn(ctx, atB, a.ID()) }()
	to := atB.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := a.DialFrom(ctx, atA, b.ID(), to); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	ca, cb := connOf(t, a, b.ID()), connOf(t, b, a.ID())
	local, _ := addr.UDP(ca.LocalMultiaddr())
	seen, _ := addr.UDP(cb.RemoteMultiaddr())
	if want := atA.LocalAddr().(*net.UDPAddr).AddrPort(); local.Port() != want.Port() || seen != want {
		t.Errorf("connected from %s, seen at %s, want %s", local, seen, want)
	}
	st, err := a.NewStream(ctx, b.ID(), "/ipfs/ping/1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	_ = st.Reset()

	if c, err := other.DialAddr(ctx, b.ID(), ma.StringCast(fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", to.Addr(), to.Port()))); err == nil {
		if _, err := c.AcceptStream(); err == nil {
			t.Error("somebody else got in")
		}
	}
	if _, err := b.Dial(ctx, other.ID(), other.ListenAddrs()); err != nil {
		t.Fatal(err)
	}
	if c := connOf(t, b, other.ID()); !b.ListensAt(c.LocalMultiaddr()) {
		t.Errorf("a later dial left from %s", c.LocalMultiaddr())
	}

	if err := ca.Close(); err != nil {
		t.Error(err)
	}
	for _, at := range []net.PacketConn{atA, atB} {
		for free := false; !free; {
			c, err := net.ListenPacket("udp4", at.LocalAddr().String())
			if free = err == nil; free {
				_ = c.Close()
			} else if ctx.Err() != nil {
				t.Fatalf("%s is still open", at.LocalAddr())
			}
		}
	}
}

// TestNobodyComes: a socket that was to take a connection is closed when time is up.
func TestNobodyComes(t *testing.T) {
	n := quicHost(t)
	at := udpSocket(t, n)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := n.AcceptOn(ctx, at, peer.ID("nobody")); err == nil {
		t.Error("somebody came")
	}
	c, err := net.ListenPacket("udp4", at.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// TestSharedSocketsHaveManyReaders: everybody who reads at a QUIC socket gets each
// datagram, and those that go leave the others alone.
func TestSharedSocketsHaveManyReaders(t *testing.T) {
	n := quicHost(t)
	var readers []net.PacketConn
	for range 3 {
		c, err := n.SharedUDP()
		if err != nil || len(c) != 1 {
			t.Fatalf("%d sockets, %v", len(c), err)
		}
		readers = append(readers, c[0])
	}
	from := udpSocket(t, n)
	for left := len(readers); left > 0; left-- {
		if _, err := from.WriteTo([]byte{1, byte(left)}, readers[0].LocalAddr()); err != nil {
			t.Fatal(err)
		}
		for i, r := range readers[:left] {
			buf := make([]byte, 10)
			got, at, err := r.ReadFrom(buf)
			if err != nil || got != 2 || buf[1] != byte(left) || at.String() != from.LocalAddr().String() {
				t.Errorf("reader %d: %v from %v, %v", i, buf[:got], at, err)
			}
		}
		if err := readers[left-1].Close(); err != nil {
			t.Error(err)
		}
		if _, _, err := readers[left-1].ReadFrom(nil); err == nil {
			t.Error("read after Close")
		}
	}
	if _, err := n.SharedUDP(); err != nil {
		t.Errorf("after the last had closed: %v", err)
	}
}
