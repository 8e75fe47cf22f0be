package vantage

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// MaxDelay is the longest that a reflector waits with an answer.
const MaxDelay = 10 * time.Minute

// The kinds of datagram.
const (
	kindReflect byte = iota + 1
	kindReflected
	kindAsk
	kindProbe
	kindLater
)

const (
	// headLen is magic, kind and number.
	headLen = 4 + 8
	// reflectLen and askLen are the least bytes of what a reflector answers: it
	// sends at most maxReflected back, and for an ask probeLen besides.
	reflectLen   = 64
	askLen       = 128
	maxReflected = headLen + 16 + 2
	probeLen     = headLen + 1
	// maxDatagram is the most bytes that are looked at.
	maxDatagram = 256
)

// datagram is one of any kind; which fields it has depends on that.
type datagram struct {
	kind  byte
	id    uint64
	at    netip.AddrPort // of reflected
	site  byte           // of ask and probe
	after time.Duration  // of later, in whole seconds
	token []byte         // of ask
}

func (d datagram) encode() []byte {
	out := append(make([]byte, 0, askLen), 0x0d, 'd', 'v', d.kind)
	out = binary.BigEndian.AppendUint64(out, d.id)
	switch d.kind {
	case kindReflect:
		return out[:reflectLen]
	case kindReflected:
		return appendEndpoint(out, d.at)
	case kindLater:
		return binary.BigEndian.AppendUint16(out, uint16(d.after/time.Second))[:reflectLen]
	case kindAsk:
		out = append(out, d.site, byte(len(d.token)))
		return append(out, d.token...)[:askLen]
	default:
		return append(out, d.site)
	}
}

// decodeDatagram is false for what is none of the protocol's, or shorter than it
// must be.
func decodeDatagram(b []byte) (d datagram, ok bool) {
	if len(b) < probeLen || b[0] != 0x0d || b[1] != 'd' || b[2] != 'v' {
		return d, false
	}
	d.kind, d.id = b[3], binary.BigEndian.Uint64(b[4:])
	body := b[headLen:]
	switch d.kind {
	case kindReflect:
		return d, len(b) >= reflectLen
	case kindLater:
		if len(b) < reflectLen {
			return d, false
		}
		d.after = time.Duration(binary.BigEndian.Uint16(body)) * time.Second
		return d, d.after <= MaxDelay
	case kindReflected:
		var err error
		d.at, err = decodeEndpoint(body)
		return d, err == nil
	case kindAsk:
		if len(b) < askLen || int(body[1]) > min(maxToken, len(body)-2) {
			return d, false
		}
		d.site, d.token = body[0], body[2:2+body[1]]
		return d, true
	case kindProbe:
		d.site = body[0]
		return d, true
	}
	return d, false
}
