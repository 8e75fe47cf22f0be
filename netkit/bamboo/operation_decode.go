package bamboo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// The major types of CBOR (RFC 8949, 3.1) that are told apart here.
const (
	majorBytes = 2
	majorArray = 4
	majorMap   = 5
)

// DecodeOperation reads an operation, whole and nothing after it. Lengths must be definite, which is all that p2panda writes. It is
// not compared with its schema.
func DecodeOperation(data []byte) (Operation, error) {
	o, err := decodeOperation(data)
	if err != nil {
		return Operation{}, fmt.Errorf("%w: %w", ErrOperation, err)
	}
	return o, nil
}

func decodeOperation(data []byte) (o Operation, err error) {
	mode, err := cbor.DecOptions{IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden, MaxNestedLevels: 6}.DecMode()
	if err != nil {
		return o, err
	}
	var items []cbor.RawMessage
	if err := mode.Unmarshal(data, &items); err != nil {
		return o, err
	}
	if len(items) < 3 {
		return o, fmt.Errorf("%d items", len(items))
	}
	var version, action uint64
	if err := errors.Join(mode.Unmarshal(items[0], &version), mode.Unmarshal(items[1], &action), mode.Unmarshal(items[2], &o.Schema)); err != nil {
		return o, err
	}
	if version != operationVersion {
		return o, fmt.Errorf("unknown version %d", version)
	}
	if action > uint64(Delete) {
		return o, fmt.Errorf("unknown action %d", action)
	}
	o.Action = Action(action)
	want, previous, fields := o.Action.parts()
	if len(items) != want {
		return o, fmt.Errorf("action %d with %d items, want %d", action, len(items), want)
	}
	if previous {
		if o.Previous, err = decodeIDs(mode, items[3]); err != nil {
			return o, fmt.Errorf("previous operations: %w", err)
		}
	}
	if fields {
		if o.Fields, err = decodeFields(mode, items[want-1]); err != nil {
			return o, err
		}
	}
	return o, o.check()
}

func decodeIDs(mode cbor.DecMode, raw cbor.RawMessage) ([]Hash, error) {
	var items []cbor.RawMessage
	if err := mode.Unmarshal(raw, &items); err != nil {
		return nil, err
	}
	out := make([]Hash, 0, len(items))
	for _, item := range items {
		if item[0]>>5 != majorBytes {
			return nil, fmt.Errorf("%w: not a byte string", ErrHash)
		}
		var data []byte
		if err := mode.Unmarshal(item, &data); err != nil {
			return nil, err
		}
		id, rest, err := readHash(data)
		if err != nil {
			return nil, err
		}
		if len(rest) > 0 {
			return nil, fmt.Errorf("%w: %d bytes", ErrHash, len(data))
		}
		out = append(out, id)
	}
	return out, nil
}

// decodeFields reads a map itself, because the order of its keys matters and the library does not show it.
func decodeFields(mode cbor.DecMode, raw []byte) (map[string]any, error) {
	major, count, rest, err := readHead(raw)
	if err != nil {
		return nil, fmt.Errorf("fields: %w", err)
	}
	if major != majorMap || count > uint64(len(rest))/2 {
		return nil, errors.New("fields are not a map")
	}
	fields := make(map[string]any, count)
	last := ""
	for i := range count {
		var name string
		var value cbor.RawMessage
		if rest, err = mode.UnmarshalFirst(rest, &name); err != nil {
			return nil, fmt.Errorf("name of a field: %w", err)
		}
		if i > 0 && name <= last {
			return nil, fmt.Errorf("field %q stands after %q", name, last)
		}
		if rest, err = mode.UnmarshalFirst(rest, &value); err != nil {
			return nil, fmt.Errorf("field %q: %w", name, err)
		}
		if fields[name], err = decodeValue(mode, value); err != nil {
			return nil, fmt.Errorf("field %q: %w", name, err)
		}
		last = name
	}
	if len(rest) > 0 {
		return nil, errors.New("bytes after the fields")
	}
	return fields, nil
}

func decodeValue(mode cbor.DecMode, raw cbor.RawMessage) (any, error) {
	if raw[0]>>5 == majorArray {
		return decodeRelations(mode, raw)
	}
	var value any
	if err := mode.Unmarshal(raw, &value); err != nil {
		return nil, err
	}
	switch v := value.(type) {
	case bool, int64, float64, string, []byte:
		return v, nil
	case uint64:
		if v <= math.MaxInt64 {
			return int64(v), nil
		}
	}
	return nil, fmt.Errorf("no field holds %x", raw[:min(len(raw), 16)])
}

// decodeRelations reads a list of ids, or one of such lists. An empty list is read as the former.
func decodeRelations(mode cbor.DecMode, raw cbor.RawMessage) (any, error) {
	var items []cbor.RawMessage
	if err := mode.Unmarshal(raw, &items); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(items, func(item cbor.RawMessage) bool { return item[0]>>5 == majorArray }) {
		return decodeIDs(mode, raw)
	}
	lists := make([][]Hash, 0, len(items))
	for _, item := range items {
		ids, err := decodeIDs(mode, item)
		if err != nil {
			return nil, err
		}
		lists = append(lists, ids)
	}
	return lists, nil
}

// appendHead appends the head of an item, in its shortest form.
func appendHead(dst []byte, major byte, arg uint64) []byte {
	switch kind := major << 5; {
	case arg < 24:
		return append(dst, kind|byte(arg))
	case arg <= math.MaxUint8:
		return append(dst, kind|24, byte(arg))
	case arg <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, kind|25), uint16(arg))
	case arg <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, kind|26), uint32(arg))
	default:
		return binary.BigEndian.AppendUint64(append(dst, kind|27), arg)
	}
}

func readHead(data []byte) (major byte, arg uint64, rest []byte, err error) {
	if len(data) == 0 {
		return 0, 0, nil, errors.New("nothing there")
	}
	major, info := data[0]>>5, data[0]&31
	if info < 24 {
		return major, uint64(info), data[1:], nil
	}
	size := 1 << (info - 24)
	if info > 27 || len(data) < 1+size {
		return 0, 0, nil, errors.New("malformed length")
	}
	for _, b := range data[1 : 1+size] {
		arg = arg<<8 | uint64(b)
	}
	return major, arg, data[1+size:], nil
}
