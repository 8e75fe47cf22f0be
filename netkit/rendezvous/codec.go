package rendezvous

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of the specification, and the extension fields, which other
// implementations skip as unknown.
const (
	fieldType             = 1
	fieldRegister         = 2
	fieldRegisterResponse = 3
	fieldUnregister       = 4
	fieldDiscover         = 5
	fieldDiscoverResponse = 6

	fieldRegisterNS     = 1
	fieldRegisterRecord = 2
	fieldRegisterTTL    = 3
	fieldRegisterOther  = 200

	fieldRegisterStatus     = 1
	fieldRegisterStatusText = 2
	fieldRegisterGrantedTTL = 3

	fieldUnregisterNS = 1

	fieldDiscoverNS     = 1
	fieldDiscoverLimit  = 2
	fieldDiscoverCookie = 3
	fieldDiscoverBoth   = 200

	fieldDiscoverRegistrations  = 1
	fieldDiscoverResponseCookie = 2
	fieldDiscoverStatus         = 3
	fieldDiscoverStatusText     = 4
	fieldDiscoverMore           = 200
)

// errMalformed is a message that is no protobuf of the specification.
var errMalformed = errors.New("malformed message")

// fieldError says which field of which message could not be decoded, so that
// the server answers with the status that field has.
type fieldError struct {
	kind  messageType
	field protowire.Number
	err   error
}

func (e *fieldError) Error() string {
	return fmt.Sprintf("field %d of message type %d: %v", e.field, e.kind, e.err)
}

func (e *fieldError) Unwrap() error { return e.err }

// walk calls visit for each field of a message. visit returns how many bytes
// of value it consumed, or 0 to skip the field.
func walk(data []byte, visit func(num protowire.Number, typ protowire.Type, value []byte) (int, error)) error {
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return errMalformed
		}
		data = data[n:]
		n, err := visit(num, typ, data)
		if err != nil {
			return err
		}
		if n == 0 {
			n = protowire.ConsumeFieldValue(num, typ, data)
		}
		if n < 0 {
			return errMalformed
		}
		data = data[n:]
	}
	return nil
}

func consumeUint[T ~uint64](typ protowire.Type, value []byte, into **T) (int, error) {
	v, n := protowire.ConsumeVarint(value)
	if typ != protowire.VarintType || n < 0 {
		return 0, errMalformed
	}
	t := T(v)
	*into = &t
	return n, nil
}

func consumeBool(typ protowire.Type, value []byte, into *bool) (int, error) {
	var v *uint64
	n, err := consumeUint(typ, value, &v)
	*into = err == nil && *v != 0
	return n, err
}

// consumeBytes reads bytes, which stay part of value.
func consumeBytes(typ protowire.Type, value []byte, into *[]byte) (int, error) {
	v, n := protowire.ConsumeBytes(value)
	if typ != protowire.BytesType || n < 0 {
		return 0, errMalformed
	}
	// Not nil even when empty: nil is a field that was not sent.
	*into = slices.Clip(v)
	return n, nil
}

func consumeString(typ protowire.Type, value []byte, into **string) (int, error) {
	v, n := protowire.ConsumeBytes(value)
	if typ != protowire.BytesType || n < 0 || !utf8.Valid(v) {
		return 0, errMalformed
	}
	s := string(v)
	*into = &s
	return n, nil
}

func appendUint[T ~uint64](out []byte, num protowire.Number, v *T) []byte {
	if v == nil {
		return out
	}
	return protowire.AppendVarint(protowire.AppendTag(out, num, protowire.VarintType), uint64(*v))
}

// appendBool appends what is true; false is a field that is not sent.
func appendBool(out []byte, num protowire.Number, v bool) []byte {
	if !v {
		return out
	}
	return appendUint(out, num, new(uint64(1)))
}

func appendBytes(out []byte, num protowire.Number, v []byte) []byte {
	if v == nil {
		return out
	}
	return protowire.AppendBytes(protowire.AppendTag(out, num, protowire.BytesType), v)
}

func appendString(out []byte, num protowire.Number, v *string) []byte {
	if v == nil {
		return out
	}
	return protowire.AppendString(protowire.AppendTag(out, num, protowire.BytesType), *v)
}
