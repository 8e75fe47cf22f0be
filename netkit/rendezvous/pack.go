package rendezvous

import (
	"bytes"
	"encoding/binary"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protowire"
)

// A registry holds envelopes without what they repeat. An envelope with an
// Ed25519 key says the key twice, in itself and as the peer id in its payload,
// and the two flavours of a record differ in nothing but type and signature.
// What is left is the signature and the payload after the peer id: 90 bytes for
// 168 with one address, and 64 more for the other flavour rather than 194.
// Envelopes of any other shape are kept as they are: what comes out is always,
// byte for byte, what went in.
//
// A packed record begins with a byte of shapes, two bits a flavour.

// shape is how a packed record holds the envelope of a flavour.
type shape uint8

const (
	// shapeNone is no envelope.
	shapeNone shape = iota
	// shapeSplit is the signature, then the length and bytes of the payload
	// after the peer id.
	shapeSplit
	// shapeRaw is the length and bytes of the envelope.
	shapeRaw
	// shapeShared is the signature alone: the rest is the other flavour's.
	shapeShared
)

const signatureBytes = 64

// Tags of the envelope of RFC 0002 and the payload of RFC 0003.
const (
	tagPublicKey   = 1<<3 | byte(protowire.BytesType)
	tagPayloadType = 2<<3 | byte(protowire.BytesType)
	tagPayload     = 3<<3 | byte(protowire.BytesType)
	tagSignature   = 5<<3 | byte(protowire.BytesType)
	tagPayloadPeer = 1<<3 | byte(protowire.BytesType)
	tagPayloadSeq  = 2 << 3
)

// idPrefix begins the peer id of an Ed25519 key: the identity multihash of a
// public key of 36 bytes.
const idPrefix = "\x00\x24"

const idBytes = 38

// part is an envelope in the form it is packed in.
type part struct {
	shape     shape
	signature string
	// rest is what follows the peer id in the payload, or the whole envelope.
	rest string
}

// pack packs the envelopes of a peer, by flavour; nil is none.
func pack(id peer.ID, records [2][]byte) packed {
	first, second := split(id, Standard, records[Standard]), split(id, Legacy, records[Legacy])
	if first.shape == shapeSplit && second.shape == shapeSplit && first.rest == second.rest {
		second = part{shape: shapeShared, signature: second.signature}
	}
	out := make([]byte, 1, 1+2*signatureBytes+len(first.rest)+len(second.rest)+2*binary.MaxVarintLen32)
	out[0] = byte(first.shape) | byte(second.shape)<<2
	for _, p := range []part{first, second} {
		out = append(out, p.signature...)
		if p.shape == shapeSplit || p.shape == shapeRaw {
			out = binary.AppendUvarint(out, uint64(len(p.rest)))
			out = append(out, p.rest...)
		}
	}
	return packed(out)
}

// split takes an envelope apart, if putting it together again gives the same.
func split(id peer.ID, flavour Flavour, envelope []byte) part {
	if envelope == nil {
		return part{}
	}
	raw := part{shape: shapeRaw, rest: string(envelope)}
	head := appendHead(nil, id, flavour)
	if head == nil || !bytes.HasPrefix(envelope, head) || len(envelope) < len(head)+1 || envelope[len(head)] != tagPayload {
		return raw
	}
	payload, n := protowire.ConsumeBytes(envelope[len(head)+1:])
	if n < 0 {
		return raw
	}
	tail := envelope[len(head)+1+n:]
	if len(payload) < 2+idBytes || len(tail) != 2+signatureBytes {
		return raw
	}
	p := part{shape: shapeSplit, signature: string(tail[2:]), rest: string(payload[2+idBytes:])}
	if !bytes.Equal(p.appendTo(nil, id, flavour), envelope) {
		return raw
	}
	return p
}

// appendHead appends the part of an envelope before its payload, or returns
// nil for a key that is not in its peer id.
func appendHead(out []byte, id peer.ID, flavour Flavour) []byte {
	if len(id) != idBytes || id[:len(idPrefix)] != idPrefix {
		return nil
	}
	out = append(out, tagPublicKey, idBytes-2)
	out = append(out, id[2:]...)
	kind := payloadType(flavour)
	out = append(out, tagPayloadType, byte(len(kind)))
	return append(out, kind...)
}

// size is the length of the envelope.
func (p part) size(flavour Flavour) int {
	switch p.shape {
	case shapeNone:
		return 0
	case shapeRaw:
		return len(p.rest)
	default:
		payload := 2 + idBytes + len(p.rest)
		return 2 + idBytes - 2 + 2 + len(payloadType(flavour)) + 1 + protowire.SizeBytes(payload) + 2 + signatureBytes
	}
}

