package host

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
)

// Dial connects to p over the best of addrs and of those known from before, or
// returns a connection that is open already. Back-off left from earlier failures
// does not stop it, nor that from a relay on the way: somebody asked. It does not wait
// for identify.
func (n *Node) Dial(ctx context.Context, p peer.ID, addrs []ma.Multiaddr) (network.Conn, error) {
	n.swarm().Backoff().Clear(p)
	for _, a := range addrs {
		if relay, ok := addr.RelayOf(a); ok {
			n.swarm().Backoff().Clear(relay.ID)
		}
	}
	n.Remember(p, addrs, peerstore.TempAddrTTL)
	c, err := n.Network().DialPeer(ctx, p)
	if err != nil {
		if open := n.Conns(p); n.cfg.Single && len(open) > 0 { // the peer was quicker, and this dial was refused for it
			return open[0], nil
		}
		return nil, &DialError{p, err}
	}
	return c, nil
}

// connected reports whether a connection with p is open.
func (n *Node) connected(p peer.ID) bool { return len(n.Network().ConnsToPeer(p)) > 0 }

// DialError is why a peer could not be dialled. It tells in one line what the
// library tells in many.
type DialError struct {
	Peer peer.ID
	Err  error
}

// dialErrorAddrs is how many addresses the text of a DialError names.
const dialErrorAddrs = 3

func (e *DialError) Error() string {
	var all *swarm.DialError
	if !errors.As(e.Err, &all) || len(all.DialErrors) == 0 {
		return fmt.Sprintf("dial %s: %v", e.Peer, e.Err)
	}
	var parts []string
	for _, a := range all.DialErrors[:min(len(all.DialErrors), dialErrorAddrs)] {
		parts = append(parts, fmt.Sprintf("%s: %v", a.Address, a.Cause))
	}
	if more := len(all.DialErrors) + all.Skipped - len(parts); more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("dial %s: %s", e.Peer, strings.Join(parts, "; "))
}

func (e *DialError) Unwrap() error { return e.Err }

// Forget closes every connection to p and drops what is known of its addresses.
func (n *Node) Forget(p peer.ID) {
	_ = n.Network().ClosePeer(p) // they are gone either way
	n.Peerstore().ClearAddrs(p)
}

// DialAddr connects to p over exactly one resolved address, without ranking and
// past any open connection. The connection is not part of the host's network:
// nothing else uses it, and the caller closes it.
func (n *Node) DialAddr(ctx context.Context, p peer.ID, a ma.Multiaddr) (transport.CapableConn, error) {
	t := n.swarm().TransportForDialing(a)
	if t == nil {
		return nil, fmt.Errorf("dial %s: %w", a, swarm.ErrNoTransport)
	}
	if err := n.gated(p, a); err != nil {
		return nil, err
	}
	return t.Dial(ctx, a, p)
}

// CanDial reports whether the host has a transport for an address.
func (n *Node) CanDial(a ma.Multiaddr) bool { return n.swarm().TransportForDialing(a) != nil }

// gated is why a peer may not be dialled at an address; nil if it may.
func (n *Node) gated(p peer.ID, a ma.Multiaddr) error {
	if !n.gater.InterceptPeerDial(p) || !n.gater.InterceptAddrDial(p, a) {
		return fmt.Errorf("dial %s: %w", a, swarm.ErrGaterDisallowedConnection)
	}
	return nil
}

// Identified is closed when identify on c has succeeded or failed. libp2p tells
// its event before.
func (n *Node) Identified(c network.Conn) <-chan struct{} {
	if h, ok := n.Host.(interface{ IDService() identify.IDService }); ok {
		return h.IDService().IdentifyWait(c)
	}
	never := make(chan struct{}) // libp2p.New builds no other kind of host
	return never
}
