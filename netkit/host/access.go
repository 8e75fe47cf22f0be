package host

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Access is who may connect and who may be dialled. The allow lists say who may
// come in, and are no hindrance to dialling a peer that was asked for; the deny
// lists bind both ways and win. An empty allow list lets everyone in.
type Access struct {
	AllowPeers []peer.ID
	DenyPeers  []peer.ID
	AllowCIDRs []netip.Prefix
	DenyCIDRs  []netip.Prefix
}

// Open reports whether a stranger may connect.
func (a Access) Open() bool { return len(a.AllowPeers) == 0 && len(a.AllowCIDRs) == 0 }

// admitsPeer reports whether the lists let p in.
func (a Access) admitsPeer(p peer.ID) bool {
	return !slices.Contains(a.DenyPeers, p) &&
		(len(a.AllowPeers) == 0 || slices.Contains(a.AllowPeers, p))
}

// AllowListed reports whether a peer is named in the list of those that may connect.
func (n *Node) AllowListed(p peer.ID) bool {
	return slices.Contains(n.gater.access.Load().AllowPeers, p)
}

// admitsAddr reports whether the lists let a connection come in from m. A
// relayed address is judged where the circuit's first hop has an IP.
func (a Access) admitsAddr(m ma.Multiaddr) bool {
	ip, ok := addrIP(m)
	return !ok || !covers(a.DenyCIDRs, ip) && (len(a.AllowCIDRs) == 0 || covers(a.AllowCIDRs, ip))
}

// deniesAddr reports whether the lists forbid to dial m and to accept a connection from it.
func (a Access) deniesAddr(m ma.Multiaddr) bool {
	ip, ok := addrIP(m)
	return ok && covers(a.DenyCIDRs, ip)
}

func covers(list []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// addrIP is the IP address m begins with; a relayed address has none of its own.
func addrIP(m ma.Multiaddr) (netip.Addr, bool) {
	if addr.IsRelayed(m) {
		return netip.Addr{}, false
	}
	return addr.IP(m)
}

// gater enforces an Access at libp2p's connection gater, and the family and
// inbound restrictions of a Config. The lists can be replaced while it runs.
type gater struct {
	access atomic.Pointer[Access]
	bans   atomic.Pointer[bans]
	known  atomic.Pointer[[]peer.AddrInfo] // only these may come in; nil: everybody the lists admit
	away   away
	guests guests
	family Family
	trust  *trust // nil: everybody may be dialled everywhere
	// connected says whether a connection with a peer is open, where one is enough; nil: where it is not.
	connected atomic.Pointer[func(peer.ID) bool]
}

func newGater(cfg Config) *gater {
	g := &gater{family: cfg.Family}
	if cfg.RelayOnly {
		g.trust = &trust{cfg.Trusted}
	}
	g.access.Store(&cfg.Access)
	g.bans.Store(newBans(nil))
	if cfg.KnownOnly {
		g.known.Store(&cfg.Known)
	}
	return g
}

// admits reports whether p may come in from m.
func (g *gater) admits(p peer.ID, m ma.Multiaddr) bool {
	if !g.unhindered(p, m) {
		return false
	}
	if g.guests.has(p) {
		return true
	}
	a := g.access.Load()
	if !a.admitsPeer(p) {
		return false
	}
	known := g.known.Load()
	return known == nil || slices.ContainsFunc(*known, func(k peer.AddrInfo) bool { return k.ID == p })
}

// unhindered reports whether nothing keeps p out but that no list names it.
func (g *gater) unhindered(p peer.ID, m ma.Multiaddr) bool {
	a, banned := g.access.Load(), g.bans.Load()
	return !banned.peer(p) && !banned.addr(m) && !slices.Contains(a.DenyPeers, p) && a.admitsAddr(m)
}

// Admits reports whether p may come in from an address.
func (n *Node) Admits(p peer.ID, from ma.Multiaddr) bool { return n.gater.admits(p, from) }

// allows reports whether a connection may stay.
func (g *gater) allows(c network.Conn) bool {
	if !g.InterceptPeerDial(c.RemotePeer()) || g.denies(c.RemoteMultiaddr()) {
		return false
	}
	return c.Stat().Direction != network.DirInbound || g.admits(c.RemotePeer(), c.RemoteMultiaddr())
}

func (g *gater) InterceptPeerDial(p peer.ID) bool {
	return !slices.Contains(g.access.Load().DenyPeers, p) && !g.bans.Load().peer(p)
}

// denies reports whether m must be neither dialled nor accepted.
func (g *gater) denies(m ma.Multiaddr) bool {
	return g.access.Load().deniesAddr(m) || g.bans.Load().addr(m)
}

func (g *gater) InterceptAddrDial(p peer.ID, m ma.Multiaddr) bool {
	return !g.family.excludes(m) && !g.denies(m) && !g.trust.excludes(p, m)
}

func (g *gater) InterceptAccept(c network.ConnMultiaddrs) bool {
	if ip, ok := addrIP(c.RemoteMultiaddr()); ok && g.away.has(time.Now(), ip) {
		return false
	}
	return g.access.Load().admitsAddr(c.RemoteMultiaddr()) && !g.bans.Load().addr(c.RemoteMultiaddr())
}

func (g *gater) InterceptSecured(dir network.Direction, p peer.ID, c network.ConnMultiaddrs) bool {
	if connected := g.connected.Load(); connected != nil && (*connected)(p) {
		return false
	}
	if dir == network.DirOutbound {
		return g.InterceptPeerDial(p)
	}
	return g.admits(p, c.RemoteMultiaddr()) || g.unhindered(p, c.RemoteMultiaddr()) && g.guests.calls()
}

func (g *gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
