package route

import (
	"cmp"
	"context"
	"net/netip"
	"sync"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

// Wanted says what peers are to offer. The zero value wants nobody.
type Wanted struct {
	// Protocols are those of which a peer must speak one, as it says by identify.
	Protocols []protocol.ID
	// Count is how many peers are enough.
	Count int
	// Spread takes one peer of a network only, an IPv4 /24 or IPv6 /56.
	Spread bool
	// Public takes peers only that strangers can reach: those met at a public address.
	Public bool
	// Except are left out; nil leaves nobody out.
	Except func(peer.ID) bool
	// Walks is how many random walks may follow the look around the node's own key; 0 means 3.
	Walks int
}

const (
	defaultOfferWalks = 3
	// meeting is how many peers are met at once, and meetTimeout how long one may take to say what it speaks.
	meeting     = 8
	meetTimeout = 10 * time.Second
)

// Offering looks for peers that offer something: first among those closest to the node's own key, who are other ones for each
// node, then on random walks. It stays connected to those that it returns, which are fewer than Wanted.Count where there
// were not more. The error is that of the last walk, if nobody was found.
func (s *Service) Offering(ctx context.Context, w Wanted) ([]peer.AddrInfo, error) {
	w.Walks = cmp.Or(w.Walks, defaultOfferWalks)
	m := &meeter{s: s, w: w, met: map[peer.ID]struct{}{s.n.ID(): {}}, networks: make(map[netip.Prefix]struct{})}
	var err error
	for i := 0; i <= w.Walks && ctx.Err() == nil && !m.enough(); i++ {
		var found []PeerInfo
		if i == 0 {
			found, _, err = s.Closest(ctx, string(s.n.ID()), nil)
		} else {
			found, _, err = s.Walk(ctx, nil)
		}
		var ids []peer.ID
		for _, p := range found {
			ids = append(ids, p.Peer)
		}
		if i == w.Walks { // and whoever else has come into the table
			ids = append(ids, s.dht.RoutingTable().ListPeers()...)
		}
		m.meet(ctx, ids)
	}
	if len(m.found) > 0 {
		return m.found, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil {
		err = ErrNotFound
	}
	return nil, err
}

// meeter connects to peers and sorts out who offers what is wanted.
type meeter struct {
	s   *Service
	w   Wanted
	met map[peer.ID]struct{} // those that need not be met again

	mu       sync.Mutex // guards following
	found    []peer.AddrInfo
	networks map[netip.Prefix]struct{}
}

func (m *meeter) enough() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.found) >= m.w.Count
}

// meet looks at peers, in their order as far as that goes.
func (m *meeter) meet(ctx context.Context, ids []peer.ID) {
	var all sync.WaitGroup
	slots := make(chan struct{}, meeting)
	for _, id := range ids {
		if _, known := m.met[id]; known || m.w.Except != nil && m.w.Except(id) {
			continue
		}
		slots <- struct{}{}
		if m.enough() || ctx.Err() != nil {
			break
		}
		m.met[id] = struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			m.look(ctx, id)
		})
	}
	all.Wait()
}

// look connects to a peer and takes it if it offers what is wanted. One that does not answer is left out.
func (m *meeter) look(ctx context.Context, id peer.ID) {
	ctx, cancel := context.WithTimeout(ctx, meetTimeout)
	defer cancel()
	n := m.s.n
	c, err := n.Dial(ctx, id, nil)
	if err != nil || addr.IsRelayed(c.RemoteMultiaddr()) {
		return
	}
	select {
	case <-n.Identified(c):
	case <-ctx.Done():
		return
	}
	if speaks, err := n.Peerstore().SupportsProtocols(id, m.w.Protocols...); err != nil || len(speaks) == 0 {
		return
	}
	at := c.RemoteMultiaddr()
	if m.w.Public && addr.ScopeOf(at) != addr.ScopePublic {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.found) >= m.w.Count {
		return
	}
	if m.w.Spread {
		in := prefixOf(at)
		if _, taken := m.networks[in]; taken {
			return
		}
		m.networks[in] = struct{}{}
	}
	m.found = append(m.found, peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{at}})
}
