package vantage

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	"google.golang.org/protobuf/encoding/protowire"
)

// attestationMax bounds the bytes of an attestation: two RSA keys' worth.
const attestationMax = 2048

// Attestation is a server's signed word that it saw a peer at an endpoint: the other
// end of a connection over which the peer had proved its identity. A third party can
// check it, and so knows an address of the peer that the peer cannot have invented.
type Attestation struct {
	// Server is who says so.
	Server peer.ID
	Peer   peer.ID
	// Observed is where the peer's connection came from, by UDP or TCP.
	Observed netip.AddrPort
	// At is when, by the server's clock, to the millisecond.
	At time.Time
}

// attestationRecord is an Attestation in the envelope of libp2p (RFC 0002 of libp2p/specs).
// It is protobuf: peer = 1, endpoint = 2, milliseconds since 1970 = 3.
type attestationRecord struct{ Attestation }

// Domain implements record.Record.
func (*attestationRecord) Domain() string { return "dibber-vantage-attestation" }

// Codec implements record.Record.
func (*attestationRecord) Codec() []byte { return []byte(Protocol + "/attestation") }

// MarshalRecord implements record.Record.
func (r *attestationRecord) MarshalRecord() ([]byte, error) {
	out := appendBytes(nil, 1, []byte(r.Peer))
	out = appendBytes(out, 2, appendEndpoint(nil, r.Observed))
	return protowire.AppendVarint(protowire.AppendTag(out, 3, protowire.VarintType), uint64(r.At.UnixMilli())), nil
}

// UnmarshalRecord implements record.Record.
func (r *attestationRecord) UnmarshalRecord(data []byte) error {
	return walk(data, func(num protowire.Number, v value) (err error) {
		switch num {
		case 1:
			r.Peer, err = peer.IDFromBytes(v.data)
		case 2:
			r.Observed, err = v.endpoint()
		case 3:
			var at uint64
			if at, err = v.uint(); err == nil {
				r.At = time.UnixMilli(int64(at))
			}
		default: // of a later version
		}
		return err
	})
}

// Sign makes an Attestation of whose key it is given; Server is left out of account.
func (a Attestation) Sign(key crypto.PrivKey) ([]byte, error) {
	e, err := record.Seal(&attestationRecord{a}, key)
	if err != nil {
		return nil, fmt.Errorf("vantage: sign attestation: %w", err)
	}
	return e.Marshal()
}

// OpenAttestation checks the signature of an Attestation and says what it holds. How old
// it may be, and whose, is for the caller to say.
func OpenAttestation(signed []byte) (Attestation, error) {
	if len(signed) > attestationMax {
		return Attestation{}, fmt.Errorf("vantage: %w: attestation of %d bytes", errMalformed, len(signed))
	}
	var r attestationRecord
	e, err := record.ConsumeTypedEnvelope(signed, &r)
	if err != nil {
		return Attestation{}, fmt.Errorf("vantage: attestation: %w", err)
	}
	if r.Server, err = peer.IDFromPublicKey(e.PublicKey); err != nil {
		return Attestation{}, fmt.Errorf("vantage: attestation: %w", err)
	}
	if !r.Observed.IsValid() || r.Peer == "" {
		return Attestation{}, fmt.Errorf("vantage: %w: attestation without peer or endpoint", errMalformed)
	}
	return r.Attestation, nil
}

// AskAttestation is Ask for an answer with an Attestation of what the server sees.
func AskAttestation(ctx context.Context, st wire.Stream) (Answer, error) {
	return ask(ctx, st, askAttestation)
}
