package commands

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestFields pins every field of every document and event with its type: fields may be added to the file, never removed or changed.
func TestFields(t *testing.T) {
	t.Parallel()
	var doc struct {
		Schemas map[string]struct {
			OneOf []map[string]any `json:"oneOf"`
		}
	}
	got := (session{}).run(t.Context(), "schema", "--json")
	if err := json.Unmarshal([]byte(got.stdout), &doc); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(doc.Schemas)) {
		for _, one := range doc.Schemas[name].OneOf {
			fmt.Fprintf(&b, "%s %s\n", name, one["title"])
			writeFields(&b, "\t", one)
		}
	}
	golden(t, "fields.txt", b.String())
}

// writeFields writes a line for each property of a schema, in the order of their names, save those of the frame.
func writeFields(w io.Writer, indent string, schema map[string]any) {
	frame := []string{"schema", "event", "time", "elapsed_ms"}
	properties, _ := schema["properties"].(map[string]any)
	if properties["ok"] != nil {
		frame = append(frame, "ok", "error")
	}
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		if indent == "\t" && slices.Contains(frame, key) {
			continue
		}
		kind, inner := typeOf(properties[key])
		fmt.Fprintf(w, "%s%s: %s\n", indent, key, kind)
		writeFields(w, indent+"\t", inner)
	}
}

// typeOf says in words what a schema allows, and returns the schema of the object at its end.
func typeOf(schema any) (string, map[string]any) {
	s, _ := schema.(map[string]any)
	for _, wrapped := range []struct{ key, word string }{{"anyOf", "nullable "}, {"items", "list of "}, {"additionalProperties", "map of "}} {
		inner := s[wrapped.key]
		if either, ok := inner.([]any); ok {
			inner = either[0]
		}
		if inner != nil {
			kind, object := typeOf(inner)
			return wrapped.word + kind, object
		}
	}
	kind, _ := s["type"].(string)
	if kind == "" {
		kind = "anything"
	}
	if format, ok := s["format"].(string); ok {
		kind += ", " + format
	}
	return kind, s
}
