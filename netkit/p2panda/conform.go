package p2panda

import (
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"

	"dibber/netkit/bamboo"
)

// shape is what the operations of a schema must look like: the types of its fields, by name. A node ends the session in which it gets
// another operation, and takes nothing that follows; so none is sent on.
type shape map[string]string

// shapeOf returns the shape of a schema, nil if it is not known: its definition is not here, or was changed by several at once.
func (x *index) shapeOf(schema string) (shape, error) {
	if s := systemShape(schema); s != nil {
		return s, nil
	}
	if s := x.shapes[schema]; s != nil {
		return s, nil
	}
	name, operations := splitSchema(schema)
	definition, err := x.viewOf(operations)
	if err != nil || definition == nil {
		return nil, err
	}
	lists, ok := definition["fields"].([][]bamboo.Hash)
	if !ok || definition["name"] != name {
		return nil, nil
	}
	s := make(shape, len(lists))
	for _, tips := range lists {
		field, err := x.view(tips)
		if err != nil || field == nil {
			return nil, err
		}
		name, isName := field["name"].(string)
		kind, isKind := field["type"].(string)
		if !isName || !isKind {
			return nil, nil
		}
		s[name] = kind
	}
	x.shapes[schema] = s
	return s, nil
}

// viewOf is view for ids as they are written.
func (x *index) viewOf(operations []string) (map[string]any, error) {
	var tips []bamboo.Hash
	for _, text := range operations {
		id, err := bamboo.ParseHash(text)
		if err != nil {
			return nil, nil //nolint:nilerr // no such operation is here
		}
		tips = append(tips, id)
	}
	return x.view(tips)
}

// maxView is of how many operations a view is put together.
const maxView = 1024

// view returns the fields that a document has at an operation, nil if that or one before it is not here, or if it has no one order.
func (x *index) view(tips []bamboo.Hash) (map[string]any, error) {
	fields := make(map[string]any)
	for range maxView {
		if len(tips) != 1 {
			return nil, nil
		}
		p, err := x.store.Find(tips[0])
		if errors.Is(err, ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		var o bamboo.Operation
		malformed := false
		err = x.store.Run(p.LogID, p.Seq, p.Seq, func(r Record) error {
			var err error
			o, err = bamboo.DecodeOperation(r.Operation)
			malformed = err != nil
			return nil
		})
		if err != nil || malformed {
			return nil, err
		}
		for name, value := range o.Fields {
			if _, later := fields[name]; !later {
				fields[name] = value
			}
		}
		if o.Action == bamboo.Create {
			return fields, nil
		}
		tips = o.Previous
	}
	return nil, nil
}

const (
	maxDescription = 256     // characters
	maxFields      = 1024    // of a schema
	maxPiece       = 256_000 // bytes
)

// systemShape is the shape of one of p2panda's own schemas, nil for others.
func systemShape(schema string) shape {
	switch schema {
	case "schema_definition_v1":
		return shape{"name": "str", "description": "str", "fields": "pinned_relation_list(schema_field_definition_v1)"}
	case "schema_field_definition_v1":
		return shape{"name": "str", "type": "str"}
	case blob:
		return shape{"length": "int", "mime_type": "str", "pieces": "pinned_relation_list(blob_piece_v1)"}
	case blobPiece:
		return shape{"data": "bytes"}
	}
	return nil
}

// takes reports whether a node takes an operation of this shape: a creation has all fields, an update some, and each is of its type. A
// shape that is not known takes all.
func (s shape) takes(o *bamboo.Operation) bool {
	if s == nil || o.Action == bamboo.Delete {
		return true
	}
	if o.Action == bamboo.Create && len(o.Fields) != len(s) {
		return false
	}
	for name, value := range o.Fields {
		kind, known := s[name]
		if !known || !ofType(kind, value) || !ofSystem(o.Schema, name, value) {
			return false
		}
	}
	return true
}

// ofType reports whether a field of a type may hold a value.
func ofType(kind string, value any) bool {
	word, _, _ := strings.Cut(kind, "(")
	var ok bool
	switch word {
	case "bool":
		_, ok = value.(bool)
	case "int":
		_, ok = value.(int64)
	case "float":
		_, ok = value.(float64)
	case "str":
		_, ok = value.(string)
	case "bytes":
		_, ok = value.([]byte)
	case "relation":
		id, isBytes := value.([]byte)
		ok = isBytes && len(id) == bamboo.HashSize && id[0] == 0 && id[1] == byte(len(bamboo.Hash{}))
	case "pinned_relation":
		ids, isList := value.([]bamboo.Hash)
		ok = isList && len(ids) > 0
	case "relation_list":
		_, ok = value.([]bamboo.Hash)
	case "pinned_relation_list":
		if ids, isList := value.([]bamboo.Hash); isList {
			return len(ids) == 0 // an empty list is written as one of either kind
		}
		_, ok = value.([][]bamboo.Hash)
	}
	return ok
}

// ofSystem holds what p2panda's own schemas demand besides types.
func ofSystem(schema, name string, value any) bool {
	lists, _ := value.([][]bamboo.Hash)
	text, _ := value.(string)
	switch schema + "." + name {
	case "schema_definition_v1.name":
		return schemaName.MatchString(text)
	case "schema_definition_v1.description":
		return utf8.RuneCountInString(text) <= maxDescription
	case "schema_definition_v1.fields":
		return len(lists) <= maxFields
	case "schema_field_definition_v1.name":
		return fieldName.MatchString(text)
	case "schema_field_definition_v1.type":
		parts := fieldType.FindStringSubmatch(text)
		return parts != nil && (parts[1] == "" || bamboo.CheckSchema(parts[1]) == nil)
	case "blob_v1.mime_type":
		return mimeType.MatchString(text)
	case "blob_v1.pieces":
		return len(lists) > 0
	case "blob_piece_v1.data":
		data, _ := value.([]byte)
		return len(data) <= maxPiece
	}
	return true
}

var (
	schemaName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,62}[A-Za-z0-9]$`)
	fieldName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,63}$`)
	fieldType  = regexp.MustCompile(`^(?:bool|int|float|str|bytes|(?:pinned_)?relation(?:_list)?\(([^()]+)\))$`)
	mimeType   = regexp.MustCompile(`^[a-z-]{1,12}/(?:[a-z0-9]{1,18}[.|+-]){0,6}[a-z0-9]{1,16}$`)
)
