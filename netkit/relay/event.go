package relay

import (
	"time"

	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"

	"github.com/libp2p/go-libp2p/core/peer"
)

// EventKind says what happened at a [Server].
type EventKind string

// What a Server reports.
const (
	// EventReservationOpened is a peer that can be reached through the relay now.
	EventReservationOpened EventKind = "reservation.opened"
	// EventReservationRenewed is a reservation that lasts longer.
	EventReservationRenewed EventKind = "reservation.renewed"
	// EventReservationExpired is one that was not renewed.
	EventReservationExpired EventKind = "reservation.expired"
	// EventReservationClosed is one that ended before its time; Reason says why.
	EventReservationClosed EventKind = "reservation.closed"
	// EventReservationRefused is a request to reserve that was answered with
	// another status than OK.
	EventReservationRefused EventKind = "reservation.refused"
	// EventCircuitOpened is a circuit that carries traffic.
	EventCircuitOpened EventKind = "circuit.opened"
	// EventCircuitClosed is a circuit that ended; Reason says why.
	EventCircuitClosed EventKind = "circuit.closed"
	// EventCircuitRefused is a request to connect that was answered with another
	// status than OK.
	EventCircuitRefused EventKind = "circuit.refused"
	// EventOfferCarried is a message about how to connect that was carried to
	// Destination, and its answer back; see [IntroProtocol].
	EventOfferCarried EventKind = "offer.carried"
	// EventRefused is a request that was neither.
	EventRefused EventKind = "refused"
)

// Event is something that happened at a [Server].
type Event struct {
	Kind EventKind `json:"kind"`
	// Peer is who asked, whose reservation it is, or where the circuit comes from.
	Peer peer.ID `json:"peer"`
	// Destination is where a circuit leads; empty for reservations, and where the
	// request did not name it.
	Destination peer.ID `json:"destination,omitempty"`
	// Reason is why something was refused or ended.
	Reason Reason `json:"reason,omitempty"`
	// Status is what a refused request was answered with; 0 otherwise.
	Status Status `json:"status,omitempty"`
	// Expires is when a reservation that was opened or renewed ends.
	Expires time.Time `json:"expires,omitzero"`
	// Circuit is the number of a circuit that was opened or closed.
	Circuit uint64 `json:"circuit,omitempty"`
	// Sent and Received are the bytes that a closed circuit has carried from Peer
	// and to it.
	Sent     int64 `json:"sent,omitempty"`
	Received int64 `json:"received,omitempty"`
	// Took is how long a circuit took to open, or an offer to be answered.
	Took time.Duration `json:"-"`
	// Age is how long a closed circuit lasted.
	Age time.Duration `json:"-"`
}

// Reason is a stable word for why a [Server] refused or ended something.
type Reason string

