package host

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Changes signals that a connection with p opened or closed since the last signal
// was received, until stop is called. What holds now is to be looked up.
func (n *Node) Changes(p peer.ID) (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	note := func(_ network.Network, conn network.Conn) {
		if conn.RemotePeer() != p {
			return
		}
		select {
		case c <- struct{}{}:
		default: // a look is due already
		}
	}
	b := &network.NotifyBundle{ConnectedF: note, DisconnectedF: note}
	n.Network().Notify(b)
	return c, func() { n.Network().StopNotify(b) }
}

// Pause waits for d or until ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
