package reach

import (
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Verdict is what is known of one address.
type Verdict string

// What can be known of an address.
const (
	Unknown     Verdict = "unknown"
	Reachable   Verdict = "reachable"
	Unreachable Verdict = "unreachable"
)

// State is what is known of the node.
type State string

// What can be known of a node.
const (
	Undecided State = "unknown"
	Public    State = "public"  // others reach it at one of its addresses at least
	Private   State = "private" // others were asked, and reached it at none
)

// Cause is a stable word for why a verdict or state changed.
type Cause string

// Why things change.
const (
	// CauseAnswers means that enough servers agree about the address.
	CauseAnswers Cause = "answers"
	// CauseGone means that the address is none of the node's any more, as far as
	// its interfaces and connected peers tell.
	CauseGone Cause = "gone"
	// CauseReachable means that an address is reachable, which one the event says.
	CauseReachable Cause = "address-reachable"
	// CauseUnreachable means that no address is reachable and none is in doubt.
	CauseUnreachable Cause = "no-address-reachable"
	// CauseDoubt means that what was known holds no more, and nothing else is known.
	CauseDoubt Cause = "nothing-known"
	// CauseV1 means that AutoNAT v1 says so, which knows no addresses. It counts
	// only while no server said anything about any address.
	CauseV1 Cause = "autonat-v1"
)

// Event is one change. Exactly one field is set.
type Event struct {
	Address *AddressEvent
	State   *StateEvent
}

// AddressEvent is a change of what is known of an address.
type AddressEvent struct {
	Addr    ma.Multiaddr
	Was, Is Verdict
	// By are the servers whose last word is the verdict; none when it is Unknown.
	By []peer.ID
	// Asked is how many servers have answered about the address.
	Asked int
	Cause Cause
}

// Address is what is known of an address.
type Address struct {
	Addr ma.Multiaddr
	Is   Verdict
	// By are the servers whose last word is the verdict; none when it is Unknown.
	By []peer.ID
	// Asked is how many servers have answered about the address.
	Asked int
}

// StateEvent is a change of what is known of the node.
type StateEvent struct {
	Was, Is State
	Addr    ma.Multiaddr // the first that is reachable; nil unless Cause is CauseReachable
	Cause   Cause
}
