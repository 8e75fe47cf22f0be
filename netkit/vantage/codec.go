package vantage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"dibber/netkit/wire"

	"google.golang.org/protobuf/encoding/protowire"
)

// Protocol is the protocol of the streams.
const Protocol = "/dibber/vantage/1.0.0"

const (
	// maxRequest and maxAnswer bound the frames in bytes.
	maxRequest = 64
	maxAnswer  = 8192
	// maxSites bounds how many sites an answer names, maxPorts how many ports of a
	// kind each of them has.
	maxSites = 16
	maxPorts = 8
	// maxToken bounds a token in bytes, as a datagram has room for.
	maxToken = 64
)

// The kinds of request.
const (
	askSites uint64 = iota
	askConnect
	askAttestation
)

// errMalformed is a message that is not of the protocol.
var errMalformed = errors.New("malformed message")

// Site is one address of a server.
type Site struct {
	// IP is the address by the server's own knowledge.
	IP netip.Addr
	// Here marks the address that the asker's connection came to.
	Here bool
	// Ports reflect, the QUIC port first.
	Ports []uint16
	// Probe answers only asks for it; 0 is none.
	Probe uint16
	// TCP is a port that tells by TCP whom it sees; 0 is none.
	TCP uint16
}

// Attempt is an attempt of the server to connect to the asker by TCP.
type Attempt struct {
	From      netip.Addr
	Connected bool
}

// Answer is what a server says.
type Answer struct {
	// Observed is the remote end of the asker's connection; zero over a relay.
	Observed netip.AddrPort
	// Token authorises asks for probes to Observed; nil unless that is a UDP port.
	Token []byte
	// Sites are the server's addresses of the family and the scope of Observed.
	Sites []Site
	// Attempts answer a request to connect.
	Attempts []Attempt
	// Attestation is a signed Attestation of Observed; nil unless it was asked for.
	Attestation []byte
}

func encodeRequest(kind uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), kind)
}

func decodeRequest(data []byte) (kind uint64, err error) {
	err = walk(data, func(num protowire.Number, v value) error {
		if num == 1 {
			kind, err = v.uint()
		}
		return err
	})
	return kind, err
}

func (a Answer) encode() []byte {
	var out []byte
	if a.Observed.IsValid() {
		out = appendBytes(out, 1, appendEndpoint(nil, a.Observed))
	}
	if a.Token != nil {
		out = appendBytes(out, 2, a.Token)
	}
	for _, s := range a.Sites {
		one := appendBytes(nil, 1, s.IP.AsSlice())
		one = appendUint(one, 2, s.Here)
		for _, p := range s.Ports {
			one = appendUint(one, 3, p)
		}
		one = appendUint(one, 4, s.Probe)
		one = appendUint(one, 5, s.TCP)
		out = appendBytes(out, 3, one)
	}
	for _, at := range a.Attempts {
		out = appendBytes(out, 4, appendUint(appendBytes(nil, 1, at.From.AsSlice()), 2, at.Connected))
	}
	if a.Attestation != nil {
		out = appendBytes(out, 5, a.Attestation)
	}
	return out
}

func decodeAnswer(data []byte) (a Answer, err error) {
	err = walk(data, func(num protowire.Number, v value) (err error) {
		switch num {
		case 1:
			a.Observed, err = v.endpoint()
		case 2:
			if len(v.data) > maxToken {
				return fmt.Errorf("%w: token of %d bytes", errMalformed, len(v.data))
			}
			a.Token, err = v.bytes()
		case 3:
			if len(a.Sites) == maxSites {
				return fmt.Errorf("%w: more than %d sites", errMalformed, maxSites)
			}
			var s Site
			if s, err = decodeSite(v); err == nil {
				a.Sites = append(a.Sites, s)
			}
		case 4:
			if len(a.Attempts) == maxSites {
				return fmt.Errorf("%w: more than %d attempts", errMalformed, maxSites)
			}
			var at Attempt
			if at, err = decodeAttempt(v); err == nil {
				a.Attempts = append(a.Attempts, at)
			}
		case 5:
			if len(v.data) > attestationMax {
				return fmt.Errorf("%w: attestation of %d bytes", errMalformed, len(v.data))
			}
			a.Attestation, err = v.bytes()
		default: // of a later version
		}
		return err
	})
	return a, err
}

