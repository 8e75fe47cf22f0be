package host

import (
	"net/netip"
	"sync"
)

// maxContacts is how many addresses are remembered. Above that all count as written to.
const maxContacts = 4096

// contacts are the addresses that were written to by UDP from the node's own ports: a
// filter may let them in for hours.
type contacts struct {
	mu   sync.Mutex // guards following
	done map[netip.Addr]bool
}

// Contact notes that something is sent to an address by UDP from the node's ports.
func (n *Node) Contact(ip netip.Addr) {
	n.contacts.mu.Lock()
	defer n.contacts.mu.Unlock()
	if n.contacts.done == nil {
		n.contacts.done = make(map[netip.Addr]bool)
	}
	if len(n.contacts.done) < maxContacts {
		n.contacts.done[ip] = true
	}
}

// Contacted reports whether [Node.Contact] was told of an address: a filter may let it in
// for that alone.
func (n *Node) Contacted(ip netip.Addr) bool {
	n.contacts.mu.Lock()
	defer n.contacts.mu.Unlock()
	return n.contacts.done[ip] || len(n.contacts.done) == maxContacts
}
