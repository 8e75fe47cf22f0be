package punch

import (
	"time"

	"dibber/netkit/nat"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Role says which end of a punch this host is.
type Role string

// The roles of DCUtR.
const (
	Initiator Role = "initiator" // asks: it was called through the relay, or makes an offer by way of it
	Responder Role = "responder" // answers
)

// The words of Report.Outcome.
const (
	Direct        = "direct"
	AlreadyDirect = "already-direct"
	Failed        = "failed"
)

// The words of Report.Reason.
const (
	ReasonNoRelay       = "no-relay-connection"
	ReasonRefused       = "relay-refused"
	ReasonNoReservation = "no-reservation"
	ReasonNoProtocol    = "no-dcutr-protocol"
	ReasonNoStream      = "no-dcutr-stream"
	ReasonNoLocalAddr   = "no-public-addr-local"
	ReasonNoRemoteAddr  = "no-public-addr-remote"
	ReasonCoordination  = "coordination-error"
	ReasonAttemptsEnded = "all-attempts-failed"
	ReasonLost          = "direct-lost"
	ReasonCancelled     = "cancelled"
)

// The words of Dropped.Reason.
const (
	DroppedMalformed = "malformed"
	DroppedRelayed   = "relayed"
	DroppedName      = "not-an-ip-address"
	DroppedTransport = "transport"
	DroppedTooMany   = "too-many"
	DroppedElsewhere = "not-attested" // by the relay, to be the peer's
	DroppedSpent     = "budget-spent" // for that IP address within the minute
)

// The words of Config.Method, and the first also of Report.Method: both ends dialling
// what DCUtR told them of each other. The other methods are those of nat.Method.
const (
	MethodDCUtR = "dcutr"
	MethodAuto  = "auto"
)

// Report is what became of one punch: as this end saw it, and as the other did.
type Report struct {
	View
	Other *View `json:"other"` // null: the other end did not tell
}

// View is a punch as one end saw it.
type View struct {
	Run     string    `json:"run"`  // both ends' where both told it, else this end's own
	Peer    peer.ID   `json:"peer"` // the other end
	Role    Role      `json:"role"`
	Outcome string    `json:"outcome"`
	Reason  *string   `json:"reason"` // of a failure
	Detail  *string   `json:"detail"` // of a failure, in words
	Started time.Time `json:"started"`

	Relayed   bool    `json:"relayed"`   // there was a relayed connection first; false: the two met by an offer that the relay carried
	Method    *string `json:"method"`    // that gave the direct connection; null: none did
	Transport *string `json:"transport"` // of the direct connection
	Addr      *string `json:"addr"`      // of the peer on the direct connection

	Attempts []Attempt `json:"attempts"`
	Dropped  []Dropped `json:"dropped"` // addresses the peer named that were not dialled
	Timeline []Step    `json:"timeline"`

	RelayedMS    *float64  `json:"relayed_ms"`     // to the relayed connection; null: this end did not call, or there was none
	DirectMS     *float64  `json:"direct_ms"`      // from the relayed connection, or from the offer where there was none, to the direct one
	RTTRelayedMS *float64  `json:"rtt_relayed_ms"` // of the last exchange
	RTTDirectMS  *float64  `json:"rtt_direct_ms"`
	Verified     *Verified `json:"verified"` // null: the direct connection carried nothing

	HeldMS *float64 `json:"held_ms"` // how long it lasted after that; null: it was not held

	LocalNAT  *string `json:"local_nat"` // null: not known, or not in full
	RemoteNAT *string `json:"remote_nat"`
	Plan      *Plan   `json:"plan"` // null: one end does not know its NAT, or wanted no more than DCUtR
}

// Plan is what the two ends agreed to do, of what is known of both NATs.
type Plan struct {
	Method nat.Method `json:"method"` // none: no packet of either would reach the other
	Why    nat.Why    `json:"why"`
	Family string     `json:"family"` // ip4 or ip6
	Acts   bool       `json:"acts"`   // this end dials or sprays; the other one waits, or opens ports
}

// Attempt is both ends dialling each other once.
type Attempt struct {
	N       int      `json:"n"` // from 1
	Method  string   `json:"method"`
	RTTms   float64  `json:"rtt_ms"` // through the relay
	Local   []string `json:"local_addrs"`
	Remote  []string `json:"remote_addrs"`
	Outcome string   `json:"outcome"` // direct or failed
	Error   *string  `json:"error"`
	MS      float64  `json:"ms"`
}

// Dropped is an address that a peer named and that is not dialled.
type Dropped struct {
	Addr   string `json:"addr"` // empty: malformed
	Reason string `json:"reason"`
}

// Step is one thing that happened.
type Step struct {
	Side  Role     `json:"side"`  // whose step it is
	AtMS  float64  `json:"at_ms"` // after the relayed connection stood, or the offer was made or came where there was none; by this end's clock
	Event string   `json:"event"`
	Addrs []string `json:"addrs,omitempty"`
	Error *string  `json:"error,omitempty"`
}

// Verified is what the direct connection carried.
type Verified struct {
	Bytes int     `json:"bytes"` // each way, in pings
	RTTms float64 `json:"rtt_ms"`
	// RelayClosed tells that the last ping came back when there was no relayed
	// connection any more, or never was one.
	RelayClosed bool `json:"relay_closed"`
}

// Event is a step of a run, or its end. Exactly one of Step and Report is set.
type Event struct {
	Run    string
	Peer   peer.ID
	Step   *Step
	Report *Report
}
