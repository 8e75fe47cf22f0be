package natlab

import (
	"slices"
	"time"
)

// Attach gives the machine's packets to a network stack outside the lab, such as
// that of a network namespace behind a TUN device: receive is called with every
// IP packet for the machine, and what the stack sends goes into the returned
// function, which takes the bytes over. A machine so attached has no sockets of
// the lab's own.
//
// UDP and TCP are carried, and the refusals of both (ICMP port unreachable, TCP
// reset). Everything else is lost, as the trace says: fragments, pings, other
// ICMP. receive must not call the lab.
func (m *Machine) Attach(receive func(raw []byte)) (send func(raw []byte)) {
	m.lab.mu.Lock()
	defer m.lab.mu.Unlock()
	m.stack = receive
	return m.inject
}

// inject puts an IP packet of the attached stack on the machine's link.
func (m *Machine) inject(raw []byte) {
	p, err := parse(raw)
	m.lab.mu.Lock()
	defer m.lab.mu.Unlock()
	now := time.Now()
	switch {
	case err != nil:
		m.lab.note(now, m.name, "not sent: "+err.Error(), p)
	case !p.refusal && !slices.Contains(m.addrs, p.src.Addr()):
		m.lab.note(now, m.name, "lost: not an address of this machine", p)
	default:
		m.lab.note(now, m.name, "sent", p)
		network := m.network
		m.link.cross(now, up, p, func(now time.Time) { network.route(now, p) })
	}
}
