package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-reuseport"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// ErrSharedPort means that WebRTC-direct listens on the UDP port of a QUIC
// listener: it reads the datagrams that are not QUIC, and so does whoever uses
// [Node.SharedUDP]; each would take the other's.
var ErrSharedPort = errors.New("webrtc-direct has the UDP port of a quic listener: give it one of its own")

// SharedUDP opens the sockets of the QUIC listeners for datagrams that are not
// QUIC, those whose first byte is without the bit 0x40 (RFC 9000 section 17.2).
// They leave from, and arrive at, the port that the node is reached at. There is
// none without QUIC. Whoever else shares them reads the same datagrams; 256 wait.
// The caller closes them, which leaves the listeners alone. They have no deadlines.
func (n *Node) SharedUDP() ([]net.PacketConn, error) {
	if n.quic == nil {
		return nil, nil
	}
	listening := n.Network().ListenAddresses()
	var out []net.PacketConn
	for _, at := range udpListeners(listening, ma.P_QUIC_V1) {
		if slices.ContainsFunc(udpListeners(listening, ma.P_WEBRTC_DIRECT), func(w netip.AddrPort) bool { return w.Port() == at.Port() }) {
			return nil, errors.Join(ErrSharedPort, closeAll(out))
		}
		c, err := n.shared.join(at, func() (net.PacketConn, error) { return n.nonQUIC(at) })
		if err != nil {
			return nil, errors.Join(fmt.Errorf("share the socket of %s: %w", at, err), closeAll(out))
		}
		out = append(out, c)
	}
	return out, nil
}

// nonQUIC opens the socket of a QUIC listener for the other datagrams. quic-go drops
// those that come before the first read: one that ends at once is done here.
func (n *Node) nonQUIC(at netip.AddrPort) (net.PacketConn, error) {
	first, err := n.quic.SharedNonQUICPacketConn("", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	if err := first.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return nil, errors.Join(err, first.Close())
	}
	_, _, _ = first.ReadFrom(nil) // whatever it says, the next one says again
	if err := first.Close(); err != nil {
		return nil, err
	}
	return n.quic.SharedNonQUICPacketConn("", net.UDPAddrFromAddrPort(at))
}

// udpListeners are the UDP endpoints of those addresses that have a protocol.
func udpListeners(listening []ma.Multiaddr, proto int) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range listening {
		if _, err := a.ValueForProtocol(proto); err != nil || addr.IsRelayed(a) {
			continue
		}
		if at, ok := addr.UDP(a); ok && !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	return out
}

func closeAll(conns []net.PacketConn) error {
	var errs []error
	for _, c := range conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// ListenUDP opens a UDP socket of its own, on the network the node's other sockets
// are on. Port 0 takes a free one. The caller closes it. It fails with ErrHidden for a
// hidden node.
func (n *Node) ListenUDP(at netip.AddrPort) (net.PacketConn, error) {
	if n.Hidden() {
		return nil, fmt.Errorf("open a UDP socket: %w", ErrHidden)
	}
	network := "udp6"
	if at.Addr().Is4() {
		network = "udp4"
	}
	if n.cfg.Sockets != nil {
		return n.cfg.Sockets.ListenUDP(network, net.UDPAddrFromAddrPort(at))
	}
	c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	return c, nil
}

// DialTCP connects to an endpoint from a port that the node listens on by TCP, so
// that a NAT treats it as it treats the node's own connections. It fails where
// no such port listens for the endpoint's family, and with ErrHidden for a hidden
// node. The caller closes it.
func (n *Node) DialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if n.Hidden() {
		return nil, fmt.Errorf("dial tcp %s: %w", to, ErrHidden)
	}
	for _, a := range n.Network().ListenAddresses() {
		at, ok := addr.TCP(a)
		if !ok || at.Addr().Is4() != to.Addr().Is4() || at.Addr().IsLoopback() != to.Addr().IsLoopback() && !at.Addr().IsUnspecified() {
			continue
		}
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(at), Control: reuseport.Control}
		if n.cfg.device != nil {
			d.Control = n.cfg.device.sharedPort
		}
		return d.DialContext(ctx, "tcp", to.String())
	}
	return nil, fmt.Errorf("dial tcp %s: no listener on TCP to dial from", to)
}

// eachAddress replaces the wildcard addresses of QUIC listeners by one for each
// address of the machine.
func eachAddress(listen []ma.Multiaddr) ([]ma.Multiaddr, error) {
	own, err := manet.InterfaceMultiaddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of this machine: %w", err)
	}
	var out []ma.Multiaddr
	for _, a := range listen {
		at, ok := addr.UDP(a)
		if _, err := a.ValueForProtocol(ma.P_QUIC_V1); err != nil || !ok || !at.Addr().IsUnspecified() {
			out = append(out, a)
			continue
		}
		for _, o := range own {
			ip, ok := addr.IP(o)
			if !ok || ip.Is4() != at.Addr().Is4() || ip.IsLinkLocalUnicast() {
				continue // a link-local address means nothing without its interface
			}
			_, rest := ma.SplitFirst(a)
			concrete, err := manet.FromIP(ip.AsSlice())
			if err != nil {
				return nil, fmt.Errorf("address %s of this machine: %w", ip, err)
			}
			out = append(out, append(slices.Clone(concrete), rest...))
		}
	}
	return out, nil
}
