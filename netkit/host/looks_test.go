package host

import (
	"net/netip"
	"testing"
)

// TestContactsAreBounded: an address counts as written to only if it was, by the same
// transport, until so many were that not all are remembered.
func TestContactsAreBounded(t *testing.T) {
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{17, 0, byte(i >> 8), byte(i)}) }
	var n Node
	n.Contact("udp", at(1))
	if !n.Contacted("udp", at(1)) || n.Contacted("tcp", at(1)) || n.Contacted("udp", at(2)) {
		t.Error("not what was written to")
	}
	for i := range 2 * maxContacts {
		n.Contact("tcp", at(i))
	}
	if len(n.looks.contacts) != maxContacts || !n.Contacted("udp", at(2)) {
		t.Errorf("%d contacts, and a stranger where all are counted: %v", len(n.looks.contacts), !n.Contacted("udp", at(2)))
	}
}
