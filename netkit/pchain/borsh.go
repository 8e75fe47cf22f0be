package pchain

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"
)

// MaxItems is the most items that a sequence may have: more than a block that can be sent holds transactions, or the chain
// validators. It bounds what a message makes of memory, which for commands of one byte is a hundred times their size.
const MaxItems = 1 << 16

// The errors of encoding and decoding.
var (
	ErrMalformed = errors.New("malformed message")
	// ErrStatus means that a dropped transaction has a status that does not exist; peers of 0.5 crash on it.
	ErrStatus = errors.New("unknown status of a dropped transaction")
)

// enum marks a struct of pointers of which one is set.
type enum interface{ isEnum() }

// checked is a value that says itself whether it may be sent or taken.
type checked interface{ check() error }

// marshal appends a value as borsh. Errors wrap ErrMalformed or ErrStatus.
func marshal(dst []byte, v any) ([]byte, error) { return appendValue(dst, reflect.ValueOf(v)) }

func appendValue(dst []byte, v reflect.Value) ([]byte, error) {
	if c, ok := reflect.TypeAssert[checked](v); ok {
		if err := c.check(); err != nil {
			return nil, err
		}
	}
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return append(dst, 1), nil
		}
		return append(dst, 0), nil
	case reflect.Uint8:
		return append(dst, byte(v.Uint())), nil
	case reflect.Uint16:
		return binary.LittleEndian.AppendUint16(dst, uint16(v.Uint())), nil
	case reflect.Uint32:
		return binary.LittleEndian.AppendUint32(dst, uint32(v.Uint())), nil
	case reflect.Uint64:
		return binary.LittleEndian.AppendUint64(dst, v.Uint()), nil
	case reflect.String:
		return append(appendLen(dst, v.Len()), v.String()...), nil
	case reflect.Pointer:
		if v.IsNil() {
			return append(dst, 0), nil
		}
		return appendValue(append(dst, 1), v.Elem())
	case reflect.Array, reflect.Slice:
		return appendItems(dst, v)
	case reflect.Struct:
		if _, ok := reflect.TypeAssert[enum](v); ok {
			return appendVariant(dst, v)
		}
		for _, field := range v.Fields() {
			var err error
			if dst, err = appendValue(dst, field); err != nil {
				return nil, err
			}
		}
		return dst, nil
	default:
		return nil, fmt.Errorf("%w: no encoding of a %s", ErrMalformed, v.Type())
	}
}

func appendLen(dst []byte, n int) []byte { return binary.LittleEndian.AppendUint32(dst, uint32(n)) }

func appendItems(dst []byte, v reflect.Value) ([]byte, error) {
	if v.Kind() == reflect.Slice {
		if bytes, ok := reflect.TypeAssert[[]byte](v); ok {
			return append(appendLen(dst, len(bytes)), bytes...), nil
		}
		if v.Len() > MaxItems {
			return nil, fmt.Errorf("%w: %d items of %s, at most %d", ErrMalformed, v.Len(), v.Type().Elem(), MaxItems)
		}
		dst = appendLen(dst, v.Len())
	}
	if v.Type().Elem().Kind() == reflect.Uint8 {
		bytes := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(bytes), v)
		return append(dst, bytes...), nil
	}
	for i := range v.Len() {
		var err error
		if dst, err = appendValue(dst, v.Index(i)); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func appendVariant(dst []byte, v reflect.Value) ([]byte, error) {
	set := -1
	for i := range v.NumField() {
		if v.Field(i).IsNil() {
			continue
		}
		if set >= 0 {
			return nil, fmt.Errorf("%w: two variants of %s", ErrMalformed, v.Type())
		}
		set = i
	}
	if set < 0 {
		return nil, fmt.Errorf("%w: no variant of %s", ErrMalformed, v.Type())
	}
	return appendValue(append(dst, byte(set)), v.Field(set).Elem())
}

// unmarshal reads a value and returns the bytes after it. Errors wrap ErrMalformed or ErrStatus.
func unmarshal(data []byte, into any) (rest []byte, err error) {
	d := decoder{data}
	if err := d.value(reflect.ValueOf(into).Elem()); err != nil {
		return nil, err
	}
	return d.rest, nil
}

type decoder struct{ rest []byte }

// take returns the next n bytes.
func (d *decoder) take(n int, what fmt.Stringer) ([]byte, error) {
	if n > len(d.rest) {
		return nil, fmt.Errorf("%w: %s of %d bytes, but only %d are left", ErrMalformed, what, n, len(d.rest))
	}
	out := d.rest[:n]
	d.rest = d.rest[n:]
	return out, nil
}

func (d *decoder) value(v reflect.Value) error {
	if err := d.raw(v); err != nil {
		return err
	}
	if c, ok := reflect.TypeAssert[checked](v); ok {
		return c.check()
	}
	return nil
}

func (d *decoder) raw(v reflect.Value) error {
	switch v.Kind() {
	case reflect.Bool:
		is, err := d.flag(v.Type())
		v.SetBool(is)
		return err
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		bytes, err := d.take(int(v.Type().Size()), v.Type())
		if err != nil {
			return err
		}
		var wide [8]byte
		copy(wide[:], bytes)
		v.SetUint(binary.LittleEndian.Uint64(wide[:]))
		return nil
	case reflect.String:
		bytes, err := d.bytes(v.Type())
		if err == nil && !utf8.Valid(bytes) {
			err = fmt.Errorf("%w: a text that is not UTF-8", ErrMalformed)
		}
		v.SetString(string(bytes))
		return err
	case reflect.Pointer:
		if is, err := d.flag(v.Type()); err != nil || !is {
			return err
		}
		v.Set(reflect.New(v.Type().Elem()))
		return d.value(v.Elem())
	case reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			bytes, err := d.take(v.Len(), v.Type())
			reflect.Copy(v, reflect.ValueOf(bytes))
			return err
		}
	case reflect.Slice:
		return d.slice(v)
	case reflect.Struct:
		if _, ok := reflect.TypeAssert[enum](v); ok {
			return d.variant(v)
		}
		for i := range v.NumField() {
			if err := d.value(v.Field(i)); err != nil {
				return fmt.Errorf("%s: %w", v.Type().Field(i).Name, err)
			}
		}
		return nil
	default: // like an array of anything but bytes
	}
	return fmt.Errorf("%w: no encoding of a %s", ErrMalformed, v.Type())
}

