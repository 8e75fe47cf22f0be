package host

import (
	"context"
	"sync"
	"time"

	"dibber/netkit/retry"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

// Changes signals that a connection with p opened or closed, or that p speaks other
// protocols than before, since the last signal was received, until stop is called.
// What holds now is to be looked up.
func (n *Node) Changes(p peer.ID) (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	note := func(of peer.ID) {
		if of != p {
			return
		}
		select {
		case c <- struct{}{}:
		default: // a look is due already
		}
	}
	noteConn := func(_ network.Network, conn network.Conn) { note(conn.RemotePeer()) }
	b := &network.NotifyBundle{ConnectedF: noteConn, DisconnectedF: noteConn}
	n.Network().Notify(b)
	sub, err := n.EventBus().Subscribe(new(event.EvtPeerProtocolsUpdated), eventbus.Name("host changes"))
	if err != nil { // only types that are no pointers are refused
		return c, func() { n.Network().StopNotify(b) }
	}
	var done sync.WaitGroup
	done.Go(func() {
		for e := range sub.Out() {
			note(e.(event.EvtPeerProtocolsUpdated).Peer)
		}
	})
	return c, func() {
		n.Network().StopNotify(b)
		// Close of a subscription ends the range over it; it has no error to tell.
		_ = sub.Close()
		done.Wait()
	}
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
