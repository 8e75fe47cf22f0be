package mdns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"

	"github.com/libp2p/go-reuseport"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// port is the UDP port of multicast DNS (RFC 6762 section 3).
const port = 5353

func group4() *net.UDPAddr { return &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: port} }
func group6() *net.UDPAddr { return &net.UDPAddr{IP: net.ParseIP("ff02::fb"), Port: port} }

// sockets are the multicast sockets of the machine, one an address family; either may be missing.
type sockets struct {
	wanted []string // names of interfaces; none for all that can do multicast
	ip4    *ipv4.PacketConn
	ip6    *ipv6.PacketConn

	mu     sync.Mutex
	ifaces map[int]net.Interface // those joined, by index
}

// openSockets opens the sockets; it joins nothing yet.
func openSockets(wanted []string) (*sockets, error) {
	s := &sockets{wanted: wanted, ifaces: make(map[int]net.Interface)}
	// Other mDNS responders of the machine use the same port.
	config := net.ListenConfig{Control: reuseport.Control}
	// For a multicast address the net package binds the wildcard address.
	conn4, err4 := config.ListenPacket(context.Background(), "udp4", group4().String())
	if err4 == nil {
		s.ip4 = ipv4.NewPacketConn(conn4)
		err4 = errors.Join(s.ip4.SetMulticastTTL(255), s.ip4.SetMulticastLoopback(true))
	}
	conn6, err6 := config.ListenPacket(context.Background(), "udp6", group6().String())
	if err6 == nil {
		s.ip6 = ipv6.NewPacketConn(conn6)
		err6 = errors.Join(s.ip6.SetMulticastHopLimit(255), s.ip6.SetMulticastLoopback(true))
	}
	if err4 != nil && err6 != nil {
		return nil, errors.Join(err4, err6, s.close())
	}
	// Where the system cannot tell to which interface and group a packet came, all are taken.
	if s.ip4 != nil && runtime.GOOS != "windows" {
		err4 = s.ip4.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true)
	}
	if s.ip6 != nil && runtime.GOOS != "windows" {
		err6 = s.ip6.SetControlMessage(ipv6.FlagInterface|ipv6.FlagDst, true)
	}
	if s.ip4 != nil && err4 != nil || s.ip6 != nil && err6 != nil {
		return nil, errors.Join(err4, err6, s.close())
	}
	return s, nil
}

func (s *sockets) close() error {
	var err error
	if s.ip4 != nil {
		err = s.ip4.Close()
	}
	if s.ip6 != nil {
		err = errors.Join(err, s.ip6.Close())
	}
	return err
}

// refresh joins the interfaces that have come and leaves those that have gone. It reports whether
// there are new ones.
func (s *sockets) refresh() (grown bool, err error) {
	list, err := s.list()
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	current := make(map[int]net.Interface, len(list))
	for _, iface := range list {
		_, known := s.ifaces[iface.Index]
		if known || s.join(&iface) {
			current[iface.Index] = iface
			grown = grown || !known
		}
	}
	for index, iface := range s.ifaces {
		if _, stays := current[index]; !stays {
			s.leave(&iface)
		}
	}
	s.ifaces = current
	return grown, nil
}

// list returns the interfaces that are wanted and up. Without a wish these are all that can do multicast,
// or, on a machine that has none, the loopback one.
func (s *sockets) list() ([]net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	named := make(map[string]net.Interface, len(all))
	var multicast, loopback []net.Interface
	for _, iface := range all {
		if iface.Flags&net.FlagUp == 0 {
			continue
		}
		named[iface.Name] = iface
		switch {
		case iface.Flags&net.FlagMulticast != 0:
			multicast = append(multicast, iface)
		case iface.Flags&net.FlagLoopback != 0:
			loopback = append(loopback, iface)
		}
	}
	var chosen []net.Interface
	for _, name := range s.wanted {
		if iface, ok := named[name]; ok {
			chosen = append(chosen, iface)
		}
	}
	switch {
	case len(s.wanted) > 0:
		return chosen, nil
	case len(multicast) > 0:
		return multicast, nil
	}
	return loopback, nil
}

