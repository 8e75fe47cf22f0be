package rendezvous

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Discovery is the [discovery.Discovery] of libp2p at one rendezvous server,
// for pubsub and others that take one.
type Discovery struct {
	host   host.Host
	server peer.AddrInfo
}

var _ discovery.Discovery = (*Discovery)(nil)

// NewDiscovery returns the discovery of h at a server.
func NewDiscovery(h host.Host, server peer.AddrInfo) *Discovery {
	return &Discovery{host: h, server: server}
}

// Advertise registers the host in a namespace and returns the TTL granted;
// the caller advertises again before it ends.
func (d *Discovery) Advertise(ctx context.Context, ns string, opts ...discovery.Option) (time.Duration, error) {
	var options discovery.Options
	if err := options.Apply(opts...); err != nil {
		return 0, fmt.Errorf("advertise: %w", err)
	}
	done, err := Register(ctx, d.host, d.server, RegisterRequest{Namespace: ns, TTL: options.Ttl})
	return done.TTL, err
}

// FindPeers returns the peers registered in a namespace, at most the limit of
// the options if they name one. The channel is closed after the last.
func (d *Discovery) FindPeers(ctx context.Context, ns string, opts ...discovery.Option) (<-chan peer.AddrInfo, error) {
	var options discovery.Options
	if err := options.Apply(opts...); err != nil {
		return nil, fmt.Errorf("find peers: %w", err)
	}
	limit := max(options.Limit, 0)
	page, err := DiscoverAll(ctx, d.host, d.server, DiscoverRequest{Namespace: ns, Limit: uint64(limit), Max: limit})
	if err != nil {
		return nil, err
	}
	found := page.Entries
	if limit > 0 {
		found = found[:min(len(found), limit)]
	}
	peers := make(chan peer.AddrInfo, len(found))
	for _, e := range found {
		peers <- peer.AddrInfo{ID: e.Peer, Addrs: e.Addrs}
	}
	close(peers)
	return peers, nil
}
