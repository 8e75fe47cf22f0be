package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"dibber/netkit/host"
	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/quic-go/quic-go"
)

// Reason is why an address did not give the connection.
type Reason string

// The reasons, stable words.
const (
	ConnectionRefused Reason = "connection-refused"  // nothing listens there
	Timeout           Reason = "timeout"             // no answer
	NoRoute           Reason = "no-route"            // this machine knows no way there
	IDMismatch        Reason = "id-mismatch"         // another peer answered
	HandshakeFailed   Reason = "handshake-failed"    // it speaks something else, or another network key
	PeerRefused       Reason = "refused-by-peer"     // it hung up on us by its lists or limits
	RelayUnreachable  Reason = "relay-unreachable"   // the relay itself gave no connection
	NotARelay         Reason = "not-a-relay"         // the peer named as relay is none
	NoReservation     Reason = "no-reservation"      // the relay does not know the peer
	RelayRefused      Reason = "relay-refused"       // the relay's limits or lists
	RelayFailed       Reason = "relay-failed"        // the relay could not reach the peer
	NameUnresolved    Reason = "name-unresolved"     // DNS gave no address
	Gated             Reason = "denied-here"         // our own lists
	OwnLimit          Reason = "limit-here"          // our own resource limits
	NoTransport       Reason = "no-transport"        // not among our transports
	Self              Reason = "own-address"         // it is our own address
	Unspecified       Reason = "unspecified-address" // 0.0.0.0 and :: name no host
	LinkLocal         Reason = "link-local-address"  // libp2p dials none without a zone
	BetterTransport   Reason = "better-transport"    // same port by a better transport
	WantDirect        Reason = "relay-not-wanted"    // --no-relay
	WantRelay         Reason = "direct-not-wanted"   // --relay-only
	ProxyFailed       Reason = "proxy-failed"        // the SOCKS server is not there, or could not connect
	OtherWon          Reason = "other-won"           // another address was faster
	Interrupted       Reason = "interrupted"         // the whole dial was ended
	Unknown           Reason = "other"
)

// reasonOf names the cause of err, as a transport or the swarm returned it.
func reasonOf(err error) Reason {
	if s, ok := relay.ConnectStatus(err); ok {
		switch {
		case s == relay.NoReservation:
			return NoReservation
		case relay.Refused(s):
			return RelayRefused
		default:
			return RelayFailed
		}
	}
	for _, known := range []struct {
		err error
		is  Reason
	}{
		{swarm.ErrGaterDisallowedConnection, Gated},
		{swarm.ErrNoTransport, NoTransport},
		{swarm.ErrDialToSelf, Self},
		{context.Canceled, Interrupted},
		{context.DeadlineExceeded, Timeout},
		{os.ErrDeadlineExceeded, Timeout},
		{host.ErrNames, NameUnresolved},
		{host.ErrProxy, ProxyFailed}, // whatever it says of the server itself
		{syscall.ECONNREFUSED, ConnectionRefused},
		{syscall.ENETUNREACH, NoRoute},
		{syscall.EHOSTUNREACH, NoRoute},
		{syscall.EADDRNOTAVAIL, NoRoute},
		{network.ErrResourceLimitExceeded, OwnLimit},
	} {
		if errors.Is(err, known.err) {
			return known.is
		}
	}
	return handshakeReason(err)
}

// handshakeReason names the cause of an error after something answered.
func handshakeReason(err error) Reason {
	var mismatch sec.ErrPeerIDMismatch
	var idle *quic.IdleTimeoutError
	var handshake *quic.HandshakeTimeoutError
	var te *quic.TransportError
	var netErr net.Error
	switch {
	case errors.As(err, &mismatch):
		return IDMismatch
	case errors.As(err, &idle), errors.As(err, &handshake):
		return Timeout
	case errors.As(err, &te) && te.ErrorCode == quic.ConnectionRefused:
		return PeerRefused
	case errors.As(err, &te), errors.As(err, new(tls.AlertError)), errors.As(err, new(*tls.CertificateVerificationError)):
		return HandshakeFailed
	case errors.As(err, new(*network.ConnError)), errors.As(err, new(*quic.ApplicationError)):
		return PeerRefused
	case host.NotSupported(err):
		return HandshakeFailed // no security or muxer in common
	case errors.As(err, &netErr) && netErr.Timeout():
		return Timeout
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.ErrUnexpectedEOF):
		return HandshakeFailed
	}
	return Unknown
}
