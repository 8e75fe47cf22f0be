package natlab

import (
	"fmt"
	"net/netip"
)

// Dependence says how much of the remote endpoint a NAT's decision depends on.
type Dependence int

// The three dependences of RFC 4787 sections 4.1 and 5.
const (
	EndpointIndependent Dependence = iota
	AddressDependent
	AddressAndPortDependent
)

// String is the RFC's abbreviation without its last letter: EI, AD or APD.
func (d Dependence) String() string {
	return name(int(d), "EI", "AD", "APD")
}

// key keeps the part of the remote that d depends on.
func (d Dependence) key(remote netip.AddrPort) netip.AddrPort {
	switch d {
	case AddressDependent:
		return netip.AddrPortFrom(remote.Addr(), 0)
	case AddressAndPortDependent:
		return remote
	default:
		return netip.AddrPort{}
	}
}

// Ports says how a NAT chooses external ports (RFC 4787 section 4.2).
type Ports int

// The ways to choose a port.
const (
	Preserved  Ports = iota // the inside port, or the next free one above it
	Sequential              // the next free one above the last given out
	Random                  // any free one
)

// String is the way's name in lower case.
func (p Ports) String() string { return name(int(p), "preserved", "sequential", "random") }

// Unsolicited says what a NAT does with packets from outside that nobody inside
// asked for.
type Unsolicited int

// The policies for unsolicited packets.
const (
	Drop   Unsolicited = iota // forget them
	Reject                    // answer with ICMP port unreachable, which an unconnected UDP socket does not notice, or with a TCP reset
	Poison                    // take them for the router's own, as Linux does without an input filter: nothing listens there, so they are answered like rejected ones, and the connection tracking entry of a UDP packet moves a later session with that remote to another port
)

// String is the policy's name in lower case.
func (u Unsolicited) String() string { return name(int(u), "drop", "reject", "poison") }

// Verdict is what became of a packet at a NAT or firewall.
type Verdict int

// The verdicts.
const (
	Passed    Verdict = iota // let through
	Dropped                  // not let in, silently
	Rejected                 // not let in, and the sender was told
	Poisoned                 // not let in, the sender was told, and it is remembered (see Poison)
	Exhausted                // not let out: no external port is free
)

// String is the verdict's name in lower case.
func (v Verdict) String() string {
	return name(int(v), "passed", "dropped", "rejected", "poisoned", "exhausted")
}

// Kinds returns the nine combinations of mapping and filtering, with ports
// chosen in the given way.
func Kinds(p Ports) []NAT {
	dependences := []Dependence{EndpointIndependent, AddressDependent, AddressAndPortDependent}
	var all []NAT
	for _, m := range dependences {
		for _, f := range dependences {
			all = append(all, NAT{Mapping: m, Filtering: f, Ports: p})
		}
	}
	return all
}

// Grid returns the six kinds whose pairs are the measure of hole punching, from the
// easiest to the hardest. A mapping that does not depend on the remote keeps the
// port, as home routers do; of the others the address-dependent one is as hard as
// it gets.
func Grid() []NAT {
	return []NAT{
		{Mapping: EndpointIndependent, Filtering: EndpointIndependent},
		{Mapping: EndpointIndependent, Filtering: AddressDependent},
		{Mapping: EndpointIndependent, Filtering: AddressAndPortDependent},
		{Mapping: AddressDependent, Filtering: AddressDependent, Ports: Random},
		{Mapping: AddressAndPortDependent, Filtering: AddressAndPortDependent, Ports: Sequential},
		{Mapping: AddressAndPortDependent, Filtering: AddressAndPortDependent, Ports: Random},
	}
}

// name picks the i-th name; a value that no constant has is shown as a number.
func name(i int, names ...string) string {
	if i < 0 || i >= len(names) {
		return fmt.Sprintf("unknown(%d)", i)
	}
	return names[i]
}