func decodeSite(v value) (s Site, err error) {
	data, err := v.bytes()
	if err != nil {
		return s, err
	}
	err = walk(data, func(num protowire.Number, v value) (err error) {
		var port uint16
		switch num {
		case 1:
			s.IP, err = v.ip()
		case 2:
			s.Here, err = v.bool()
		case 3:
			if len(s.Ports) == maxPorts {
				return fmt.Errorf("%w: more than %d ports", errMalformed, maxPorts)
			}
			if port, err = v.port(); err == nil {
				s.Ports = append(s.Ports, port)
			}
		case 4:
			s.Probe, err = v.port()
		case 5:
			s.TCP, err = v.port()
		default: // of a later version
		}
		return err
	})
	if err == nil && !s.IP.IsValid() {
		err = fmt.Errorf("%w: a site without an address", errMalformed)
	}
	return s, err
}

func decodeAttempt(v value) (at Attempt, err error) {
	data, err := v.bytes()
	if err != nil {
		return at, err
	}
	err = walk(data, func(num protowire.Number, v value) (err error) {
		switch num {
		case 1:
			at.From, err = v.ip()
		case 2:
			at.Connected, err = v.bool()
		default: // of a later version
		}
		return err
	})
	if err == nil && !at.From.IsValid() {
		err = fmt.Errorf("%w: an attempt without an address", errMalformed)
	}
	return at, err
}

// value is the value of a field: a number, or bytes.
type value struct {
	typ  protowire.Type
	num  uint64
	data []byte
}

// walk calls visit for each field of a message.
func walk(data []byte, visit func(num protowire.Number, v value) error) error {
	err := wire.Fields(data, func(f wire.Field) error { return visit(f.Num, value{f.Type, f.Number, f.Bytes}) })
	if errors.Is(err, wire.ErrBadMessage) {
		return errMalformed
	}
	return err
}

func (v value) uint() (uint64, error) {
	if v.typ != protowire.VarintType {
		return 0, errMalformed
	}
	return v.num, nil
}

func (v value) bool() (bool, error) {
	n, err := v.uint()
	return n != 0, err
}

func (v value) port() (uint16, error) {
	n, err := v.uint()
	if err == nil && n > 1<<16-1 {
		err = fmt.Errorf("%w: port %d", errMalformed, n)
	}
	return uint16(n), err
}

func (v value) bytes() ([]byte, error) {
	if v.typ != protowire.BytesType {
		return nil, errMalformed
	}
	return v.data, nil
}

func (v value) ip() (netip.Addr, error) {
	data, err := v.bytes()
	if err != nil {
		return netip.Addr{}, err
	}
	ip, ok := netip.AddrFromSlice(data)
	if !ok || ip.Is4In6() {
		return netip.Addr{}, fmt.Errorf("%w: address of %d bytes", errMalformed, len(data))
	}
	return ip, nil
}

func (v value) endpoint() (netip.AddrPort, error) {
	data, err := v.bytes()
	if err != nil {
		return netip.AddrPort{}, err
	}
	return decodeEndpoint(data)
}

// appendEndpoint appends the bytes of the address and two of the port.
func appendEndpoint(out []byte, at netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(append(out, at.Addr().AsSlice()...), at.Port())
}

func decodeEndpoint(data []byte) (netip.AddrPort, error) {
	if len(data) < 2 {
		return netip.AddrPort{}, fmt.Errorf("%w: endpoint of %d bytes", errMalformed, len(data))
	}
	split := len(data) - 2
	ip, ok := netip.AddrFromSlice(data[:split])
	if !ok || ip.Is4In6() {
		return netip.AddrPort{}, fmt.Errorf("%w: endpoint of %d bytes", errMalformed, len(data))
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(data[split:])), nil
}

func appendBytes(out []byte, num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(out, num, protowire.BytesType), v)
}

// appendUint appends a number, unless it is zero.
func appendUint[T uint16 | bool](out []byte, num protowire.Number, v T) []byte {
	var n uint64
	switch v := any(v).(type) {
	case uint16:
		n = uint64(v)
	case bool:
		n = protowire.EncodeBool(v)
	}
	if n == 0 {
		return out
	}
	return protowire.AppendVarint(protowire.AppendTag(out, num, protowire.VarintType), n)
}
