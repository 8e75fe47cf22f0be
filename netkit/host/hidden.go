package host

import (
	"errors"
	"slices"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"
)

// ErrHidden means that something would show where the machine is, to whom a hidden host does not: a socket beside those of its
// transports, multicast on the local network, an exchange of addresses.
var ErrHidden = errors.New("this host keeps the addresses of its machine to itself")

// hidden reports whether others are told no address of the machine.
func (c Config) hidden() bool { return c.SOCKS != nil || c.RelayOnly }

// Hidden reports whether the node tells others no address of its machine: not by identify, signed records or registrations. What
// it announces are Config.Announce and its circuits.
func (n *Node) Hidden() bool { return n.cfg.hidden() }

// shown are the addresses that a hidden host has for others.
func (n *Node) shown() []ma.Multiaddr {
	out := append(n.Circuits(), n.announce.static...)
	return ma.Unique(slices.DeleteFunc(out, n.cfg.Family.excludes))
}

// trust is whom a host that keeps to relays dials directly, and through whom it dials others.
type trust struct{ peers []peer.ID }

// excludes reports whether p is not to be dialled at m.
func (t *trust) excludes(p peer.ID, m ma.Multiaddr) bool {
	if t == nil || slices.Contains(t.peers, p) && !addr.IsRelayed(m) {
		return false
	}
	relay, ok := addr.RelayOf(m)
	return !ok || !slices.Contains(t.peers, relay.ID)
}

// passesOn reports whether a record of somebody else's may be told to others: in it are circuits alone.
func passesOn(e *record.Envelope) bool {
	r, err := e.Record()
	if err != nil {
		return false
	}
	signed, ok := r.(*peer.PeerRecord)
	return ok && !slices.ContainsFunc(signed.Addrs, isDirect)
}

// PassesOn reports whether the node may tell others of a signed peer record: any, unless Config.CircuitsOnly is set.
func (n *Node) PassesOn(e *record.Envelope) bool { return !n.cfg.CircuitsOnly || passesOn(e) }
