package natlab

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// sent is one packet from inside in the model's memory.
type sent struct {
	at                time.Time
	src, dst, visible netip.AddrPort
}

// model predicts a NAT from the list of all packets that went out, in the words
// of RFC 4787 and with no table.
type model struct {
	nat     NAT
	timeout time.Duration
	log     []sent
}

// current returns the packets of a mapping that is alive: no gap since its first
// packet, nor until now, is as long as the time-out.
func (m *model) current(now time.Time, belongs func(sent) bool) []sent {
	var run []sent
	for _, s := range m.log {
		if !belongs(s) {
			continue
		}
		if len(run) > 0 && s.at.Sub(run[len(run)-1].at) >= m.timeout {
			run = nil
		}
		run = append(run, s)
	}
	if len(run) > 0 && now.Sub(run[len(run)-1].at) >= m.timeout {
		return nil
	}
	return run
}

// sameMapping reports whether RFC 4787 section 4.1 has a packet from src to dst
// reuse the mapping of s.
func (m *model) sameMapping(s sent, src, dst netip.AddrPort) bool {
	if s.src != src {
		return false
	}
	switch m.nat.Mapping {
	case EndpointIndependent:
		return true
	case AddressDependent:
		return s.dst.Addr() == dst.Addr()
	default:
		return s.dst == dst
	}
}

// admits reports whether section 5 lets a packet of from in because of s.
func (m *model) admits(s sent, from netip.AddrPort) bool {
	switch m.nat.Filtering {
	case EndpointIndependent:
		return true
	case AddressDependent:
		return s.dst.Addr() == from.Addr()
	default:
		return s.dst == from
	}
}

// TestTableAgreesWithModel sends random packets in both directions at random
// times and asks the model about each.
func TestTableAgreesWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := NAT{
			Mapping:   rapid.SampledFrom([]Dependence{EndpointIndependent, AddressDependent, AddressAndPortDependent}).Draw(t, "mapping"),
			Filtering: rapid.SampledFrom([]Dependence{EndpointIndependent, AddressDependent, AddressAndPortDependent}).Draw(t, "filtering"),
			Ports:     rapid.SampledFrom([]Ports{Preserved, Sequential, Random}).Draw(t, "ports"),
			Timeout:   10 * time.Second,
			// A poisoned NAT is no longer that of RFC 4787; TestUnsolicited has it.
			Unsolicited: rapid.SampledFrom([]Unsolicited{Drop, Reject}).Draw(t, "unsolicited"),
		}
		table := NewTable(n, external, rapid.Uint64().Draw(t, "seed"))
		m := &model{nat: n, timeout: n.Timeout}
		inside := rapid.SampledFrom([]netip.AddrPort{endpoint("10.0.1.2:4001"), endpoint("10.0.1.2:4002"), endpoint("10.0.1.3:4001")})
		outside := rapid.SampledFrom([]netip.AddrPort{endpoint("17.0.8.1:1"), endpoint("17.0.8.1:2"), endpoint("17.0.9.1:1")})
		now := epoch
		t.Repeat(map[string]func(*rapid.T){
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 12).Draw(t, "seconds")) * time.Second)
			},
			"out": func(t *rapid.T) {
				m.checkOut(t, table, now, inside.Draw(t, "from"), outside.Draw(t, "to"))
			},
			"in": func(t *rapid.T) {
				if len(m.log) > 0 {
					m.checkIn(t, table, now, outside.Draw(t, "from"), rapid.SampledFrom(m.log).Draw(t, "towards").visible)
				}
			},
		})
	})
}

// checkOut sends from inside: a living mapping keeps its endpoint, a new one
// gets a port that no living mapping has.
func (m *model) checkOut(t *rapid.T, table *Table, now time.Time, src, dst netip.AddrPort) {
	visible := out(t, table, now, src, dst)
	mine := func(s sent) bool { return m.sameMapping(s, src, dst) }
	if run := m.current(now, mine); run != nil && run[0].visible != visible {
		t.Fatalf("%s to %s: seen as %s, its mapping is %s", src, dst, visible, run[0].visible)
	}
	others := func(s sent) bool { return s.visible == visible && !mine(s) }
	if run := m.current(now, others); run != nil {
		t.Fatalf("%s to %s: seen as %s, which belongs to %s", src, dst, visible, run[0].src)
	}
	m.log = append(m.log, sent{now, src, dst, visible})
}

// checkIn sends from outside: it gets in, to the mapping's owner, when the mapping
// lives and has lately sent to somebody who covers the sender.
func (m *model) checkIn(t *rapid.T, table *Table, now time.Time, from, to netip.AddrPort) {
	var owner netip.AddrPort
	// Packets of different mappings that had the endpoint one after the other
	// are told apart by their owners: a run belongs to one mapping.
	for _, s := range m.log {
		if s.visible != to {
			continue
		}
		run := m.current(now, func(o sent) bool { return o.visible == to && m.sameMapping(o, s.src, s.dst) })
		for _, o := range run {
			if m.admits(o, from) && now.Sub(o.at) < m.timeout {
				owner = o.src
			}
		}
	}
	want := Passed
	if !owner.IsValid() {
		want = map[Unsolicited]Verdict{Drop: Dropped, Reject: Rejected}[m.nat.Unsolicited]
	}
	if got, verdict := table.Inbound(now, from, to); verdict != want || got != owner {
		t.Fatalf("%s to %s: %s to %v, want %s to %v", from, to, verdict, got, want, owner)
	}
}

// TestFirewallAgreesWithLog: a packet gets in exactly when its destination sent
// to somebody who covers its source within the time-out.
func TestFirewallAgreesWithLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fw := Firewall{
			Filtering: rapid.SampledFrom([]Dependence{EndpointIndependent, AddressDependent, AddressAndPortDependent}).Draw(t, "filtering"),
			Timeout:   10 * time.Second,
		}
		state, m := newFilter(fw), &model{nat: NAT{Filtering: fw.Filtering}}
		inside := rapid.SampledFrom([]netip.AddrPort{endpoint("[3fff:1::2]:1"), endpoint("[3fff:1::2]:2")})
		outside := rapid.SampledFrom([]netip.AddrPort{endpoint("[3fff:2::2]:1"), endpoint("[3fff:2::2]:2"), endpoint("[3fff:3::2]:1")})
		now := epoch
		t.Repeat(map[string]func(*rapid.T){
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 12).Draw(t, "seconds")) * time.Second)
			},
			"out": func(t *rapid.T) {
				s := sent{at: now, src: inside.Draw(t, "from"), dst: outside.Draw(t, "to")}
				if visible, verdict := state.Outbound(now, s.src, s.dst); verdict != Passed || visible != s.src {
					t.Fatalf("%s to %s: %s as %s", s.src, s.dst, verdict, visible)
				}
				m.log = append(m.log, s)
			},
			"in": func(t *rapid.T) {
				from, to := outside.Draw(t, "from"), inside.Draw(t, "to")
				want := Dropped
				for _, s := range m.log {
					if s.src == to && m.admits(s, from) && now.Sub(s.at) < fw.Timeout {
						want = Passed
					}
				}
				if _, verdict := state.Inbound(now, from, to); verdict != want {
					t.Fatalf("%s to %s: %s, want %s", from, to, verdict, want)
				}
			},
		})
	})
}
