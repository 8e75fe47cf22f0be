package dial

import (
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// UnreachableError means that no address gave a connection. Cause is the most
// telling of the attempts' reasons.
type UnreachableError struct {
	Peer  peer.ID // empty when it was to be learned who is there
	Addr  string  // the attempt that Cause is of; empty when there was none
	Cause Reason
	Err   error // nil when nothing could be tried
}

func (e *UnreachableError) Error() string {
	if e.Addr == "" {
		return fmt.Sprintf("no address of %s can be tried", e.Peer)
	}
	switch {
	case e.Peer == "":
		return fmt.Sprintf("dial %s: %s: %v", e.Addr, e.Cause, e.Err)
	case e.Err == nil:
		return fmt.Sprintf("dial %s: %s (%s)", e.Peer, e.Cause, e.Addr)
	}
	return fmt.Sprintf("dial %s: %s: %v", e.Peer, e.Cause, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// ProtocolError means that the connected peer lacks a protocol that was required.
type ProtocolError struct {
	Peer     peer.ID
	Protocol protocol.ID
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("peer %s does not speak %s", e.Peer, e.Protocol)
}

// RelayedError means that the peer was reached, but only through a relay although
// a direct path was asked for.
type RelayedError struct{ Peer peer.ID }

func (e *RelayedError) Error() string {
	return fmt.Sprintf("peer %s is reached through a relay only", e.Peer)
}

// LostError means that the connection ended while it was to be held.
type LostError struct {
	Peer  peer.ID
	Cause error // as host.Node.LossCause has it; nil when it is not known
}

func (e *LostError) Error() string {
	if e.Cause == nil {
		return fmt.Sprintf("connection to %s ended", e.Peer)
	}
	return fmt.Sprintf("connection to %s ended: %v", e.Peer, e.Cause)
}

func (e *LostError) Unwrap() error { return e.Cause }

// telling orders the reasons by how much they say: an answer says more than
// silence, silence at an address more than one that was never tried.
func telling(r Reason) int {
	for i, group := range [][]Reason{
		{IDMismatch},
		{HandshakeFailed},
		{PeerRefused, RelayRefused},
		{NoReservation, NotARelay, RelayFailed},
		{ConnectionRefused, ProxyFailed},
		{Timeout, RelayUnreachable},
		{NoRoute, NameUnresolved, Unknown},
		{Gated, OwnLimit},
	} {
		if slices.Contains(group, r) {
			return i
		}
	}
	return 100
}

// unreachable picks the most telling failed or skipped attempt.
func unreachable(p peer.ID, attempts []Attempt, err error) *UnreachableError {
	out := &UnreachableError{Peer: p, Cause: Unknown, Err: err}
	best := 1000
	for _, a := range attempts {
		if a.Reason == nil {
			continue
		}
		if t := telling(*a.Reason); t < best {
			best, out.Cause, out.Addr = t, *a.Reason, a.Addr
			out.Err = nil
			if a.Error != nil {
				out.Err = &attemptError{*a.Error, err}
			}
		}
	}
	return out
}

// attemptError tells one attempt's error in the words of its layer, and wraps the
// dial's.
type attemptError struct {
	text string
	err  error
}

func (e *attemptError) Error() string { return e.text }
func (e *attemptError) Unwrap() error { return e.err }
