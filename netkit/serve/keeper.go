package serve

import (
	"context"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/peer"
)

// PeerEvent is a change of a kept connection.
type PeerEvent struct {
	Kind string // "connected", "lost" or "failed"
	Peer peer.ID
	Path string // direct or relayed, when connected
	Addr string // of the peer, when connected
	Err  error  // when failed
}

// keeper stays connected to one peer.
type keeper struct {
	n      *host.Node
	to     peer.AddrInfo
	most   time.Duration
	on     func(PeerEvent)
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// firstRetry is the first wait after a failed dial; it doubles up to the most.
const firstRetry = time.Second

func newKeeper(n *host.Node, to peer.AddrInfo, most time.Duration, on func(PeerEvent)) *keeper {
	ctx, cancel := context.WithCancel(context.Background())
	k := &keeper{n: n, to: to, most: most, on: on, cancel: cancel}
	n.ConnManager().Protect(to.ID, "kept")
	k.done.Go(func() { k.run(ctx) })
	return k
}

// Close lets the connection be and waits until nothing runs.
func (k *keeper) Close() error {
	k.cancel()
	k.done.Wait()
	k.n.ConnManager().Unprotect(k.to.ID, "kept")
	return nil
}

func (k *keeper) run(ctx context.Context) {
	changed, stop := k.n.Changes(k.to.ID)
	defer stop()
	defer k.n.KeepAlive(k.to.ID)()
	wait := firstRetry
	for ctx.Err() == nil {
		c, err := k.n.Dial(ctx, k.to.ID, k.to.Addrs)
		if err != nil {
			if ctx.Err() == nil {
				k.on(PeerEvent{Kind: "failed", Peer: k.to.ID, Err: err})
			}
			host.Pause(ctx, wait)
			wait = min(2*wait, k.most)
			continue
		}
		wait = firstRetry
		at := c.RemoteMultiaddr()
		k.on(PeerEvent{Kind: "connected", Peer: k.to.ID, Path: addr.Path(at), Addr: at.String()})
		k.hold(ctx, changed)
		if ctx.Err() == nil {
			k.on(PeerEvent{Kind: "lost", Peer: k.to.ID})
			// A peer that hangs up on us at once would otherwise be dialled in a
			// tight loop.
			host.Pause(ctx, firstRetry)
		}
	}
}

// hold returns when no connection to the peer is left.
func (k *keeper) hold(ctx context.Context, changed <-chan struct{}) {
	for len(k.n.Conns(k.to.ID)) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
