package host

import (
	"slices"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// known is what a node knows about its own addresses.
type known struct {
	announced []ma.Multiaddr // by --announce
	circuits  []ma.Multiaddr // of reservations
	listening []ma.Multiaddr // of the machine's interfaces
	observed  []seen         // by connected peers
	serverAt  []ma.Multiaddr // addresses over which the server is connected
}

// seen is how one peer sees the node, over a connection from the local address.
type seen struct{ addr, local ma.Multiaddr }

// AddrsFor are the addresses of the host that those can use who are told them by
// the connected server: what the operator announces, circuits, public addresses,
// and addresses of the scope in which the server itself was reached, since
// whoever asks there may be in it, too. A hidden host has only the first two.
func (n *Node) AddrsFor(server peer.ID) []ma.Multiaddr {
	if n.cfg.hidden() {
		return n.shown()
	}
	k := known{announced: n.Announced(), circuits: n.Circuits(), listening: n.ListenAddrs()}
	for _, o := range n.Observations() {
		k.observed = append(k.observed, seen{o.Addr, o.Conn.LocalMultiaddr()})
	}
	for _, c := range n.Conns(server) {
		k.serverAt = append(k.serverAt, c.RemoteMultiaddr())
	}
	return k.choose()
}

// choose is AddrsFor on what is known. A public address that a peer saw counts
// when its connection left from a listening port, where others would arrive.
func (k known) choose() []ma.Multiaddr {
	out := slices.Concat(k.announced, k.circuits)
	for _, a := range k.listening {
		scope := addr.ScopeOf(a)
		if scope == addr.ScopePublic || slices.ContainsFunc(k.serverAt, func(s ma.Multiaddr) bool {
			return scope == addr.ScopeOf(s) && (scope == addr.ScopeLoopback || scope == addr.ScopePrivate)
		}) {
			out = append(out, a)
		}
	}
	for _, o := range k.observed {
		if addr.ScopeOf(o.addr) == addr.ScopePublic && k.listensAt(o.local) {
			out = append(out, o.addr)
		}
	}
	return ma.Unique(out)
}

// listensAt reports whether local uses the port of a listener.
func (k known) listensAt(local ma.Multiaddr) bool {
	return slices.ContainsFunc(k.listening, func(l ma.Multiaddr) bool {
		for _, proto := range []int{ma.P_UDP, ma.P_TCP} {
			a, errA := l.ValueForProtocol(proto)
			b, errB := local.ValueForProtocol(proto)
			if errA == nil && errB == nil && a == b {
				return true
			}
		}
		return false
	})
}

// ListensAt reports whether a connection from local leaves from the port of a
// listener, so that others see the node where it can be dialled.
func (n *Node) ListensAt(local ma.Multiaddr) bool {
	return known{listening: n.ListenAddrs()}.listensAt(local)
}
