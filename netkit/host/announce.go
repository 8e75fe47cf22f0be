package host

import (
	"slices"
	"sync"
	"sync/atomic"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// announcements are the addresses told to others besides the listeners'.
type announcements struct {
	static  []ma.Multiaddr
	private atomic.Bool

	mu       sync.Mutex // guards following
	circuits map[peer.ID][]ma.Multiaddr
}

// SetCircuits replaces the circuit addresses announced for one relay; none means
// that the reservation is gone. Identify tells connected peers at once.
func (n *Node) SetCircuits(relay peer.ID, circuits []ma.Multiaddr) {
	n.announce.mu.Lock()
	if n.announce.circuits == nil {
		n.announce.circuits = make(map[peer.ID][]ma.Multiaddr)
	}
	if len(circuits) == 0 {
		delete(n.announce.circuits, relay)
	} else {
		n.announce.circuits[relay] = slices.Clone(circuits)
	}
	n.announce.mu.Unlock()
	// The event makes libp2p compute its addresses afresh instead of at its next
	// 5 s tick; it carries none, advertised adds them. The emitter only fails
	// when the host is closing.
	_ = n.changed.Emit(event.EvtAutoRelayAddrsUpdated{})
}

// SetPrivate says whether nobody can reach the host from outside. It then announces no
// public address but those that Config.Announce names: libp2p announces what four
// peers have seen, and whoever is to punch a hole to the host would first wait 5 s for
// a dial there (go-libp2p#2898). Punching itself offers them all the same.
func (n *Node) SetPrivate(private bool) {
	if n.announce.private.Swap(private) != private {
		_ = n.changed.Emit(event.EvtAutoRelayAddrsUpdated{}) // as in SetCircuits
	}
}

// Circuits are the circuit addresses announced now, without the own peer id.
func (n *Node) Circuits() []ma.Multiaddr {
	n.announce.mu.Lock()
	defer n.announce.mu.Unlock()
	var out []ma.Multiaddr
	for _, c := range n.announce.circuits {
		out = append(out, c...)
	}
	addr.Sort(out)
	return out
}

// Announced are the addresses given by Config.Announce.
func (n *Node) Announced() []ma.Multiaddr { return slices.Clone(n.announce.static) }

// advertised is libp2p's AddrsFactory. A host that keeps to a table of peers
// announces nothing but what it was told to.
func (n *Node) advertised(found []ma.Multiaddr) []ma.Multiaddr {
	if n.cfg.hidden() {
		return n.shown()
	}
	var out []ma.Multiaddr
	if !n.cfg.KnownOnly {
		out = append(out, found...)
		if n.announce.private.Load() {
			out = slices.DeleteFunc(out, func(a ma.Multiaddr) bool { return addr.ScopeOf(a) == addr.ScopePublic })
		}
		out = append(out, n.Circuits()...)
	}
	out = append(out, n.announce.static...)
	out = slices.DeleteFunc(out, n.cfg.Family.excludes)
	return ma.Unique(out)
}

// ListenAddrs are the addresses others could reach the host at if nothing were
// between: listeners with wildcards expanded to the machine's interfaces as they are
// now. libp2p itself looks at those once a minute.
func (n *Node) ListenAddrs() []ma.Multiaddr {
	listening := n.Network().ListenAddresses()
	out, err := manet.ResolveUnspecifiedAddresses(listening, n.interfaces())
	if err != nil {
		out = listening
	}
	out = slices.DeleteFunc(slices.Clone(out), func(a ma.Multiaddr) bool {
		return addr.IsRelayed(a) || n.cfg.Family.excludes(a)
	})
	addr.Sort(out)
	return out
}

// QUICPort is the port at which the host listens for QUIC over IPv4, beyond loopback; 0 if
// it does not.
func (n *Node) QUICPort() uint16 {
	for _, a := range n.Network().ListenAddresses() {
		if at, ok := addr.UDP(a); ok && at.Addr().Is4() && !at.Addr().IsLoopback() && addr.Transport(a) == addr.TransportQUIC {
			return at.Port()
		}
	}
	return 0
}

// interfaces are the addresses of the machine that Config.Sockets stands for; nil
// means the machine's own.
func (n *Node) interfaces() []ma.Multiaddr {
	if n.cfg.Sockets == nil {
		return nil
	}
	var out []ma.Multiaddr
	for _, a := range n.cfg.Sockets.Addrs() {
		if m, err := manet.FromIP(a.AsSlice()); err == nil { // every IP address has one
			out = append(out, m)
		}
	}
	return out
}
