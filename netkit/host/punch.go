package host

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// punchedTTL is how long addresses are kept that a hole is punched to. It is another than
// peerstore.TempAddrTTL, because identify, when it ends, drops what is kept for that long
// and the peer does not announce: with bad luck just before the addresses are looked up.
const punchedTTL = 3 * time.Minute

// DialTogether connects to p past a relayed connection, while p at the same moment
// does the same: a hole punch. Every address is dialled at once. client says which
// side this is of a TCP connection that both ends open (RFC 9293 section 3.5); the
// two ends must differ in it.
func (n *Node) DialTogether(ctx context.Context, p peer.ID, addrs []ma.Multiaddr, client bool) (network.Conn, error) {
	n.swarm().Backoff().Clear(p)
	n.Remember(p, addrs, punchedTTL)
	ctx = network.WithForceDirectDial(ctx, "hole punch")
	ctx = network.WithSimultaneousConnect(ctx, client, "hole punch")
	c, err := n.Network().DialPeer(ctx, p)
	if err != nil {
		return nil, &DialError{p, err}
	}
	return c, nil
}

// asClient lets a QUIC transport dial in a hole punch whichever side it is on.
// libp2p's own server side only sends packets that open the NAT and waits for the
// client, whose packets never arrive when it is the server's NAT that shows each
// remote another port. Of two dials that cross, at least one comes through.
func asClient(ctx context.Context) context.Context {
	if together, client, why := network.GetSimultaneousConnect(ctx); together && !client {
		return network.WithSimultaneousConnect(ctx, true, why)
	}
	return ctx
}
