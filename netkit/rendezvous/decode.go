package rendezvous

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// maxDecodedEntries bounds the registrations decoded from one answer: an empty
// one costs two bytes on the wire and far more in memory.
const maxDecodedEntries = 32768

// decodeMessage decodes a frame. On error it returns what it understood before
// it, for the sake of the type; the error is a *fieldError where it can be
// blamed on a field.
func decodeMessage(data []byte) (message, error) {
	var m message
	err := walk(data, func(num protowire.Number, typ protowire.Type, value []byte) (int, error) {
		if num == fieldType {
			return consumeUint(typ, value, &m.kind)
		}
		decode := m.part(num)
		if decode == nil {
			return 0, nil
		}
		body, n := protowire.ConsumeBytes(value)
		if typ != protowire.BytesType || n < 0 {
			return 0, &fieldError{kind: partType(num), err: errMalformed}
		}
		return n, decode(body)
	})
	return m, err
}

// part makes the message of field num and returns its decoder, or nil for an
// unknown field.
func (m *message) part(num protowire.Number) func([]byte) error {
	switch num {
	case fieldRegister:
		m.register = new(registerMessage)
		return m.register.decode
	case fieldRegisterResponse:
		m.registerResponse = new(registerResponse)
		return m.registerResponse.decode
	case fieldUnregister:
		m.unregister = new(unregisterMessage)
		return m.unregister.decode
	case fieldDiscover:
		m.discover = new(discoverMessage)
		return m.discover.decode
	case fieldDiscoverResponse:
		m.discoverResponse = new(discoverResponse)
		return m.discoverResponse.decode
	default:
		return nil
	}
}

// partType is the message type whose body field num holds; the fields are
// numbered in the order of the types, from 2.
func partType(num protowire.Number) messageType { return messageType(num - fieldRegister) }

// fields walks data and blames errors on the fields of a message type.
func fields(kind messageType, data []byte, visit func(protowire.Number, protowire.Type, []byte) (int, error)) error {
	var at protowire.Number
	err := walk(data, func(num protowire.Number, typ protowire.Type, value []byte) (int, error) {
		at = num
		n, err := visit(num, typ, value)
		if err == nil && n == 0 {
			at = 0
		}
		return n, err
	})
	if err != nil {
		return &fieldError{kind: kind, field: at, err: err}
	}
	return nil
}

func (r *registerMessage) decode(data []byte) error {
	return fields(typeRegister, data, func(num protowire.Number, typ protowire.Type, value []byte) (int, error) {
		switch num {
		case fieldRegisterNS:
			return consumeString(typ, value, &r.ns)
		case fieldRegisterRecord:
			return consumeBytes(typ, value, &r.record)
		case fieldRegisterTTL:
			return consumeUint(typ, value, &r.ttl)
		case fieldRegisterOther:
			return consumeBytes(typ, value, &r.other)
		default:
			return 0, nil
		}
	})
}

func (r *registerResponse) decode(data []byte) error {
	return fields(typeRegisterResponse, data, func(num protowire.Number, typ protowire.Type, value []byte) (int, error) {
		switch num {
		case fieldRegisterStatus:
			return consumeUint(typ, value, &r.status)
		case fieldRegisterStatusText:
			return consumeString(typ, value, &r.text)
		case fieldRegisterGrantedTTL:
			return consumeUint(typ, value, &r.ttl)
		default:
			return 0, nil
		}
	})
}

func (u *unregisterMessage) decode(data []byte) error {
	return fields(typeUnregister, data, func(num protowire.Number, typ protowire.Type, value []byte) (int, error) {
		if num == fieldUnregisterNS {
			return consumeString(typ, value, &u.ns)
		}
		return 0, nil
	})
}

func (d *discoverMessage) decode(data []byte) error {
	return fields(typeDiscover, data, func(num protowire.Number, typ protowire.Type, value []byte) (int, error) {
		switch num {
		case fieldDiscoverNS:
			return consumeString(typ, value, &d.ns)
		case fieldDiscoverLimit:
			return consumeUint(typ, value, &d.limit)
		case fieldDiscoverCookie:
			return consumeBytes(typ, value, &d.cookie)
		case fieldDiscoverBoth:
			return consumeBool(typ, value, &d.both)
		default:
			return 0, nil
		}
	})
}

func (d *discoverResponse) decode(data []byte) error {
	return fields(typeDiscoverResponse, data, func(num protowire.Number, typ protowire.Type, value []byte) (int, error) {
		switch num {
		case fieldDiscoverRegistrations:
			return d.decodeEntry(typ, value)
		case fieldDiscoverResponseCookie:
			return consumeBytes(typ, value, &d.cookie)
		case fieldDiscoverStatus:
			return consumeUint(typ, value, &d.status)
		case fieldDiscoverStatusText:
			return consumeString(typ, value, &d.text)
		case fieldDiscoverMore:
			return consumeBool(typ, value, &d.more)
		default:
			return 0, nil
		}
	})
}

func (d *discoverResponse) decodeEntry(typ protowire.Type, value []byte) (int, error) {
	body, n := protowire.ConsumeBytes(value)
	if typ != protowire.BytesType || n < 0 || len(d.registrations) == maxDecodedEntries {
		return 0, errMalformed
	}
	var entry registerMessage
	if err := entry.decode(body); err != nil {
		// A broken entry is the reader's to skip and count, not the end of
		// the answer.
		entry = registerMessage{}
	}
	d.registrations = append(d.registrations, entry)
	return n, nil
}
