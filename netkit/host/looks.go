package host

import (
	"net/netip"
	"sync"

	"dibber/netkit/nat"
)

// maxContacts is how many addresses are remembered. Above that all count as written to.
const maxContacts = 4096

// looks are what looks at the node from outside have left behind.
type looks struct {
	mu       sync.Mutex // guards following
	contacts map[contact]bool
	last     nat.Families
}

type contact struct {
	transport string
	ip        netip.Addr
}

// Contact notes that something is sent to an address from the node's ports, by udp or
// tcp. A filter may let that address in for hours.
func (n *Node) Contact(transport string, ip netip.Addr) {
	n.looks.mu.Lock()
	defer n.looks.mu.Unlock()
	if n.looks.contacts == nil {
		n.looks.contacts = make(map[contact]bool)
	}
	if len(n.looks.contacts) < maxContacts {
		n.looks.contacts[contact{transport, ip}] = true
	}
}

// Contacted reports whether [Node.Contact] was told of an address: a filter may let it in
// for that alone.
func (n *Node) Contacted(transport string, ip netip.Addr) bool {
	n.looks.mu.Lock()
	defer n.looks.mu.Unlock()
	return n.looks.contacts[contact{transport, ip}] || len(n.looks.contacts) == maxContacts
}

// Looked adds to what a look at the node has found what those before knew, and keeps it
// for the next: whether strangers get in shows only as long as they are strangers.
func (n *Node) Looked(now nat.Families) nat.Families {
	n.looks.mu.Lock()
	defer n.looks.mu.Unlock()
	now = now.After(n.looks.last)
	n.looks.last = now.Or(n.looks.last)
	return now
}
