package commands

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
)

// closedSchemas returns the schema of every command by its name, made strict: a field that the schema lacks is an error.
var closedSchemas = sync.OnceValues(func() (map[string]*validator.Schema, error) {
	compiled := map[string]*validator.Schema{}
	var failed error
	walk(newEnv(Stdio{}).root, func(s *spec) {
		schema := commandSchema(s)
		closeSchema(schema)
		one, err := compileSchema(schema)
		compiled[s.schemaName()] = one
		failed = errors.Join(failed, err)
	})
	return compiled, failed
})

// closeSchema forbids fields that are not described.
func closeSchema(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	for _, part := range append(append([]*jsonschema.Schema{s.Items}, s.AnyOf...), s.OneOf...) {
		closeSchema(part)
	}
	if s.Properties == nil {
		return
	}
	s.AdditionalProperties = jsonschema.FalseSchema
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		closeSchema(p.Value)
	}
}

// compileSchema reads a schema back from its JSON, as any other program would.
func compileSchema(s *jsonschema.Schema) (*validator.Schema, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode the schema: %w", err)
	}
	doc, err := validator.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	c := validator.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("schema.json", doc); err != nil {
		return nil, fmt.Errorf("add the schema: %w", err)
	}
	return c.Compile("schema.json")
}

// fitsSchema returns an error unless a document is what the schema of its command says.
func fitsSchema(raw []byte) error {
	var head envelope
	if err := json.Unmarshal(raw, &head); err != nil {
		return fmt.Errorf("read the document: %w", err)
	}
	all, err := closedSchemas()
	if err != nil {
		return err
	}
	schema := all[head.Schema]
	if schema == nil {
		return fmt.Errorf("no schema is called %q", head.Schema)
	}
	doc, err := validator.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("read the document: %w", err)
	}
	return schema.Validate(doc)
}

// TestZeroDocuments holds that what a command prints when it fails before it knows anything fits its schema, and every event too.
func TestZeroDocuments(t *testing.T) {
	t.Parallel()
	failed := classify(errors.New("no"), nil)
	walk(newEnv(Stdio{}).root, func(s *spec) {
		head := envelope{Schema: s.schemaName(), Time: time.Now(), ElapsedMS: 1}
		check := func(parts ...any) {
			t.Helper()
			line, err := encode(parts...)
			if err != nil {
				t.Fatal(err)
			}
			if err := fitsSchema(line); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
		check(head, s.doc, verdict{OK: true})
		head.Event = summaryEvent
		check(head, s.doc, verdict{Error: failed.doc()})
		for _, ev := range s.events {
			head.Event = ev.name
			check(head, ev.payload)
		}
	})
}

// TestDocumentsFitTheirSchema runs the commands that need no network; scripts check the documents of the others.
func TestDocumentsFitTheirSchema(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, line := range []string{
		"version", "config show", "config show key new", "schema", "schema version", "man", "man dial", "completion bash",
		"key new -o " + dir + "/key", "key new --type rsa -o " + dir + "/rsa", "key show " + dir + "/rsa",
		"key convert " + dir + "/key -o " + dir + "/copy", "psk new -o " + dir + "/psk",
	} {
		for _, format := range []string{"--json", "--ndjson"} {
			if got := (session{}).run(t.Context(), append(strings.Fields(line), format)...); got.code == 0 {
				if err := fitsSchema([]byte(got.stdout)); err != nil {
					t.Errorf("%s %s: %v", line, format, err)
				}
			} else if format == "--json" {
				t.Errorf("%s: exit %d: %s", line, got.code, got.stderr)
			}
		}
	}
}

// TestSchemaTellsWrongFromRight holds that the schemas are not so loose that anything fits.
func TestSchemaTellsWrongFromRight(t *testing.T) {
	t.Parallel()
	right := session{}.run(t.Context(), "version", "--json").stdout
	for _, edit := range [][2]string{
		{`"ok": true`, `"ok": 1`},
		{`"ok": true`, `"fine": true`},
		{`"error": null`, `"error": {"code": "internal"}`},
		{`"version": "`, `"version": ["`},
		{`"schema": "version/1",`, `"schema": "version/1", "event": "odd",`},
		{`"time": "2`, `"time": "x2`},
		{`"os":`, `"extra": 1, "os":`},
	} {
		wrong := strings.Replace(right, edit[0], edit[1], 1)
		if wrong == right {
			t.Fatalf("%s is not in %s", edit[0], right)
		}
		if fitsSchema([]byte(wrong)) == nil {
			t.Errorf("%s fits", edit[1])
		}
	}
}

func TestSchemaOfOneCommand(t *testing.T) {
	t.Parallel()
	got := session{}.run(t.Context(), "schema", "key", "new")
	doc := got.document(t)
	if doc["title"] != "key.new/1" || doc["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("not the schema of key new: %.200s", got.stdout)
	}
	if all := (session{}).run(t.Context(), "schema").document(t); len(all) < 10 || all["key.new/1"] == nil {
		t.Errorf("%d schemas without a command named", len(all))
	}
	session{}.run(t.Context(), "schema", "kye").wrongUsage(t, "did you mean key?")
	session{}.run(t.Context(), "schema", "key", "nwe").wrongUsage(t, `unknown command "key nwe"`)
}