// Why a request is refused; the first line of each names the status.
const (
	// ReasonMalformed (MALFORMED_MESSAGE) is a request that could not be read: not
	// in time, too long, no message, or without what its type needs.
	ReasonMalformed Reason = "malformed"
	// ReasonUnexpected (UNEXPECTED_MESSAGE) is a message that is no request.
	ReasonUnexpected Reason = "unexpected"
	// ReasonRelayed (PERMISSION_DENIED) is a request that came through a relay.
	ReasonRelayed Reason = "relayed"
	// ReasonDenied (PERMISSION_DENIED) is one that Config.AllowReserve or
	// Config.AllowConnect denied.
	ReasonDenied Reason = "denied"
	// ReasonRate (RESOURCE_LIMIT_EXCEEDED) is one too many of the peer in a short
	// time.
	ReasonRate Reason = "rate"
	// ReasonResources (RESOURCE_LIMIT_EXCEEDED) means that libp2p's resource
	// manager gave no memory or no stream.
	ReasonResources Reason = "resources"
	// ReasonDraining (RESERVATION_REFUSED or RESOURCE_LIMIT_EXCEEDED) means that
	// the relay is about to end.
	ReasonDraining Reason = "draining"

	// ReasonReservations (RESERVATION_REFUSED) is Limits.Reservations.
	ReasonReservations Reason = "reservations"
	// ReasonIP (RESERVATION_REFUSED) is Limits.ReservationsPerIP.
	ReasonIP Reason = "ip"
	// ReasonPrefix (RESERVATION_REFUSED) is Limits.ReservationsPerPrefix.
	ReasonPrefix Reason = "prefix"
	// ReasonASN (RESERVATION_REFUSED) is Limits.ReservationsPerASN.
	ReasonASN Reason = "asn"
	// ReasonVoucher (RESERVATION_REFUSED) means that the voucher could not be
	// signed.
	ReasonVoucher Reason = "voucher"

	// ReasonNoReservation (NO_RESERVATION) means that the destination has none.
	ReasonNoReservation Reason = "no-reservation"
	// ReasonCircuits (RESOURCE_LIMIT_EXCEEDED) is Limits.Circuits.
	ReasonCircuits Reason = "circuits"
	// ReasonSourceCircuits (RESOURCE_LIMIT_EXCEEDED) is Limits.CircuitsPerPeer of
	// who asked.
	ReasonSourceCircuits Reason = "source-circuits"
	// ReasonDestinationCircuits (RESOURCE_LIMIT_EXCEEDED) is Limits.CircuitsPerPeer
	// of the destination.
	ReasonDestinationCircuits Reason = "destination-circuits"
	// ReasonStreams (RESOURCE_LIMIT_EXCEEDED) means that the destination takes no
	// more streams on any of its connections; QUIC allows 256 on each.
	ReasonStreams Reason = "streams"
	// ReasonUnreachable (CONNECTION_FAILED) means that no connection to the
	// destination took a stream.
	ReasonUnreachable Reason = "unreachable"
	// ReasonDestinationRefused (CONNECTION_FAILED) means that the destination did
	// not accept the circuit in time.
	ReasonDestinationRefused Reason = "destination-refused"
)

// Why a circuit or a reservation ended.
const (
	// ReasonFinished is a circuit that both sides closed in good order.
	ReasonFinished Reason = "finished"
	// ReasonDuration is a circuit that reached Limits.Duration.
	ReasonDuration Reason = "duration"
	// ReasonBytes is a circuit with more to carry one way than Limits.Bytes.
	ReasonBytes Reason = "bytes"
	// ReasonStalled is a circuit one side of which did not read what it was sent.
	ReasonStalled Reason = "stalled"
	// ReasonSourceGone is a circuit whose source reset it or lost its connection.
	ReasonSourceGone Reason = "source-gone"
	// ReasonDestinationGone is a circuit whose destination did.
	ReasonDestinationGone Reason = "destination-gone"
	// ReasonExpired is a reservation that was not renewed.
	ReasonExpired Reason = "expired"
	// ReasonDisconnected is a reservation whose peer has closed its last direct
	// connection.
	ReasonDisconnected Reason = "disconnected"
	// ReasonOperator means that whoever runs the relay ended it.
	ReasonOperator Reason = "operator"
	// ReasonShutdown means that the relay was closed.
	ReasonShutdown Reason = "shutdown"
)

// status is the answer to a request of this type that was refused for r.
func (r Reason) status(request pb.HopMessage_Type) Status {
	switch r {
	case ReasonMalformed:
		return pb.Status_MALFORMED_MESSAGE
	case ReasonUnexpected:
		return pb.Status_UNEXPECTED_MESSAGE
	case ReasonRelayed, ReasonDenied:
		return PermissionDenied
	case ReasonNoReservation:
		return NoReservation
	case ReasonUnreachable, ReasonDestinationRefused, ReasonDisconnected:
		return ConnectionFailed
	case ReasonReservations, ReasonIP, ReasonPrefix, ReasonASN, ReasonVoucher:
		return ReservationRefused
	case ReasonDraining:
		if request == pb.HopMessage_RESERVE {
			return ReservationRefused
		}
		return ResourceLimitExceeded
	default:
		return ResourceLimitExceeded
	}
}
