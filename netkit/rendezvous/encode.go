package rendezvous

import (
	"encoding/binary"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// encode returns the message as protobuf, fields in the order of their
// numbers. Whoever builds a message sets its type and statuses: rust and Nim
// take a message without an explicit zero for malformed.
func (m message) encode() []byte {
	out := appendUint(make([]byte, 0, 32), fieldType, m.kind)
	if m.register != nil {
		out = appendPart(out, fieldRegister, m.register.appendTo)
	}
	if m.registerResponse != nil {
		out = appendPart(out, fieldRegisterResponse, m.registerResponse.appendTo)
	}
	if m.unregister != nil {
		out = appendPart(out, fieldUnregister, m.unregister.appendTo)
	}
	if m.discover != nil {
		out = appendPart(out, fieldDiscover, m.discover.appendTo)
	}
	if m.discoverResponse != nil {
		out = appendPart(out, fieldDiscoverResponse, m.discoverResponse.appendTo)
	}
	return out
}

func appendPart(out []byte, num protowire.Number, body func([]byte) []byte) []byte {
	out = protowire.AppendTag(out, num, protowire.BytesType)
	at := len(out)
	out = body(out)
	var size [binary.MaxVarintLen32]byte
	n := binary.PutUvarint(size[:], uint64(len(out)-at))
	return slices.Insert(out, at, size[:n]...)
}

func (r *registerMessage) appendTo(out []byte) []byte {
	out = appendString(out, fieldRegisterNS, r.ns)
	out = appendBytes(out, fieldRegisterRecord, r.record)
	out = appendUint(out, fieldRegisterTTL, r.ttl)
	return appendBytes(out, fieldRegisterOther, r.other)
}

func (r *registerResponse) appendTo(out []byte) []byte {
	out = appendUint(out, fieldRegisterStatus, r.status)
	out = appendString(out, fieldRegisterStatusText, r.text)
	return appendUint(out, fieldRegisterGrantedTTL, r.ttl)
}

func (u *unregisterMessage) appendTo(out []byte) []byte {
	return appendString(out, fieldUnregisterNS, u.ns)
}

func (d *discoverMessage) appendTo(out []byte) []byte {
	out = appendString(out, fieldDiscoverNS, d.ns)
	out = appendUint(out, fieldDiscoverLimit, d.limit)
	out = appendBytes(out, fieldDiscoverCookie, d.cookie)
	return appendBool(out, fieldDiscoverBoth, d.both)
}

func (d *discoverResponse) appendTo(out []byte) []byte {
	out = slices.Grow(out, len(d.encoded)+len(d.cookie)+16)
	for i := range d.registrations {
		out = appendPart(out, fieldDiscoverRegistrations, d.registrations[i].appendTo)
	}
	out = append(out, d.encoded...)
	out = appendBytes(out, fieldDiscoverResponseCookie, d.cookie)
	out = appendUint(out, fieldDiscoverStatus, d.status)
	out = appendString(out, fieldDiscoverStatusText, d.text)
	return appendBool(out, fieldDiscoverMore, d.more)
}
