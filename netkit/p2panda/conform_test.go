package p2panda

import (
	"strings"
	"testing"

	"dibber/netkit/bamboo"
)

// TestShapes holds operations of p2panda's own schemas, and of types, against what a node takes.
func TestShapes(t *testing.T) {
	id := bamboo.Hash{1}
	relation := append([]byte{0, 32}, id[:]...)
	lists, none := [][]bamboo.Hash{{id}}, []bamboo.Hash{}
	own := shape{
		"b": "bool", "i": "int", "f": "float", "s": "str", "y": "bytes", "r": "relation(blob_v1)", "p": "pinned_relation(blob_v1)",
		"l": "relation_list(blob_v1)", "q": "pinned_relation_list(blob_v1)",
	}
	all := map[string]any{"b": true, "i": int64(1), "f": 1.5, "s": "", "y": []byte{}, "r": relation, "p": []bamboo.Hash{id}, "l": none, "q": none}
	without := func(name string) map[string]any {
		out := map[string]any{}
		for k, v := range all {
			if k != name {
				out[k] = v
			}
		}
		return out
	}
	for _, c := range []struct {
		name   string
		shape  shape
		action bamboo.Action
		schema string
		fields map[string]any
		want   bool
	}{
		{"all types", own, bamboo.Create, "", all, true},
		{"one is missing", own, bamboo.Create, "", without("i"), false},
		{"an update of some", own, bamboo.Update, "", without("i"), true},
		{"int for float", own, bamboo.Update, "", map[string]any{"f": int64(1)}, false},
		{"bytes for a relation", own, bamboo.Update, "", map[string]any{"r": []byte("34 bytes")}, false},
		{"no pinned relation", own, bamboo.Update, "", map[string]any{"p": none}, false},
		{"relations for pinned ones", own, bamboo.Update, "", map[string]any{"q": []bamboo.Hash{id}}, false},
		{"pinned ones", own, bamboo.Update, "", map[string]any{"q": lists}, true},
		{"a deletion", own, bamboo.Delete, "", nil, true},
		{"nothing is known", nil, bamboo.Create, "", map[string]any{"x": 1.5}, true},
		{"schema", nil, bamboo.Create, "schema_definition_v1", map[string]any{"name": "note", "description": "", "fields": lists}, true},
		{"schema of a bad name", nil, bamboo.Create, "schema_definition_v1", map[string]any{"name": "_", "description": "", "fields": lists}, false},
		{"schema of many words", nil, bamboo.Create, "schema_definition_v1", map[string]any{"name": "note", "description": strings.Repeat("é", 257), "fields": lists}, false},
		{"field", nil, bamboo.Create, "schema_field_definition_v1", map[string]any{"name": "a", "type": "relation_list(blob_v1)"}, true},
		{"field of no type", nil, bamboo.Create, "schema_field_definition_v1", map[string]any{"name": "a", "type": "number"}, false},
		{"field of no schema", nil, bamboo.Create, "schema_field_definition_v1", map[string]any{"name": "a", "type": "relation(note)"}, false},
		{"blob", nil, bamboo.Create, "blob_v1", map[string]any{"length": int64(1), "mime_type": "text/plain", "pieces": lists}, true},
		{"blob of nothing", nil, bamboo.Create, "blob_v1", map[string]any{"length": int64(1), "mime_type": "text/plain", "pieces": none}, false},
		{"blob of no type", nil, bamboo.Create, "blob_v1", map[string]any{"length": int64(1), "mime_type": "text", "pieces": lists}, false},
		{"piece", nil, bamboo.Create, "blob_piece_v1", map[string]any{"data": make([]byte, maxPiece)}, true},
		{"long piece", nil, bamboo.Create, "blob_piece_v1", map[string]any{"data": make([]byte, maxPiece+1)}, false},
	} {
		s := c.shape
		if own := systemShape(c.schema); own != nil {
			s = own
		}
		if got := s.takes(&bamboo.Operation{Action: c.action, Schema: c.schema, Fields: c.fields}); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestViewOfADefinition reads a schema whose definition was changed since it was made.
func TestViewOfADefinition(t *testing.T) {
	a := newAuthor(t, 1)
	_, definition := a.schema("note")
	changed := a.write(definition[0].ID, bamboo.Operation{
		Action: bamboo.Update, Schema: "schema_field_definition_v1", Previous: []bamboo.Hash{definition[0].ID}, Fields: map[string]any{"type": "int"},
	})
	again := a.write(definition[1].ID, bamboo.Operation{
		Action: bamboo.Update, Schema: "schema_definition_v1", Previous: []bamboo.Hash{definition[1].ID}, Fields: map[string]any{"fields": [][]bamboo.Hash{{changed.ID}}},
	})
	x := newIndex(newMemory(t, append(definition, changed, again)...))
	for id, want := range map[bamboo.Hash]string{definition[1].ID: "str", again.ID: "int"} {
		if s, err := x.shapeOf("note_" + id.String()); err != nil || len(s) != 1 || s["text"] != want {
			t.Errorf("%v, %v", s, err)
		}
	}
	if s, err := x.shapeOf("other_" + again.ID.String()); s != nil || err != nil {
		t.Errorf("of another name: %v, %v", s, err)
	}
}

// conforms holds the operations of schemas whose fields are all texts, as those of tests are, against their definition.
func (d *dog) conforms(o *bamboo.Operation) bool {
	_, operations := splitSchema(o.Schema)
	for _, log := range d.logs {
		for _, r := range log {
			if len(operations) != 1 || r.ID.String() != operations[0] {
				continue
			}
			definition, _ := bamboo.DecodeOperation(r.Operation)
			if o.Action == bamboo.Create && len(o.Fields) != len(definition.Fields["fields"].([][]bamboo.Hash)) {
				return false
			}
			for _, value := range o.Fields {
				if _, ok := value.(string); !ok {
					return false
				}
			}
		}
	}
	return true
}
