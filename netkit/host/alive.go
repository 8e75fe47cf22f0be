package host

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	libp2pping "github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

const (
	// aliveInterval and aliveTimeout find a peer that died without a word within
	// 8 s; QUIC alone takes 30 s, TCP minutes.
	aliveInterval = 5 * time.Second
	aliveTimeout  = 3 * time.Second
)

// KeepAlive closes connections with p on which nobody answers any more, until stop
// is called, so that whatever depends on p learns of the loss soon. It opens none.
func (n *Node) KeepAlive(p peer.ID) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			Pause(ctx, aliveInterval)
			n.closeDead(ctx, p)
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

// closeDead closes the connections with p that carry no answer.
func (n *Node) closeDead(ctx context.Context, p peer.ID) {
	within, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	var done sync.WaitGroup
	for _, c := range n.Conns(p) {
		done.Go(func() {
			if _, err := n.Supports(within, c, libp2pping.ID); err != nil && ctx.Err() == nil {
				_ = c.Close() // it is gone either way
			}
		})
	}
	done.Wait()
}
