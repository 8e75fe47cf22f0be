package host

import (
	"errors"
	"slices"

	ma "github.com/multiformats/go-multiaddr"
)

// ErrHidden means that something would show where the machine is, to whom a hidden host does not: a socket beside those of its
// transports, multicast on the local network, an exchange of addresses.
var ErrHidden = errors.New("this host keeps the addresses of its machine to itself")

// hidden reports whether others are told no address of the machine.
func (c Config) hidden() bool { return c.SOCKS != nil }

// Hidden reports whether the node tells others no address of its machine: not by identify, signed records or registrations. What
// it announces are Config.Announce and its circuits.
func (n *Node) Hidden() bool { return n.cfg.hidden() }

// shown are the addresses that a hidden host has for others.
func (n *Node) shown() []ma.Multiaddr {
	out := append(n.Circuits(), n.announce.static...)
	return ma.Unique(slices.DeleteFunc(out, n.cfg.Family.excludes))
}