// appendTo appends the envelope.
func (p part) appendTo(out []byte, id peer.ID, flavour Flavour) []byte {
	switch p.shape {
	case shapeNone:
		return out
	case shapeRaw:
		return append(out, p.rest...)
	case shapeSplit, shapeShared:
	}
	out = appendFront(out, id, flavour, len(p.rest))
	out = append(out, p.rest...)
	out = append(out, tagSignature, signatureBytes)
	return append(out, p.signature...)
}

// appendFront appends what comes before the rest of so many bytes.
func appendFront(out []byte, id peer.ID, flavour Flavour, rest int) []byte {
	out = appendHead(out, id, flavour)
	out = append(out, tagPayload)
	out = binary.AppendUvarint(out, uint64(2+idBytes+rest))
	out = append(out, tagPayloadPeer, idBytes)
	return append(out, id...)
}

// is reports whether the part is of this envelope. It takes little stack: every
// stream has one of its own, that would have to grow.
func (p part) is(envelope []byte, id peer.ID, flavour Flavour) bool {
	if p.shape == shapeNone || len(envelope) != p.size(flavour) {
		return false
	}
	if p.shape == shapeRaw {
		return string(envelope) == p.rest
	}
	tail := len(envelope) - signatureBytes
	rest := tail - 2 - len(p.rest)
	if string(envelope[tail:]) != p.signature || string(envelope[rest:tail-2]) != p.rest {
		return false
	}
	var room [128]byte
	front := appendFront(room[:0], id, flavour, len(p.rest))
	return bytes.Equal(front, envelope[:rest]) && envelope[tail-2] == tagSignature && envelope[tail-1] == signatureBytes
}

// seq is the record's seq as the payload begins with it; false for an envelope
// that was not taken apart, and for a payload without one.
func (p part) seq() (uint64, bool) {
	if p.shape == shapeNone || p.shape == shapeRaw || p.rest == "" || p.rest[0] != tagPayloadSeq {
		return 0, false
	}
	var buf [binary.MaxVarintLen64]byte
	v, n := protowire.ConsumeVarint(buf[:copy(buf[:], p.rest[1:])])
	return v, n > 0
}

// packed is a packed record.
type packed string

// has reports whether there is an envelope of the flavour.
func (p packed) has(flavour Flavour) bool { return p.shape(flavour) != shapeNone }

func (p packed) shape(flavour Flavour) shape {
	if p == "" {
		return shapeNone
	}
	return shape(p[0] >> (2 * flavour) & 3)
}

// part returns the envelope of a flavour in its parts.
func (p packed) part(flavour Flavour) part {
	if p == "" {
		return part{}
	}
	at := p[1:]
	first := at.next(p.shape(Standard))
	if flavour == Standard {
		return first
	}
	second := at.next(p.shape(Legacy))
	if second.shape == shapeShared {
		second.rest = first.rest
	}
	return second
}

// next cuts a part off the front.
func (p *packed) next(s shape) part {
	out := part{shape: s}
	if s == shapeSplit || s == shapeShared {
		out.signature = string((*p)[:signatureBytes])
		*p = (*p)[signatureBytes:]
	}
	if s == shapeSplit || s == shapeRaw {
		var buf [binary.MaxVarintLen32]byte
		size, n := binary.Uvarint(buf[:copy(buf[:], *p)])
		out.rest = string((*p)[n : n+int(size)])
		*p = (*p)[n+int(size):]
	}
	return out
}

// envelope returns the envelope of a flavour, or nil.
func (p packed) envelope(id peer.ID, flavour Flavour) []byte {
	part := p.part(flavour)
	if part.shape == shapeNone {
		return nil
	}
	return part.appendTo(make([]byte, 0, part.size(flavour)), id, flavour)
}

// recordSeq is the seq inside the envelope of a flavour, 0 for none.
func (p packed) recordSeq(id peer.ID, flavour Flavour) uint64 {
	part := p.part(flavour)
	if seq, ok := part.seq(); ok || part.shape == shapeNone {
		return seq
	}
	return envelopeSeq(p.envelope(id, flavour))
}

// valid reports whether p, read from a disk, can be unpacked.
func (p packed) valid(id peer.ID) bool {
	if p == "" || p[0]>>4 != 0 {
		return false
	}
	rest := p[1:]
	for _, f := range []Flavour{Standard, Legacy} {
		s := p.shape(f)
		split := s == shapeSplit || s == shapeShared
		if split && (len(rest) < signatureBytes || appendHead(nil, id, f) == nil) ||
			s == shapeShared && (f == Standard || p.shape(Standard) != shapeSplit) {
			return false
		}
		if split {
			rest = rest[signatureBytes:]
		}
		if s == shapeSplit || s == shapeRaw {
			var buf [binary.MaxVarintLen32]byte
			size, n := binary.Uvarint(buf[:copy(buf[:], rest)])
			if n <= 0 || size > uint64(len(rest)-n) {
				return false
			}
			rest = rest[n+int(size):]
		}
	}
	return rest == "" && (p.has(Standard) || p.has(Legacy))
}
