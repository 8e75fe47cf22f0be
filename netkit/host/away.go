package host

import (
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// awayKeys is how many addresses are turned away at a time.
const awayKeys = 4096

// away is the addresses that may not connect for a while, an IPv4 address or an
// IPv6 /56 each.
type away struct {
	mu    sync.Mutex
	until map[netip.Prefix]time.Time
}

// sourceOf is what an address counts as.
func sourceOf(ip netip.Addr) netip.Prefix {
	bits := 32
	if ip.Is6() {
		bits = 56
	}
	p, _ := ip.Prefix(bits) // fails for more bits than an address has
	return p
}

func (a *away) add(now time.Time, from netip.Prefix, d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.until == nil {
		a.until = make(map[netip.Prefix]time.Time)
	}
	if len(a.until) >= awayKeys {
		a.makeRoom(now)
	}
	a.until[from] = now.Add(d)
}

// makeRoom forgets what is over, or else any one.
func (a *away) makeRoom(now time.Time) {
	for from, until := range a.until {
		if !until.After(now) {
			delete(a.until, from)
		}
	}
	for from := range a.until {
		if len(a.until) < awayKeys {
			return
		}
		delete(a.until, from)
	}
}

func (a *away) has(now time.Time, ip netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.until[sourceOf(ip)].After(now)
}

// TurnAway closes the connections of a peer that abuses the host, and for a
// while refuses new ones from where they came, those over TCP before their
// handshake. An address from which other peers are connected, too, is not
// refused: they may share it by a NAT.
func (n *Node) TurnAway(p peer.ID, d time.Duration) {
	now := time.Now()
	var conns []network.Conn
	from, shared := make(map[netip.Prefix]bool), make(map[netip.Prefix]bool)
	for _, c := range n.Network().Conns() {
		ip, direct := addrIP(c.RemoteMultiaddr())
		switch {
		case c.RemotePeer() == p:
			conns = append(conns, c)
			if direct && c.Stat().Direction == network.DirInbound {
				from[sourceOf(ip)] = true
			}
		case direct:
			shared[sourceOf(ip)] = true
		}
	}
	for source := range from {
		if !shared[source] {
			n.gater.away.add(now, source, d)
		}
	}
	for _, c := range conns {
		// The connection is gone either way; its error tells nothing new.
		_ = c.CloseWithError(network.ConnRateLimited)
	}
}
