package dial

import (
	"time"

	"dibber/netkit/ping"

	"github.com/libp2p/go-libp2p/core/peer"
)

// The words of Result.Path.
const (
	Direct  = "direct"
	Relayed = "relayed"
	Punched = "punched" // direct now, relayed at first
)

// Result is how a peer was reached, or what was tried in vain.
type Result struct {
	Peer    *peer.ID `json:"peer"`    // null: nobody told who is there
	Path    *string  `json:"path"`    // direct, relayed or punched; null: not connected
	Limited *bool    `json:"limited"` // whether the relay limits the connection; null: not connected
	Limits  *Limits  `json:"limits"`  // null: no limits, or not connected
	Addr    *string  `json:"addr"`    // the address that won; null: not connected

	Transport  *string `json:"transport"` // quic, tcp, ws, wss, webtransport, webrtc-direct
	Security   *string `json:"security"`  // protocol id, such as /noise; tls-1.3 within QUIC
	Muxer      *string `json:"muxer"`     // protocol id, such as /yamux/1.0.0; quic within QUIC and WebTransport, sctp within WebRTC
	EarlyMuxer *bool   `json:"early_muxer"`

	ConnectedMS *float64 `json:"connected_ms"` // from the start of the dial, names resolved; null: not connected

	Attempts []Attempt    `json:"attempts"`
	Identify *Identify    `json:"identify"` // null: identify did not complete
	Ping     *ping.Result `json:"ping"`     // null: no pings were sent
	Pongs    []ping.Pong  `json:"pongs"`
	Upgrade  *Upgrade     `json:"upgrade"` // null: never relayed

	// Changes and Paths are null when the path was not followed, by Config.Hold or
	// Config.Watch. Only the last 1000 changes are kept.
	Changes        *[]Change    `json:"changes"`
	ChangesOmitted int          `json:"changes_omitted"`
	Paths          *[]PathStats `json:"paths"`
}

// Limits are what a relay grants the connection and what is left of it.
type Limits struct {
	DurationS     float64  `json:"duration_s"` // 0 is no limit
	Bytes         uint64   `json:"bytes"`      // each way; 0 is no limit
	DurationLeftS *float64 `json:"duration_left_s"`
	BytesLeft     *uint64  `json:"bytes_left"` // null: not counted on this side
}

// The words of Attempt.Outcome.
const (
	Won       = "won"
	Failed    = "failed"
	Cancelled = "cancelled" // under way when another address won
	NotTried  = "not_tried" // its turn never came
	Skipped   = "skipped"   // ruled out before its turn
)

// Attempt is one line of the waterfall. A phase is null when it was not reached
// or, as with QUIC, is part of the transport's handshake.
type Attempt struct {
	Addr         string   `json:"addr"`
	ResolvedFrom *string  `json:"resolved_from"` // the address with a name it came from
	StartMS      *float64 `json:"start_ms"`      // after the start of the dial
	DelayMS      float64  `json:"delay_ms"`      // how long the ranking held it back
	DNSms        *float64 `json:"dns_ms"`        // null: no name to resolve
	TransportMS  *float64 `json:"transport_ms"`
	SecurityMS   *float64 `json:"security_ms"`
	MuxMS        *float64 `json:"mux_ms"`
	TotalMS      *float64 `json:"total_ms"`
	Outcome      string   `json:"outcome"`
	Reason       *Reason  `json:"reason"` // null: it won
	Error        *string  `json:"error"`  // the error as the layer told it
}

// Identify is what the peer says about itself (libp2p/specs identify).
type Identify struct {
	Agent           string   `json:"agent"`
	ProtocolVersion string   `json:"protocol_version"`
	Protocols       []string `json:"protocols"`
	ListenAddrs     []string `json:"listen_addrs"`
	ObservedAddr    *string  `json:"observed_addr"` // where it sees us; null: it did not say
	KeyType         *string  `json:"key_type"`
	PublicKey       *string  `json:"public_key_b64"` // protobuf as peer ids are made of
	SignedRecord    bool     `json:"signed_record"`
	MS              float64  `json:"ms"` // from connected to identified
}

// Upgrade is what became of a relayed connection.
type Upgrade struct {
	OK     bool     `json:"ok"`
	MS     *float64 `json:"ms"`     // from relayed to direct; null: still relayed
	Reason *string  `json:"reason"` // why not: no-direct-connection; null when ok
}

// ms is the time from one moment to a later one; null when either never came.
func ms(from, to time.Time) *float64 {
	if from.IsZero() || to.IsZero() {
		return nil
	}
	return new(ping.Milliseconds(to.Sub(from)))
}
