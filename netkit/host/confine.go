package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-reuseport"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// ErrInterface means that a host cannot be confined to Config.Interface: there is no such interface, it is
// without an address to listen on, a listen address is not one of its own, a transport opens sockets that
// cannot be bound to it, or the system cannot bind sockets to interfaces.
var ErrInterface = errors.New("cannot keep to the interface")

// confinedTransports are the transports whose sockets can be bound to an interface.
func confinedTransports() []Transport { return []Transport{QUIC, WebTransport, TCP} }

// device is the interface that all sockets of a host are bound to. The route to a
// destination is then looked up among those of the interface, and what arrives at
// another one is not for these sockets, whatever the machine's routes become later.
type device struct {
	name string
	ips  []netip.Addr // when the host was started
}

// newDevice looks up the interface of a name.
func newDevice(name string) (*device, error) {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrInterface, name, err)
	}
	own, err := iface.Addrs()
	if err != nil {
		return nil, fmt.Errorf("%w %q: its addresses: %w", ErrInterface, name, err)
	}
	d := &device{name: name}
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil { // what is no prefix is no IP address
			d.ips = append(d.ips, p.Addr().Unmap())
		}
	}
	return d, nil
}

// confine has every socket of c bound to its interface, and listens at the addresses
// of the interface only.
func (c *Config) confine() error {
	d, err := newDevice(c.Interface)
	if err != nil {
		return err
	}
	for _, t := range c.Transports {
		if !slices.Contains(confinedTransports(), t) {
			return fmt.Errorf("%w %q: the library gives no way to bind the sockets of %s", ErrInterface, d.name, t)
		}
	}
	if c.Listen, err = d.listen(c.Listen); err != nil {
		return err
	}
	c.device, c.Sockets = d, d
	return nil
}

// listen replaces wildcard addresses by those of the interface. A wildcard of a
// family that the interface is without goes, unless none is left.
func (d *device) listen(listen []ma.Multiaddr) ([]ma.Multiaddr, error) {
	var out []ma.Multiaddr
	for _, a := range listen {
		at, ok := addr.IP(a)
		if !ok || !at.IsUnspecified() {
			if !ok || !slices.Contains(d.ips, at) {
				return nil, fmt.Errorf("%w %q: %s is not at one of its addresses", ErrInterface, d.name, a)
			}
			out = append(out, a)
			continue
		}
		for _, ip := range d.ips {
			if ip.Is4() != at.Is4() || ip.IsLinkLocalUnicast() {
				continue // a link-local address means nothing without its interface
			}
			concrete, err := manet.FromIP(ip.AsSlice())
			if err != nil {
				return nil, fmt.Errorf("address %s of %s: %w", ip, d.name, err)
			}
			_, rest := ma.SplitFirst(a)
			out = append(out, append(slices.Clone(concrete), rest...))
		}
	}
	if len(out) == 0 && len(listen) > 0 {
		return nil, fmt.Errorf("%w %q: it has no address to listen on", ErrInterface, d.name)
	}
	return out, nil
}

// Addrs implements Sockets.
func (d *device) Addrs() []netip.Addr { return d.ips }

// ListenUDP implements Sockets.
func (d *device) ListenUDP(network string, laddr *net.UDPAddr) (net.PacketConn, error) {
	config := net.ListenConfig{Control: d.control}
	return config.ListenPacket(context.Background(), network, laddr.String())
}

// SourceIP implements Sockets. Nothing is sent.
func (d *device) SourceIP(dst *net.UDPAddr) (net.IP, error) {
	dialer := net.Dialer{Control: d.control}
	c, err := dialer.DialContext(context.Background(), "udp", dst.String())
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }() // nothing was written
	local, _ := c.LocalAddr().(*net.UDPAddr)
	return local.IP, nil
}

// control binds a socket before it is used.
func (d *device) control(_, _ string, c syscall.RawConn) error {
	var bound error
	if err := c.Control(func(fd uintptr) { bound = bindToDevice(fd, d.name) }); err != nil {
		return err
	}
	if bound != nil {
		return fmt.Errorf("%w %q: %w", ErrInterface, d.name, bound)
	}
	return nil
}

// sharedPort is control for a TCP port that is listened at and dialled from.
func (d *device) sharedPort(network, address string, c syscall.RawConn) error {
	return errors.Join(reuseport.Control(network, address, c), d.control(network, address, c))
}

// Interface is the network interface that the node keeps to; empty if it uses all.
func (n *Node) Interface() string { return n.cfg.Interface }

// Control binds a socket to Config.Interface, if there is one. It is for the net.Dialer
// and the net.ListenConfig of sockets that are opened beside the node's own. It fails
// with ErrHidden for a hidden node, which has none.
func (n *Node) Control(network, address string, c syscall.RawConn) error {
	if n.Hidden() {
		return ErrHidden
	}
	if n.cfg.device == nil {
		return nil
	}
	return n.cfg.device.control(network, address, c)
}

// confinedTCP is TCP on the sockets of one interface, dialled from the ports listened at, as the library does it.
type confinedTCP struct {
	*tcp.TcpTransport
	on       *device
	upgrader transport.Upgrader

	mu        sync.Mutex // guards listening
	listening []netip.AddrPort
}

func newConfinedTCP(on *device, u transport.Upgrader, rm network.ResourceManager) (*confinedTCP, error) {
	t := &confinedTCP{on: on, upgrader: u}
	var err error
	t.TcpTransport, err = tcp.NewTCPTransport(u, rm, nil, tcp.WithDialerForAddr(func(ma.Multiaddr) (tcp.ContextDialer, error) { return t, nil }))
	return t, err
}

// Listen implements transport.Transport.
func (t *confinedTCP) Listen(laddr ma.Multiaddr) (transport.Listener, error) {
	network, at, err := manet.DialArgs(laddr)
	if err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: t.on.sharedPort}
	l, err := config.Listen(context.Background(), network, at)
	if err != nil {
		return nil, err
	}
	wrapped, err := manet.WrapNetListener(l)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if local, ok := l.Addr().(*net.TCPAddr); ok {
		t.mu.Lock()
		t.listening = append(t.listening, local.AddrPort())
		t.mu.Unlock()
	}
	return t.upgrader.UpgradeGatedMaListener(t, t.upgrader.GateMaListener(wrapped)), nil
}

// DialContext implements tcp.ContextDialer.
func (t *confinedTCP) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	from, err := t.on.SourceIP(net.UDPAddrFromAddrPort(to))
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	i := slices.IndexFunc(t.listening, func(l netip.AddrPort) bool { return from.Equal(l.Addr().AsSlice()) })
	var local netip.AddrPort
	if i >= 0 {
		local = t.listening[i]
	}
	t.mu.Unlock()
	if local.IsValid() {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(local), Control: t.on.sharedPort}
		c, err := d.DialContext(ctx, network, address)
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return c, err
		}
	}
	// The port has a connection with the address already, or nothing is listened at.
	d := net.Dialer{Control: t.on.control}
	return d.DialContext(ctx, network, address)
}
