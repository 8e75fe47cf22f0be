package relay

import (
	"errors"
	"fmt"
	"strings"

	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
)

// ErrUnsupported means that the peer is no circuit relay v2.
var ErrUnsupported = errors.New("peer is no circuit relay v2")

// Status is the answer of a relay, by the names of the specification.
type Status = pb.Status

// The statuses that decide what to do next.
const (
	NoReservation         = pb.Status_NO_RESERVATION
	ReservationRefused    = pb.Status_RESERVATION_REFUSED
	ResourceLimitExceeded = pb.Status_RESOURCE_LIMIT_EXCEEDED
	PermissionDenied      = pb.Status_PERMISSION_DENIED
	ConnectionFailed      = pb.Status_CONNECTION_FAILED
)

// ErrRelayLost means that the connection to the relay ended, and with it the
// reservation.
var ErrRelayLost = errors.New("connection to the relay ended")

// ErrWithdrawn means that the relay is still connected but relays no more.
var ErrWithdrawn = errors.New("the relay relays no more")

// Refused reports whether s says that the relay could but would not.
func Refused(s Status) bool {
	return s == ReservationRefused || s == ResourceLimitExceeded || s == PermissionDenied
}

// ConnectStatus tells what a relay answered to a request to connect, given the
// error of dialling a relayed address; false when no relay answered. The library
// hands the status on as text only, so this is the one place that reads an
// error's text.
func ConnectStatus(err error) (Status, bool) {
	if err == nil {
		return 0, false
	}
	_, rest, ok := strings.Cut(err.Error(), "error opening relay circuit: ")
	if !ok {
		return 0, false
	}
	name, _, _ := strings.Cut(rest, " ")
	s, ok := pb.Status_value[name]
	return Status(s), ok
}

// ReserveError is why a relay gave no reservation.
type ReserveError struct {
	Relay  string // peer id
	Status Status // ConnectionFailed when the relay did not answer
	Err    error
}

func (e *ReserveError) Error() string {
	if e.Status == ConnectionFailed || e.Err != nil {
		return fmt.Sprintf("reserve on %s: %v", e.Relay, e.Err)
	}
	return fmt.Sprintf("reserve on %s: relay answered %s", e.Relay, e.Status)
}

func (e *ReserveError) Unwrap() error { return e.Err }

// reserveError translates the library's error.
func reserveError(relay string, err error) error {
	out := &ReserveError{Relay: relay, Status: ConnectionFailed, Err: err}
	var re client.ReservationError
	switch {
	case host.NotSupported(err):
		out.Err = ErrUnsupported
	case errors.As(err, &re) && re.Status != ConnectionFailed:
		out.Status, out.Err = re.Status, re.Unwrap()
	case errors.As(err, &re):
		out.Err = re.Unwrap()
	}
	return out
}
