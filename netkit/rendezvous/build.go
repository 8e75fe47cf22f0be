package rendezvous

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Nim reads no request above 4096 bytes.
const maxRegister = 4096

// maxRegisterAddrs is how many addresses are registered.
const maxRegisterAddrs = 16

// ErrNoAddresses is returned by [Register] when there is no address to
// register: servers refuse an empty record.
var ErrNoAddresses = errors.New("no address to register")

// buildRegister makes the REGISTER for a server with the given agent, with the
// last record if it still holds, and returns the record in it.
func buildRegister(h host.Host, agent string, req RegisterRequest, last *sealed) (message, *sealed, error) {
	if req.Namespace == "" || len(req.Namespace) > maxNamespace {
		return message{}, nil, fmt.Errorf("namespace must have 1 to %d bytes, it has %d", maxNamespace, len(req.Namespace))
	}
	addrs := req.Addrs
	if addrs == nil {
		addrs = h.Addrs()
	}
	chosen := chooseAddrs(h.ID(), addrs)
	flavours := sendFlavours(req.Format, agent, req.Namespace)
	if last.of(chosen, flavours) {
		if m := registerWith(last, req); len(m.encode()) <= maxRegister {
			return m, last, nil
		}
	}
	for addrs = chosen; len(addrs) > 0; addrs = addrs[:len(addrs)-1] {
		r, err := seal(h, chosen, addrs, flavours)
		if err != nil {
			return message{}, nil, err
		}
		if m := registerWith(r, req); len(m.encode()) <= maxRegister {
			return m, r, nil
		}
	}
	return message{}, nil, ErrNoAddresses
}

// registerWith makes a REGISTER with a record.
func registerWith(r *sealed, req RegisterRequest) message {
	body := registerMessage{ns: &req.Namespace, record: r.envelopes[0], other: r.envelopes[1]}
	if req.TTL != 0 {
		body.ttl = new(uint64(max(req.TTL, 0) / time.Second))
	}
	return message{kind: new(typeRegister), register: &body}
}

// sendFlavours are the flavours to send, the one for the specification's own
// field first.
func sendFlavours(format Format, agent, namespace string) []Flavour {
	switch {
	case format == FormatStandard:
		return []Flavour{Standard}
	case format == FormatLegacy, legacyOnly(agent, namespace):
		return []Flavour{Legacy}
	default:
		return []Flavour{Standard, Legacy}
	}
}

// chooseAddrs strips the peer's own id from addresses and keeps the most
// useful of them, in order.
func chooseAddrs(self peer.ID, addrs []ma.Multiaddr) []ma.Multiaddr {
	chosen := make([]ma.Multiaddr, 0, len(addrs))
	for _, addr := range addrs {
		addr = stripPeer(addr, self)
		if addr != nil && !slices.ContainsFunc(chosen, addr.Equal) {
			chosen = append(chosen, addr)
		}
	}
	slices.SortStableFunc(chosen, func(a, b ma.Multiaddr) int { return addrRank(a) - addrRank(b) })
	return chosen[:min(len(chosen), maxRegisterAddrs)]
}

// addrRank orders addresses: public, relayed, private.
func addrRank(addr ma.Multiaddr) int {
	if _, err := addr.ValueForProtocol(ma.P_CIRCUIT); err == nil {
		return 1
	}
	if manet.IsPublicAddr(addr) {
		return 0
	}
	return 2
}

// stripPeer removes a final /p2p/<self>. It returns nil for an address of
// another peer, and for one with nothing else in it.
func stripPeer(addr ma.Multiaddr, self peer.ID) ma.Multiaddr {
	transport, id := peer.SplitAddr(addr)
	if id != "" && id != self || len(transport) == 0 {
		return nil
	}
	return transport
}
