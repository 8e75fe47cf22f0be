package host

import (
	"context"
	"time"

	"dibber/netkit/retry"

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

// Await waits until the next attempt of s to reach p is due, which a connection with
// p that opens in the meantime may bring forward: changed is that of Changes.
func (n *Node) Await(ctx context.Context, p peer.ID, s *retry.Schedule, due time.Time, changed <-chan struct{}) {
	for {
		t := time.NewTimer(time.Until(due))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
			return
		case <-changed:
			t.Stop()
			if len(n.Conns(p)) > 0 {
				due = s.Hint(time.Now())
			}
		}
	}
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
