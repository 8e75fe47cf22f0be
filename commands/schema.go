package commands

import (
	"context"
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/invopop/jsonschema"
)

// schemaOptions are the arguments of schema.
type schemaOptions struct{ Command []string }

// schemaDoc is the JSON Schema of what commands print.
type schemaDoc struct {
	Schemas map[string]*jsonschema.Schema `json:"schemas"` // by the value of "schema" in their documents
}

func newSchema(e *env) spec {
	var o schemaOptions
	return spec{
		name: "schema", usage: "print the JSON Schema of what a command prints", args: "[command]",
		about: `The schema describes the document of --json and every line of --ndjson, after draft 2020-12.
Fields are added, never renamed or removed.`,
		examples: []string{
			"dibber schema version",
			"dibber schema config show",
			"dibber schema --json",
		},
		options: &o, doc: schemaDoc{}, complete: func([]string) []string { return runnable(e) },
		validate: func(args []string) error {
			o.Command = args
			if len(args) > 0 && find(e.root, args) == nil {
				return usagef("unknown command %q%s", strings.Join(args, " "), didYouMean(args[0], names(e.root), ""))
			}
			return nil
		},
		run: func(context.Context, *output) (any, error) { return runSchema(e, o) },
	}
}

func runSchema(e *env, o schemaOptions) (any, error) {
	doc := schemaDoc{Schemas: map[string]*jsonschema.Schema{}}
	list := e.root
	if len(o.Command) > 0 {
		list = []spec{*find(e.root, o.Command)}
	}
	walk(list, func(s *spec) { doc.Schemas[s.schemaName()] = commandSchema(s) })
	return doc, nil
}

func (d schemaDoc) renderText(t *text) {
	var shown any = d.Schemas
	if len(d.Schemas) == 1 {
		for _, s := range d.Schemas {
			shown = s
		}
	}
	b, err := json.MarshalIndent(shown, "", "  ")
	if err != nil {
		t.line("%v", err)
		return
	}
	t.line("%s", b)
}

// commandSchema returns the schema of a command's documents: its result, with or without "event":"summary", or one of its events.
func commandSchema(s *spec) *jsonschema.Schema {
	all := &jsonschema.Schema{Version: jsonschema.Version, Title: s.schemaName()}
	add := func(title, event string, parts ...any) *jsonschema.Schema {
		one := objectSchema(append([]any{envelope{}}, parts...)...)
		one.Title = title
		constant(one, "schema", s.schemaName())
		constant(one, "event", event)
		all.OneOf = append(all.OneOf, one)
		return one
	}
	add("result", summaryEvent, s.doc, verdict{})
	if s.manyDoc != nil {
		add("results", summaryEvent, s.manyDoc, verdict{})
	}
	for _, ev := range s.events {
		one := add(ev.name, ev.name, ev.payload)
		one.Required = append(one.Required, "event")
	}
	return all
}

// constant makes a property have one value only.
func constant(s *jsonschema.Schema, property, value string) {
	s.Properties.Set(property, &jsonschema.Schema{Type: "string", Const: value})
}

// objectSchema returns the schema of an object that has the fields of all parts, as encode writes it.
func objectSchema(parts ...any) *jsonschema.Schema {
	whole := &jsonschema.Schema{Type: "object", Properties: jsonschema.NewProperties()}
	for _, part := range parts {
		if part == nil {
			continue
		}
		one := typeSchema(reflect.TypeOf(part))
		for p := one.Properties.Oldest(); p != nil; p = p.Next() {
			whole.Properties.Set(p.Key, p.Value)
		}
		whole.Required = append(whole.Required, one.Required...)
	}
	return whole
}

// typeSchema returns the schema of a Go type. Names of types are no part of the contract, so everything is written out in place.
func typeSchema(t reflect.Type) *jsonschema.Schema {
	r := jsonschema.Reflector{
		Anonymous: true, DoNotReference: true, AllowAdditionalProperties: true, Mapper: customSchema,
	}
	s := r.ReflectFromType(t)
	s.Version = ""
	return withNulls(s, t)
}

// customSchema describes the types that encode themselves: as a string if they have a text form, else as anything.
func customSchema(t reflect.Type) *jsonschema.Schema {
	is := func(wanted reflect.Type) bool { return t.Implements(wanted) || reflect.PointerTo(t).Implements(wanted) }
	switch {
	case t == reflect.TypeFor[time.Time](), t == reflect.TypeFor[json.RawMessage]():
		return nil
	case is(reflect.TypeFor[encoding.TextMarshaler]()):
		return &jsonschema.Schema{Type: "string"}
	case is(reflect.TypeFor[json.Marshaler]()):
		return &jsonschema.Schema{}
	default:
		return nil
	}
}

// withNulls lets every pointer be null, which the reflector leaves to tags.
func withNulls(s *jsonschema.Schema, t reflect.Type) *jsonschema.Schema {
	switch t.Kind() {
	case reflect.Pointer:
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{withNulls(s, t.Elem()), {Type: "null"}}}
	case reflect.Struct:
		if s.Properties == nil {
			return s
		}
		for _, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if p, ok := s.Properties.Get(name); ok && f.IsExported() {
				s.Properties.Set(name, withNulls(p, f.Type))
			}
		}
	case reflect.Slice, reflect.Array:
		if s.Items != nil {
			s.Items = withNulls(s.Items, t.Elem())
		}
	case reflect.Map:
		if s.AdditionalProperties != nil {
			s.AdditionalProperties = withNulls(s.AdditionalProperties, t.Elem())
		}
	default:
	}
	return s
}

// find returns the command with these names, nil if there is none.
func find(list []spec, path []string) *spec {
	var s *spec
	for _, name := range path {
		if s = child(list, name); s == nil {
			return nil
		}
		list = s.subcommands
	}
	return s
}
