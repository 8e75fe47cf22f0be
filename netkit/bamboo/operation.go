package bamboo

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// ErrOperation is returned for bytes that are not an operation of p2panda.
var ErrOperation = errors.New("malformed operation")

// Action is what an operation does to its document.
type Action uint8

// The actions, as they are numbered on the wire.
const (
	Create Action = iota
	Update
	Delete
)

// Operation is the payload that p2panda puts into its entries, version 1.
type Operation struct {
	Action Action
	// Schema is the id of the schema, see [CheckSchema].
	Schema string
	// Previous are the operations that an update or deletion builds on, at least one, rising. A creation has none.
	Previous []Hash
	// Fields are those that a creation or an update sets. A value is a bool, int64, float64, string, []byte (bytes, or the id of a
	// document), []Hash (relations, or one pinned relation) or [][]Hash (pinned relations). A deletion has none.
	Fields map[string]any
}

// operationVersion is the only version there is.
const operationVersion = 1

// parts returns how many items an operation has, whether previous operations and whether fields are among them.
func (a Action) parts() (items int, previous, fields bool) {
	switch a {
	case Create:
		return 4, false, true
	case Update:
		return 5, true, true
	default:
		return 4, true, false
	}
}

// Encode returns the operation as p2panda-rs writes it. Fields stand in the order of their names as strings, which is not that of
// canonical CBOR.
func (o *Operation) Encode() ([]byte, error) {
	mode, err := cbor.CanonicalEncOptions().EncMode()
	if err != nil {
		return nil, fmt.Errorf("encode operation: %w", err)
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("encode operation: %w", err)
	}
	_, previous, fields := o.Action.parts()
	parts := []any{operationVersion, uint64(o.Action), o.Schema}
	if previous {
		parts = append(parts, written(o.Previous))
	}
	if fields {
		raw, err := encodeFields(mode, o.Fields)
		if err != nil {
			return nil, fmt.Errorf("encode operation: %w", err)
		}
		parts = append(parts, raw)
	}
	return mode.Marshal(parts)
}

// written returns the ids as byte strings of their written form.
func written(ids []Hash) [][]byte {
	out := make([][]byte, len(ids))
	for i, id := range ids {
		out[i] = id.Append(nil)
	}
	return out
}

func encodeFields(mode cbor.EncMode, fields map[string]any) (cbor.RawMessage, error) {
	out := appendHead(nil, majorMap, uint64(len(fields)))
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := fields[name]
		switch v := value.(type) {
		case bool, int64, float64, string, []byte:
		case []Hash:
			value = written(v)
		case [][]Hash:
			lists := make([][][]byte, len(v))
			for i := range v {
				lists[i] = written(v[i])
			}
			value = lists
		default:
			return nil, fmt.Errorf("field %q: no field holds a %T", name, value)
		}
		for _, item := range []any{name, value} {
			raw, err := mode.Marshal(item)
			if err != nil {
				return nil, fmt.Errorf("field %q: %w", name, err)
			}
			out = append(out, raw...)
		}
	}
	return out, nil
}

// check holds what is true of every operation.
func (o *Operation) check() error {
	if o.Action > Delete {
		return fmt.Errorf("unknown action %d", o.Action)
	}
	if err := CheckSchema(o.Schema); err != nil {
		return err
	}
	_, previous, fields := o.Action.parts()
	if previous != (len(o.Previous) > 0) {
		return fmt.Errorf("action %d with %d previous operations", o.Action, len(o.Previous))
	}
	for i := 1; i < len(o.Previous); i++ {
		if slices.Compare(o.Previous[i-1][:], o.Previous[i][:]) >= 0 {
			return errors.New("previous operations do not rise")
		}
	}
	if fields != (len(o.Fields) > 0) {
		return fmt.Errorf("action %d with %d fields", o.Action, len(o.Fields))
	}
	return nil
}

// CheckSchema returns an error unless id is that of a schema: one of p2panda's own with its version, or a name and the ids of the
// operations that define it, rising, all joined by "_".
func CheckSchema(id string) error {
	if system.MatchString(id) {
		if _, err := strconv.ParseUint(id[strings.LastIndex(id, "_v")+2:], 10, 8); err != nil {
			return fmt.Errorf("schema %q: version: %w", id, err)
		}
		return nil
	}
	parts := application.FindStringSubmatch(id)
	if parts == nil {
		return fmt.Errorf("schema %q is neither one of p2panda's own nor a name with the ids of operations", id)
	}
	ids := strings.Split(parts[1], "_")[1:]
	for i := 1; i < len(ids); i++ {
		if ids[i-1] >= ids[i] {
			return fmt.Errorf("schema %q: its operations do not rise", id)
		}
	}
	return nil
}

var (
	system      = regexp.MustCompile(`^(?:schema_definition|schema_field_definition|blob|blob_piece)_v[0-9]+$`)
	application = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,62}[A-Za-z0-9]((?:_0020[0-9a-f]{64})+)$`)
)
