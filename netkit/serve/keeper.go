package serve

import (
	"context"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/retry"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// PeerEvent is a change of a kept connection.
type PeerEvent struct {
	Kind string // "connected", "lost" or "failed"
	Peer peer.ID
	Path string // direct or relayed, when connected
	Addr string // of the peer, when connected
	Err  error  // why failed, or lost; nil where that is not known
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
	id := k.to.ID
	changed, stop := k.n.Changes(id)
	defer stop()
	defer k.n.KeepAlive(id)()
	again := retry.Schedule{Most: k.most}
	for ctx.Err() == nil {
		again.Begin(time.Now())
		c, err := k.dial(ctx)
		if err != nil {
			if ctx.Err() == nil {
				k.on(PeerEvent{Kind: "failed", Peer: id, Err: err})
			}
			k.n.Await(ctx, id, &again, again.Failed(time.Now()), changed)
			continue
		}
		again.Succeeded(time.Now())
		at := c.RemoteMultiaddr()
		k.on(PeerEvent{Kind: "connected", Peer: id, Path: addr.Path(at), Addr: at.String()})
		last := k.hold(ctx, c, changed)
		if ctx.Err() == nil {
			k.on(PeerEvent{Kind: "lost", Peer: id, Err: k.n.LossCause(last...)})
			k.n.Await(ctx, id, &again, again.Lost(time.Now()), changed)
		}
	}
}

func (k *keeper) dial(ctx context.Context) (network.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, retry.Attempt)
	defer cancel()
	return k.n.Dial(ctx, k.to.ID, k.to.Addrs)
}

// hold returns when no connection to the peer is left, with those that were the last.
func (k *keeper) hold(ctx context.Context, c network.Conn, changed <-chan struct{}) []network.Conn {
	last := []network.Conn{c}
	for {
		conns := k.n.Conns(k.to.ID)
		if len(conns) == 0 {
			return last
		}
		last = conns
		select {
		case <-ctx.Done():
			return last
		case <-changed:
		}
	}
}
