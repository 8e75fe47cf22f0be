package natlab

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// DefaultTimeout is the lifetime of mappings and of firewall state whose
// configuration names none: the shortest that RFC 4787 REQ-5 allows.
const DefaultTimeout = 2 * time.Minute

// NAT describes a network address translator. The zero value is the most
// permissive one: endpoint-independent mapping and filtering, ports preserved.
type NAT struct {
	Mapping   Dependence // how much of the remote endpoint picks the mapping (RFC 4787 section 4.1)
	Filtering Dependence // which remotes may answer through a mapping (RFC 4787 section 5)
	Ports     Ports      // how external ports are chosen (RFC 4787 section 4.2)

	// Timeout is how long a mapping lives after the last packet from inside;
	// 0 means DefaultTimeout.
	Timeout time.Duration
	// InboundRefresh makes packets from outside keep a mapping alive too
	// (RFC 4787 REQ-6 leaves it open).
	InboundRefresh bool
	// Hairpin lets machines behind the NAT reach each other by external
	// addresses (RFC 4787 REQ-9).
	Hairpin bool
	// Unsolicited is what happens to packets from outside that no mapping or
	// filter lets in.
	Unsolicited Unsolicited
}

// String names mapping and filtering, and the choice of ports where they are not
// preserved: "EIM/APDF", "APDM/APDF random".
func (n NAT) String() string {
	s := n.Mapping.String() + "M/" + n.Filtering.String() + "F"
	if n.Ports != Preserved {
		s += " " + n.Ports.String()
	}
	return s
}

// flow is what a mapping is looked up by: the inside endpoint and the part of
// the remote that the mapping depends on.
type flow struct{ inner, remote netip.AddrPort }

// mapping binds an inside endpoint to an external port.
type mapping struct {
	flow    flow
	port    uint16
	used    time.Time                    // last packet that refreshes
	permits map[netip.AddrPort]time.Time // by filtering key: last packet to that remote
}

// intruder is an unsolicited packet's trace in a NAT that accepts such packets.
type intruder struct {
	remote netip.AddrPort
	port   uint16
}

// Table is the state of one NAT for one protocol and one external address. It
// does no I/O; every method is told the time, which must not run backwards.
// It is not safe for concurrent use.
type Table struct {
	nat       NAT
	external  netip.Addr
	ports     allocator
	flows     map[flow]*mapping
	byPort    map[uint16]*mapping
	intruders map[intruder]time.Time
}

// NewTable returns the empty table of a NAT with the given external address.
// Equal seeds give equal random ports.
func NewTable(n NAT, external netip.Addr, seed uint64) *Table {
	if n.Timeout == 0 {
		n.Timeout = DefaultTimeout
	}
	return &Table{
		nat:       n,
		external:  external,
		ports:     allocator{kind: n.Ports, next: firstSequential, rng: rand.New(rand.NewPCG(seed, 0))},
		flows:     map[flow]*mapping{},
		byPort:    map[uint16]*mapping{},
		intruders: map[intruder]time.Time{},
	}
}

// Outbound translates the source of a packet from inside, making or refreshing
// its mapping. The verdict is Passed or Exhausted.
func (t *Table) Outbound(now time.Time, src, dst netip.AddrPort) (netip.AddrPort, Verdict) {
	m := t.mappingFor(now, src, dst)
	if m == nil {
		return netip.AddrPort{}, Exhausted
	}
	m.used = now
	m.permits[t.nat.Filtering.key(dst)] = now
	return netip.AddrPortFrom(t.external, m.port), Passed
}

// Inbound translates the destination of a packet from outside, if it may pass.
func (t *Table) Inbound(now time.Time, src, dst netip.AddrPort) (netip.AddrPort, Verdict) {
	m := t.byPort[dst.Port()]
	key := t.nat.Filtering.key(src)
	if m == nil || !t.live(now, m.used) || !t.live(now, m.permits[key]) {
		return netip.AddrPort{}, t.unsolicited(now, src, dst.Port())
	}
	if t.nat.InboundRefresh {
		m.used, m.permits[key] = now, now
	}
	return m.flow.inner, Passed
}

// mappingFor finds or makes the mapping of a flow; nil when no port is free.
func (t *Table) mappingFor(now time.Time, src, dst netip.AddrPort) *mapping {
	exact := flow{src, dst}
	if m := t.flows[exact]; m != nil && t.live(now, m.used) {
		return m
	}
	base := flow{src, t.nat.Mapping.key(dst)}
	m := t.flows[base]
	if m == nil || !t.live(now, m.used) {
		if m = t.add(now, base); m == nil {
			return nil
		}
	}
	if !t.taken(now, dst, m.port) {
		return m
	}
	// Linux conntrack keeps replies apart by their whole tuple: the entry that
	// the intruder left owns (remote, port), so this one session moves to
	// another port while the mapping serves every other remote.
	return t.add(now, exact)
}

// add makes a mapping on a port of the allocator's choice.
func (t *Table) add(now time.Time, f flow) *mapping {
	port, ok := t.ports.pick(f.inner.Port(), func(p uint16) bool {
		m := t.byPort[p]
		return m == nil || !t.live(now, m.used)
	})
	if !ok {
		return nil
	}
	if stale := t.byPort[port]; stale != nil {
		t.remove(stale)
	}
	if old := t.flows[f]; old != nil {
		t.remove(old)
	}
	m := &mapping{flow: f, port: port, used: now, permits: map[netip.AddrPort]time.Time{}}
	t.flows[f], t.byPort[port] = m, m
	return m
}

func (t *Table) remove(m *mapping) {
	delete(t.byPort, m.port)
	delete(t.flows, m.flow)
}

// unsolicited applies the NAT's policy to a packet that may not pass.
func (t *Table) unsolicited(now time.Time, src netip.AddrPort, port uint16) Verdict {
	switch t.nat.Unsolicited {
	case Reject:
		return Rejected
	case Poison:
		t.intruders[intruder{src, port}] = now
		return Poisoned
	default:
		return Dropped
	}
}

// taken reports whether an intruder's packet holds the port against the remote.
func (t *Table) taken(now time.Time, remote netip.AddrPort, port uint16) bool {
	return t.live(now, t.intruders[intruder{remote, port}])
}

// live reports whether state last used at that time is still there.
func (t *Table) live(now, used time.Time) bool {
	return !used.IsZero() && now.Sub(used) < t.nat.Timeout
}