func (d *decoder) flag(what fmt.Stringer) (bool, error) {
	b, err := d.take(1, what)
	if err != nil {
		return false, err
	}
	if b[0] > 1 {
		return false, fmt.Errorf("%w: %s begins with %d, neither 0 nor 1", ErrMalformed, what, b[0])
	}
	return b[0] == 1, nil
}

func (d *decoder) length(what fmt.Stringer) (uint64, error) {
	b, err := d.take(4, what)
	if err != nil {
		return 0, err
	}
	return uint64(binary.LittleEndian.Uint32(b)), nil
}

// bytes returns those of a string or byte sequence, which are still those of the message.
func (d *decoder) bytes(what fmt.Stringer) ([]byte, error) {
	n, err := d.length(what)
	if err != nil {
		return nil, err
	}
	if n > uint64(len(d.rest)) {
		return nil, fmt.Errorf("%w: %s of %d bytes, but only %d are left", ErrMalformed, what, n, len(d.rest))
	}
	return d.take(int(n), what)
}

func (d *decoder) slice(v reflect.Value) error {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		bytes, err := d.bytes(v.Type())
		v.SetBytes(append([]byte{}, bytes...)) // the message is not held for a part of it
		return err
	}
	n, err := d.length(v.Type())
	if err != nil {
		return err
	}
	// Memory is taken for as many as can be there.
	if n > MaxItems || n > uint64(len(d.rest)/least(v.Type().Elem())) {
		return fmt.Errorf("%w: %d items of %s in %d bytes, at most %d", ErrMalformed, n, v.Type().Elem(), len(d.rest), MaxItems)
	}
	v.Set(reflect.MakeSlice(v.Type(), int(n), int(n)))
	for i := range int(n) {
		if err := d.value(v.Index(i)); err != nil {
			return fmt.Errorf("item %d: %w", i, err)
		}
	}
	return nil
}

func (d *decoder) variant(v reflect.Value) error {
	b, err := d.take(1, v.Type())
	if err != nil {
		return err
	}
	if int(b[0]) >= v.NumField() {
		return fmt.Errorf("%w: variant %d of %s, which has %d", ErrMalformed, b[0], v.Type(), v.NumField())
	}
	field := v.Field(int(b[0]))
	field.Set(reflect.New(field.Type().Elem()))
	if err := d.value(field.Elem()); err != nil {
		return fmt.Errorf("%s: %w", v.Type().Field(int(b[0])).Name, err)
	}
	return nil
}

// least is the smallest size of a value of a type, in bytes; of an empty struct, which stands in no sequence, 1.
func least(t reflect.Type) int {
	switch t.Kind() {
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return int(t.Size())
	case reflect.String, reflect.Slice:
		return 4
	case reflect.Array:
		return t.Len() * least(t.Elem())
	case reflect.Struct:
		if t.Implements(reflect.TypeFor[enum]()) {
			return 1
		}
		n := 0
		for f := range t.Fields() {
			n += least(f.Type)
		}
		return max(n, 1)
	default:
		return 1
	}
}
