package natlab

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// Families says which addresses a machine has.
type Families int

// The combinations of address families.
const (
	IPv4 Families = iota
	IPv6
	DualStack
)

// MachineConfig describes a machine. The zero value has an IPv4 address.
type MachineConfig struct {
	Families  Families
	Addresses int        // of each family; 0 means 1
	Link      LinkConfig // to the network that the machine stands in
}

// firstEphemeral is where ports that a program leaves to the machine begin
// (RFC 6335 section 6).
const firstEphemeral = 49152

// Machine is a computer with UDP sockets. It stands in for the operating system
// of a host built on it. Wildcard sockets send from its first address of a
// family.
type Machine struct {
	lab  *Lab
	name string
	cfg  MachineConfig
	link *Link

	network *Network // guarded by lab.mu, as the following
	addrs   []netip.Addr
	sockets map[uint16][]*socket // by port
	next    uint16               // ephemeral port to try
	stack   func(raw []byte)     // see Attach; nil for a machine with sockets
	tap     func(Arrival)        // see Tap; nil for none
}

// Machine puts a machine into n.
func (n *Network) Machine(name string, c MachineConfig) *Machine {
	n.lab.t.Helper()
	n.lab.mu.Lock()
	defer n.lab.mu.Unlock()
	m := &Machine{lab: n.lab, name: name, cfg: c, sockets: map[uint16][]*socket{}, next: firstEphemeral}
	m.link = newLink(n, name, c.Link)
	m.join(n)
	n.lab.machines = append(n.lab.machines, m)
	return m
}

// join takes addresses in n. The caller holds lab.mu.
func (m *Machine) join(n *Network) {
	m.lab.t.Helper()
	var all4, all6 []netip.Addr
	for range max(m.cfg.Addresses, 1) {
		v4, v6 := n.assign()
		all4, all6 = append(all4, v4), append(all6, v6)
	}
	switch m.cfg.Families {
	case IPv4:
		all6 = nil
	case IPv6:
		all4 = nil
	case DualStack:
	}
	m.network, m.addrs = n, append(all4, all6...)
	for _, a := range m.addrs {
		if !a.IsValid() {
			m.lab.t.Fatalf("natlab: %s has no IPv6 for %s", n.name, m.name)
		}
		n.machines[a] = m
	}
}

// Move takes the machine to a network, with new addresses even in the one it was
// in. Sockets bound to an old address fall silent, wildcard ones go on with the
// new one. The machine keeps its link.
func (m *Machine) Move(to *Network) {
	m.lab.t.Helper()
	m.lab.mu.Lock()
	defer m.lab.mu.Unlock()
	for _, a := range m.addrs {
		delete(m.network.machines, a)
	}
	m.join(to)
}

// Addrs returns the machine's addresses, IPv4 first.
func (m *Machine) Addrs() []netip.Addr {
	m.lab.mu.Lock()
	defer m.lab.mu.Unlock()
	return slices.Clone(m.addrs)
}

// Link is the machine's link to its network.
func (m *Machine) Link() *Link { return m.link }

// SourceIP is the address from which the machine sends to a destination.
func (m *Machine) SourceIP(dst *net.UDPAddr) (net.IP, error) {
	m.lab.mu.Lock()
	defer m.lab.mu.Unlock()
	a := m.source(addrPort(dst).Addr())
	if !a.IsValid() {
		return nil, fmt.Errorf("source address for %s on %s: %w", dst, m.name, syscall.ENETUNREACH)
	}
	return a.AsSlice(), nil
}

// source is the machine's first address of dst's family, or the zero Addr. The
// caller holds lab.mu.
func (m *Machine) source(dst netip.Addr) netip.Addr {
	for _, a := range m.addrs {
		if a.Is4() == dst.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// Arrival is a packet that came to a machine.
type Arrival struct {
	At       time.Time // virtual
	From, To netip.AddrPort
	Bytes    int // of payload
}

// Tap has every packet that comes to the machine told to f, whether or not anybody there
// is to hear it. f must not call the lab.
func (m *Machine) Tap(f func(Arrival)) {
	m.lab.mu.Lock()
	defer m.lab.mu.Unlock()
	m.tap = f
}

// receive gives a packet to the socket it is for, or to the attached stack. The
// caller holds lab.mu.
func (m *Machine) receive(now time.Time, p packet) {
	if m.tap != nil {
		m.tap(Arrival{now, p.src, p.dst, p.bytes})
	}
	var to *socket
	for _, s := range m.sockets[p.dst.Port()] {
		if s.bound.Addr() == p.dst.Addr() || to == nil && s.hearsAll(p.dst.Addr()) {
			to = s
		}
	}
	switch {
	case !slices.Contains(m.addrs, p.dst.Addr()):
		m.lab.note(now, m.name, "lost: address is gone", p)
	case m.stack != nil && p.raw != nil:
		m.lab.note(now, m.name, "received", p)
		m.stack(p.render())
	case p.refusal:
		m.lab.note(now, m.name, "unnoticed: the socket is not connected", p)
	case to == nil || p.payload == nil:
		m.lab.note(now, m.name, "lost: no socket", p)
	case !to.push(p):
		m.lab.note(now, m.name, "lost: receive buffer is full", p)
	default:
		m.lab.note(now, m.name, "received", p)
	}
}
