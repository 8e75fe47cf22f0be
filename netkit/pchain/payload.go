package pchain

import (
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Kind is what a message is.
type Kind string

// The kinds.
const (
	KindProposal       Kind = "proposal"
	KindNudge          Kind = "nudge"
	KindVote           Kind = "vote"
	KindNewView        Kind = "new-view"
	KindSyncRequest    Kind = "sync-request"
	KindSyncResponse   Kind = "sync-response"
	KindTransaction    Kind = "transaction"
	KindMempoolDropped Kind = "mempool-dropped"
	KindExecDropped    Kind = "executor-dropped"
	KindOpaque         Kind = "opaque" // bytes of which the topic does not say what they are
)

// Payload is a message that was decoded. At most one of the pointers is set, none of an opaque one.
type Payload struct {
	Kind        Kind         `json:"kind"`
	Message     *Message     `json:"message,omitempty"`
	Transaction *Transaction `json:"transaction,omitempty"`
	Dropped     *Dropped     `json:"dropped,omitempty"`
	// TxVersion is that of Transaction: 1 or 2; 0 without one.
	TxVersion TxVersion `json:"tx_version,omitempty"`
	// Trailing are bytes after the message, which peers ignore.
	Trailing int `json:"trailing,omitempty"`
}

// ErrTooLong means that a message is longer than MaxMessage.
var ErrTooLong = errors.New("message too long")

// ErrTopic means that no application of this version is handed a topic's messages.
var ErrTopic = errors.New("topic has no meaning in this profile")

// Decode reads a message by what its topic says that it is. Errors wrap ErrTooLong, ErrTopic, ErrMalformed or ErrStatus.
func (p Profile) Decode(topic string, data []byte) (Payload, error) {
	if len(data) > MaxMessage {
		return Payload{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, len(data), MaxMessage)
	}
	var out Payload
	rest, err := p.decode(topic, data, &out)
	if err != nil {
		return Payload{}, fmt.Errorf("message on %.100q: %w", topic, err)
	}
	out.Kind = out.kind()
	out.Trailing = len(rest)
	return out, nil
}

func (p Profile) decode(topic string, data []byte, out *Payload) (rest []byte, err error) {
	_, mailbox := p.Owner(topic)
	switch {
	case mailbox && p.AnyTopic:
		m := new(Message)
		if rest, err = unmarshal(data, m); err != nil {
			return nil, nil // these versions let applications write to each other whatever they like
		}
		out.Message = m
		return rest, nil
	case topic == p.Consensus, mailbox:
		out.Message = new(Message)
		return unmarshal(data, out.Message)
	case topic == p.Mempool && p.versioned:
		var tx versioned
		rest, err = unmarshal(data, &tx)
		out.Transaction, out.TxVersion = tx.V1, TxV1
		if tx.V2 != nil {
			out.Transaction, out.TxVersion = tx.V2, TxV2
		}
		return rest, err
	case topic == p.Mempool:
		out.Transaction, out.TxVersion = new(Transaction), TxV1
		return unmarshal(data, out.Transaction)
	case p.Dropped != "" && topic == p.Dropped:
		out.Dropped = new(Dropped)
		return unmarshal(data, out.Dropped)
	case p.AnyTopic:
		return nil, nil
	}
	return nil, ErrTopic
}

func (p Payload) kind() Kind {
	switch p.Content().(type) {
	case *Transaction:
		return KindTransaction
	case *DroppedFromMempool:
		return KindMempoolDropped
	case *DroppedFromExecutor:
		return KindExecDropped
	case *Proposal:
		return KindProposal
	case *Nudge:
		return KindNudge
	case *Vote:
		return KindVote
	case *NewView:
		return KindNewView
	case *SyncRequest:
		return KindSyncRequest
	case *SyncResponse:
		return KindSyncResponse
	}
	return KindOpaque
}

// Encode writes a payload as it travels on its topic, which Decode reads. Errors wrap ErrMalformed, ErrStatus, or ErrTopic where
// this profile has no such message.
func (p Profile) Encode(m Payload) ([]byte, error) {
	var value any
	switch {
	case m.Message != nil:
		value = *m.Message
	case m.Transaction != nil && p.versioned && m.TxVersion == TxV1:
		value = versioned{V1: m.Transaction}
	case m.Transaction != nil && p.versioned && m.TxVersion == TxV2:
		value = versioned{V2: m.Transaction}
	case m.Transaction != nil && !p.versioned && m.TxVersion == TxV1:
		value = *m.Transaction
	case m.Dropped != nil && p.Dropped != "":
		value = *m.Dropped
	default:
		return nil, fmt.Errorf("encode a %s for %s: %w", m.Kind, p.Name, ErrTopic)
	}
	out, err := marshal(nil, value)
	if err != nil {
		return nil, fmt.Errorf("encode a %s: %w", m.Kind, err)
	}
	if len(out) > MaxMessage {
		return nil, fmt.Errorf("encode a %s: %w: %d bytes, at most %d", m.Kind, ErrTooLong, len(out), MaxMessage)
	}
	return out, nil
}

// Envelope is a message that came, with who sent it.
type Envelope struct {
	Origin  Address
	Topic   string
	To      *Address // whose mailbox it came to; nil on other topics
	Data    []byte
	Payload Payload
}

// Open makes an envelope of a message of gossip, whose signature has been verified to be from's. Errors are those of AddressOf, of
// which peers drop the messages, and of Decode.
func (p Profile) Open(topic string, from peer.ID, data []byte) (Envelope, error) {
	origin, err := AddressOf(from)
	if err != nil {
		return Envelope{}, err
	}
	payload, err := p.Decode(topic, data)
	if err != nil {
		return Envelope{}, err
	}
	e := Envelope{Origin: origin, Topic: topic, Data: data, Payload: payload}
	if a, ok := p.Owner(topic); ok {
		e.To = &a
	}
	return e, nil
}

// Content is the part of a payload that its kind names: a Proposal, a Transaction and so on; nil for an opaque one.
func (p Payload) Content() any {
	switch {
	case p.Transaction != nil:
		return p.Transaction
	case p.Dropped != nil && p.Dropped.Mempool != nil:
		return p.Dropped.Mempool
	case p.Dropped != nil:
		return p.Dropped.Executor
	case p.Message == nil:
		return nil
	case p.Message.Sync != nil && p.Message.Sync.Request != nil:
		return p.Message.Sync.Request
	case p.Message.Sync != nil:
		return p.Message.Sync.Response
	}
	switch m := p.Message.Progress; {
	case m.Proposal != nil:
		return m.Proposal
	case m.Nudge != nil:
		return m.Nudge
	case m.Vote != nil:
		return m.Vote
	default:
		return m.NewView
	}
}
