package node

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

// NewPeer is a peer that connects over TCP, where a killed server is noticed at once, from an address of its own if one is given.
func NewPeer(from net.IP, options ...libp2p.Option) (host.Host, error) {
	dialer := new(net.Dialer)
	if from != nil {
		dialer.LocalAddr = &net.TCPAddr{IP: from}
	}
	return libp2p.New(append(options,
		libp2p.Transport(tcp.NewTCPTransport, tcp.WithDialerForAddr(func(ma.Multiaddr) (tcp.ContextDialer, error) { return dialer, nil })),
		libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.UserAgent("burden"),
	)...)
}

// Connect connects if need be, however often that has failed.
func Connect(ctx context.Context, h host.Host, to peer.AddrInfo) error {
	if s, ok := h.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(to.ID)
	}
	return h.Connect(ctx, to)
}

// Crowd is peers that work at the same time, each doing one thing after the other. The zero value is nobody.
type Crowd struct {
	peers   []host.Host
	ends    []context.CancelFunc
	turn    sync.RWMutex // held by each for one thing, and by who wants all to pause
	running sync.WaitGroup
}

// Join adds a peer.
func (c *Crowd) Join() (host.Host, error) {
	h, err := NewPeer(nil, libp2p.DisableRelay())
	if err == nil {
		c.peers = append(c.peers, h)
	}
	return h, err
}

// Go has something done again and again until ctx ends, or the crowd is closed.
func (c *Crowd) Go(ctx context.Context, every time.Duration, do func(context.Context)) {
	ctx, end := context.WithCancel(ctx)
	c.ends = append(c.ends, end)
	c.running.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				c.turn.RLock()
				do(ctx)
				c.turn.RUnlock()
			}
		}
	})
}

// Pause waits until nobody does anything. Nobody does until resume is called.
func (c *Crowd) Pause() (resume func()) {
	c.turn.Lock()
	return c.turn.Unlock
}

// Close ends what they do, and closes them.
func (c *Crowd) Close() (err error) {
	for _, end := range c.ends {
		end()
	}
	c.running.Wait()
	for _, h := range c.peers {
		err = errors.Join(err, h.Close())
	}
	return err
}
