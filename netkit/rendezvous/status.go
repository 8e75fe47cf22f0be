package rendezvous

import (
	"errors"
	"fmt"
	"strconv"
)

// ProtocolID is the libp2p protocol id of rendezvous.
const ProtocolID = "/rendezvous/1.0.0"

// ErrUnsupported is returned by the client when the peer does not speak
// [ProtocolID].
var ErrUnsupported = errors.New("peer does not support rendezvous")

// ErrMalformedReply is returned by the client for a reply that breaks the
// protocol.
var ErrMalformedReply = errors.New("malformed rendezvous reply")

// Status is a ResponseStatus of the specification.
type Status uint64

// The statuses of the specification, by number.
const (
	StatusOK                      Status = 0
	StatusInvalidNamespace        Status = 100
	StatusInvalidSignedPeerRecord Status = 101
	StatusInvalidTTL              Status = 102
	StatusInvalidCookie           Status = 103
	StatusNotAuthorized           Status = 200
	StatusInternalError           Status = 300
	StatusUnavailable             Status = 400
)

// String returns the specification's name of the status.
func (s Status) String() string {
	switch s {
	case StatusOK:
		return "OK"
	case StatusInvalidNamespace:
		return "E_INVALID_NAMESPACE"
	case StatusInvalidSignedPeerRecord:
		return "E_INVALID_SIGNED_PEER_RECORD"
	case StatusInvalidTTL:
		return "E_INVALID_TTL"
	case StatusInvalidCookie:
		return "E_INVALID_COOKIE"
	case StatusNotAuthorized:
		return "E_NOT_AUTHORIZED"
	case StatusInternalError:
		return "E_INTERNAL_ERROR"
	case StatusUnavailable:
		return "E_UNAVAILABLE"
	default:
		return strconv.FormatUint(uint64(s), 10)
	}
}

// StatusError is a refusal: the status and text a server answered with.
type StatusError struct {
	// Status is never [StatusOK].
	Status Status
	// Text is the server's explanation; it may be empty.
	Text string
	// reason is why this server refused.
	reason reason
}

// Error names the status and the server's explanation.
func (e *StatusError) Error() string {
	if e.Text == "" {
		return "rendezvous " + e.Status.String()
	}
	return fmt.Sprintf("rendezvous %s: %s", e.Status, e.Text)
}

// reason is why a server refuses, finer than the status.
type reason uint8

const (
	reasonNone reason = iota
	reasonMalformed
	reasonUnknownType
	reasonNamespace
	reasonRecord
	reasonOldRecord
	reasonAddrs
	reasonTTL
	reasonCookie
	reasonForeignRecord
	reasonAccess
	reasonPeerQuota
	reasonNamespaceQuota
	reasonPrefixQuota
	reasonFull
	reasonPeerRate
	reasonPrefixRate
	reasonWatchers
	reasonStorage
	reasonForgotten
	reasonAway
	reasonClock
	reasonCount
)

// word names a reason in [Stats].
func (r reason) word() string {
	return [reasonCount]string{
		reasonMalformed:      "malformed",
		reasonUnknownType:    "unknown_type",
		reasonNamespace:      "namespace",
		reasonRecord:         "record",
		reasonOldRecord:      "old_record",
		reasonAddrs:          "addresses",
		reasonTTL:            "ttl",
		reasonCookie:         "cookie",
		reasonForeignRecord:  "foreign_record",
		reasonAccess:         "access",
		reasonPeerQuota:      "peer_quota",
		reasonNamespaceQuota: "namespace_quota",
		reasonPrefixQuota:    "prefix_quota",
		reasonFull:           "full",
		reasonPeerRate:       "peer_rate",
		reasonPrefixRate:     "prefix_rate",
		reasonWatchers:       "watchers",
		reasonStorage:        "storage",
		reasonForgotten:      "forgotten",
		reasonAway:           "away",
		reasonClock:          "clock",
	}[r]
}

// status is what a refusal for the reason is answered with; a malformed
// request's depends on what is malformed.
func (r reason) status() Status {
	switch r {
	case reasonNamespace:
		return StatusInvalidNamespace
	case reasonMalformed, reasonRecord, reasonOldRecord, reasonAddrs:
		return StatusInvalidSignedPeerRecord
	case reasonTTL:
		return StatusInvalidTTL
	case reasonCookie, reasonForgotten:
		return StatusInvalidCookie
	case reasonForeignRecord, reasonAccess, reasonPeerQuota, reasonNamespaceQuota, reasonPrefixQuota:
		return StatusNotAuthorized
	case reasonFull, reasonPeerRate, reasonPrefixRate, reasonWatchers, reasonAway, reasonClock:
		return StatusUnavailable
	default:
		return StatusInternalError
	}
}

// refusal makes the error that becomes a reply with the reason's status.
func refusal(r reason, format string, args ...any) *StatusError {
	return &StatusError{Status: r.status(), Text: fmt.Sprintf(format, args...), reason: r}
}

// malformed makes the refusal of a request that could not be decoded.
func malformed(status Status, text string) *StatusError {
	return &StatusError{Status: status, Text: text, reason: reasonMalformed}
}