// join reports whether the group could be joined in at least one family.
func (s *sockets) join(iface *net.Interface) bool {
	ok4 := s.ip4 != nil && s.ip4.JoinGroup(iface, group4()) == nil
	ok6 := s.ip6 != nil && s.ip6.JoinGroup(iface, group6()) == nil
	return ok4 || ok6
}

// leave ignores errors: an interface that is gone has left already.
func (s *sockets) leave(iface *net.Interface) {
	if s.ip4 != nil {
		_ = s.ip4.LeaveGroup(iface, group4())
	}
	if s.ip6 != nil {
		_ = s.ip6.LeaveGroup(iface, group6())
	}
}

// joined reports whether the interface of that index is one of ours, and whether it is a loopback one.
func (s *sockets) joined(index int) (ok, loopback bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	iface, ok := s.ifaces[index]
	return ok, iface.Flags&net.FlagLoopback != 0
}

// send sends packets to a link or to all. Errors of single links are ignored: an interface without
// an address in a family, or one that is just going down, must not silence the others.
func (s *sockets) send(to link, packets [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for index, iface := range s.ifaces {
		for _, packet := range packets {
			if s.ip4 != nil && to.covers(link{index, false}) {
				s.send4(&iface, packet)
			}
			if s.ip6 != nil && to.covers(link{index, true}) {
				s.send6(&iface, packet)
			}
		}
	}
}

func (s *sockets) send4(iface *net.Interface, packet []byte) {
	control := &ipv4.ControlMessage{IfIndex: iface.Index}
	if iface.Flags&net.FlagLoopback != 0 {
		// The system would rather take the address of another interface.
		control.Src = net.IPv4(127, 0, 0, 1)
	}
	if runtime.GOOS == "windows" { // knows no control messages
		control = nil
		if s.ip4.SetMulticastInterface(iface) != nil {
			return
		}
	}
	_, _ = s.ip4.WriteTo(packet, control, group4())
}

func (s *sockets) send6(iface *net.Interface, packet []byte) {
	control := &ipv6.ControlMessage{IfIndex: iface.Index}
	if runtime.GOOS == "windows" {
		control = nil
		if s.ip6.SetMulticastInterface(iface) != nil {
			return
		}
	}
	_, _ = s.ip6.WriteTo(packet, control, group6())
}

// received is a packet and where it came from.
type received struct {
	on       link
	loopback bool // it came by a loopback interface
	from     netip.Addr
	data     []byte
}

// receive4 waits for a packet to the group on one of our interfaces. ok is false if the packet in buf is
// none of ours.
func (s *sockets) receive4(buf []byte) (r received, ok bool, err error) {
	n, control, src, err := s.ip4.ReadFrom(buf)
	if err != nil {
		return r, false, err
	}
	r = received{from: ipOf(src), data: buf[:n]}
	if control == nil {
		return r, true, nil
	}
	// A system with several sockets hands each the packets of groups that another one joined.
	r.on.iface = control.IfIndex
	ok, r.loopback = s.joined(control.IfIndex)
	return r, ok && control.Dst.Equal(group4().IP), nil
}

// receive6 does the same for IPv6.
func (s *sockets) receive6(buf []byte) (r received, ok bool, err error) {
	n, control, src, err := s.ip6.ReadFrom(buf)
	if err != nil {
		return r, false, err
	}
	r = received{from: ipOf(src), data: buf[:n], on: link{ip6: true}}
	if control == nil {
		return r, true, nil
	}
	r.on.iface = control.IfIndex
	ok, r.loopback = s.joined(control.IfIndex)
	return r, ok && control.Dst.Equal(group6().IP), nil
}

func ipOf(a net.Addr) netip.Addr {
	if udp, ok := a.(*net.UDPAddr); ok {
		return udp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// localIPs returns the addresses of all interfaces of the machine.
func localIPs() ([]netip.Addr, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list addresses of interfaces: %w", err)
	}
	var ips []netip.Addr
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			ips = append(ips, prefix.Addr().Unmap())
		}
	}
	return ips, nil
}
