package host

import (
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Ban keeps one peer, or all of a network, out: neither dials the other. It goes before
// what [Access] says.
type Ban struct {
	Peer    peer.ID      // empty: a network
	Network netip.Prefix // of a network
	Until   time.Time    // zero: for good
}

// bans are those in force, ready to be looked up.
type bans struct {
	peers    map[peer.ID]time.Time
	networks []Ban
}

func newBans(list []Ban) *bans {
	b := &bans{peers: make(map[peer.ID]time.Time)}
	for _, one := range list {
		if one.Peer != "" {
			b.peers[one.Peer] = one.Until
		} else {
			b.networks = append(b.networks, one)
		}
	}
	return b
}

// over reports whether a ban has come to its end.
func over(until, now time.Time) bool { return !until.IsZero() && !now.Before(until) }

// peer reports whether p is banned.
func (b *bans) peer(p peer.ID) bool {
	until, banned := b.peers[p]
	return banned && !over(until, time.Now())
}

// addr reports whether an address is of a network that is banned; a relayed one is of none.
func (b *bans) addr(m ma.Multiaddr) bool {
	ip, ok := addrIP(m)
	if !ok {
		return false
	}
	now := time.Now()
	for _, n := range b.networks {
		if n.Network.Contains(ip) && !over(n.Until, now) {
			return true
		}
	}
	return false
}

// SetBans replaces the bans, closes the connections that they deny, and returns how many
// those were.
func (n *Node) SetBans(list []Ban) (closed int) {
	n.gater.bans.Store(newBans(list))
	return n.enforce()
}
