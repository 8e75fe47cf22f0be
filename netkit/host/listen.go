package host

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"dibber/netkit/addr"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// ListenError means that an address could not be listened on.
type ListenError struct {
	Addr ma.Multiaddr
	Err  error // nil when libp2p does not tell
}

func (e *ListenError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("listen on %s: not possible on this machine", e.Addr)
	}
	return fmt.Sprintf("listen on %s: %v", e.Addr, e.Err)
}

func (e *ListenError) Unwrap() error { return e.Err }

// ErrTransportOff means that an address needs a transport that the host is without:
// not among Config.Transports, ruled out by a private network, or wss without a
// certificate.
var ErrTransportOff = errors.New("its transport is off")

// probeListen makes sure that each address of cfg has a transport, and binds it for
// a moment. The TCP transport listens with SO_REUSEPORT, with which a second
// process would share the port in silence and steal half of the connections; a
// plain bind finds it busy.
func probeListen(cfg Config) error {
	for _, a := range cfg.Listen {
		t := Transport(addr.Transport(a))
		if t == addr.TransportWebRTCDirect {
			t = WebRTC
		}
		if !slices.Contains(cfg.Transports, t) || t == WSS && cfg.TLS == nil {
			return &ListenError{a, ErrTransportOff}
		}
		network, at, err := manet.DialArgs(a)
		if err != nil {
			return &ListenError{a, err}
		}
		if cfg.Sockets != nil && cfg.device == nil {
			continue
		}
		if err := bind(network, at); err != nil {
			return &ListenError{a, err}
		}
	}
	return nil
}

// bind opens and closes a socket.
func bind(network, at string) error {
	switch network {
	case "udp", "udp4", "udp6":
		c, err := net.ListenPacket(network, at)
		if err != nil {
			return err
		}
		return c.Close()
	default:
		l, err := net.Listen(network, at)
		if err != nil {
			return err
		}
		return l.Close()
	}
}

// hasIPv6 reports whether the machine can open IPv6 sockets at all.
func hasIPv6() bool { return bind("udp6", "[::]:0") == nil }

// checkListeners makes sure that every requested address is listened on: libp2p
// is content with one of many.
func (n *Node) checkListeners() error {
	have := n.Network().ListenAddresses()
	for _, want := range n.cfg.Listen {
		if !slices.ContainsFunc(have, func(a ma.Multiaddr) bool { return listensOn(a, want) }) {
			return &ListenError{Addr: want}
		}
	}
	return nil
}

// listensOn reports whether a is the address that a listener asked for as want
// got: port 0 became some port, certificate hashes may follow.
func listensOn(a, want ma.Multiaddr) bool {
	if len(a) < len(want) {
		return false
	}
	for i, w := range want {
		anyPort := w.Value() == "0" && (w.Protocol().Code == ma.P_TCP || w.Protocol().Code == ma.P_UDP)
		switch {
		case a[i].Protocol().Code != w.Protocol().Code:
			return false
		case !anyPort && a[i].Value() != w.Value():
			return false
		}
	}
	return true
}
