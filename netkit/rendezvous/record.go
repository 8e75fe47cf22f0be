package rendezvous

import (
	"errors"
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protowire"
)

// Flavour is one of the two ways in which implementations seal a peer record.
type Flavour uint8

const (
	// Standard seals the domain "libp2p-peer-record" with payload type 03 01,
	// as Go, JS and Nim do.
	Standard Flavour = iota
	// Legacy seals the domain "libp2p-routing-state" with payload type
	// "/libp2p/routing-state-record", RFC 0003 to the letter, as rust-libp2p
	// does.
	Legacy
)

const (
	standardPayloadType = "\x03\x01"
	legacyDomain        = "libp2p-routing-state"
	legacyPayloadType   = "/libp2p/routing-state-record"
)

// String returns "standard" or "legacy".
func (f Flavour) String() string {
	if f == Legacy {
		return "legacy"
	}
	return "standard"
}

// MarshalText writes the flavour's name.
func (f Flavour) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

func (f Flavour) other() Flavour { return 1 - f }

// payloadType is the type of an envelope of the flavour.
func payloadType(f Flavour) string {
	if f == Legacy {
		return legacyPayloadType
	}
	return standardPayloadType
}

// Errors of records, wrapped by [OpenRecord].
var (
	// ErrRecordFlavour is an envelope of neither flavour.
	ErrRecordFlavour = errors.New("unknown payload type")
	// ErrRecordPeer is a record about a peer other than its signer.
	ErrRecordPeer = errors.New("record names another peer than its signer")
)

// Record is a verified peer record.
type Record struct {
	// Peer signed the record, which is about itself.
	Peer peer.ID
	// Seq orders the records of a peer.
	Seq uint64
	// Addrs are the peer's addresses, as sealed.
	Addrs []ma.Multiaddr
	// Flavour is how the record was sealed.
	Flavour Flavour
}

// legacyRecord is a peer record with the domain and type of RFC 0003.
type legacyRecord struct{ peer.PeerRecord }

func (*legacyRecord) Domain() string { return legacyDomain }
func (*legacyRecord) Codec() []byte  { return []byte(legacyPayloadType) }

// SealRecord returns the signed envelope of a record of key's own peer.
func SealRecord(key crypto.PrivKey, seq uint64, addrs []ma.Multiaddr, flavour Flavour) ([]byte, error) {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("seal record: %w", err)
	}
	body := peer.PeerRecord{PeerID: id, Seq: seq, Addrs: addrs}
	var rec record.Record = &body
	if flavour == Legacy {
		rec = &legacyRecord{body}
	}
	envelope, err := record.Seal(rec, key)
	if err != nil {
		return nil, fmt.Errorf("seal record: %w", err)
	}
	out, err := envelope.Marshal()
	if err != nil {
		return nil, fmt.Errorf("seal record: %w", err)
	}
	return out, nil
}

// OpenRecord verifies a signed envelope of either flavour, which it tells by
// the payload type, and checks that the record is about its signer.
func OpenRecord(envelope []byte) (*Record, error) {
	return openRecord(envelope, record.ConsumeTypedEnvelope)
}

// reopenRecord is OpenRecord for an envelope that was verified before.
func reopenRecord(envelope []byte) (*Record, error) {
	return openRecord(envelope, func(data []byte, dest record.Record) (*record.Envelope, error) {
		sealed, err := record.UnmarshalEnvelope(data)
		if err != nil {
			return nil, err
		}
		return sealed, sealed.TypedRecord(dest)
	})
}

func openRecord(envelope []byte, consume func([]byte, record.Record) (*record.Envelope, error)) (*Record, error) {
	flavour, err := envelopeFlavour(envelope)
	if err != nil {
		return nil, fmt.Errorf("open record: %w", err)
	}
	standard, legacy := new(peer.PeerRecord), new(legacyRecord)
	var dest record.Record = standard
	if flavour == Legacy {
		dest, standard = legacy, &legacy.PeerRecord
	}
	sealed, err := consume(envelope, dest)
	if err != nil {
		return nil, fmt.Errorf("open record: %w", err)
	}
	if !standard.PeerID.MatchesPublicKey(sealed.PublicKey) {
		return nil, fmt.Errorf("open record: %w", ErrRecordPeer)
	}
	return &Record{Peer: standard.PeerID, Seq: standard.Seq, Addrs: standard.Addrs, Flavour: flavour}, nil
}

// envelopeFlavour reads the payload type, field 2 of the envelope.
func envelopeFlavour(envelope []byte) (Flavour, error) {
	var kind []byte
	err := walk(envelope, func(num protowire.Number, typ protowire.Type, value []byte) (int, error) {
		if num == 2 {
			return consumeBytes(typ, value, &kind)
		}
		return 0, nil
	})
	switch {
	case err != nil:
		return 0, err
	case string(kind) == payloadType(Standard):
		return Standard, nil
	case string(kind) == payloadType(Legacy):
		return Legacy, nil
	default:
		return 0, ErrRecordFlavour
	}
}

// envelopeSeq reads the seq, field 2 of the payload, field 3 of an envelope that
// was verified before; 0 where there is none.
func envelopeSeq(envelope []byte) uint64 {
	var payload []byte
	var seq *uint64
	_ = walk(envelope, func(num protowire.Number, typ protowire.Type, value []byte) (int, error) {
		if num == 3 {
			return consumeBytes(typ, value, &payload)
		}
		return 0, nil
	})
	_ = walk(payload, func(num protowire.Number, typ protowire.Type, value []byte) (int, error) {
		if num == 2 {
			return consumeUint(typ, value, &seq)
		}
		return 0, nil
	})
	return *orEmpty(seq)
}

// legacyOnly reports whether a peer with this agent, or a peer met in this
// namespace, is known to read no records but legacy ones.
func legacyOnly(agent, namespace string) bool {
	return strings.HasPrefix(agent, "rust-libp2p/") || namespace == "aquadoggo"
}
