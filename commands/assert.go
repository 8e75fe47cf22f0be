package commands

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// assertion is one term of --assert.
type assertion struct {
	Path  string `json:"path"`
	Op    string `json:"op"`
	Value string `json:"value"`
	Found string `json:"found"` // what the document has there, as JSON writes it, strings without quotes
	Holds bool   `json:"holds"`
}

// assertOps are the operators of --assert, the longer before those they begin with.
func assertOps() []string { return []string{"==", "!=", "<=", ">=", "<", ">", " has "} }

// parseAsserts takes 'PATH OP VALUE && …' apart and refuses paths that documents of
// natcheck never have.
func parseAsserts(text string) ([]assertion, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var out []assertion
	for term := range strings.SplitSeq(text, "&&") {
		a, ok := parseAssert(term)
		if !ok {
			return nil, usagef("--assert: %q is not of the form PATH OP VALUE", strings.TrimSpace(term))
		}
		if !hasPath(reflect.TypeFor[natcheckDoc](), strings.Split(a.Path, ".")) {
			return nil, usagef("--assert: the document has no %s; see dibber schema natcheck", a.Path)
		}
		out = append(out, a)
	}
	return out, nil
}

func parseAssert(term string) (a assertion, ok bool) {
	at := len(term)
	for _, op := range assertOps() {
		if i := strings.Index(term, op); i >= 0 && i < at {
			at, a.Op = i, op
		}
	}
	if a.Op == "" {
		return a, false
	}
	a.Path = strings.TrimSpace(term[:at])
	a.Value = strings.Trim(strings.TrimSpace(term[at+len(a.Op):]), `"`)
	a.Op = strings.TrimSpace(a.Op)
	return a, a.Path != "" && a.Value != ""
}

// hasPath reports whether documents of a type can have a value at a path.
func hasPath(t reflect.Type, path []string) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if len(path) == 0 {
		return true
	}
	switch t.Kind() {
	case reflect.Slice:
		_, err := strconv.ParseUint(path[0], 10, 16)
		return err == nil && hasPath(t.Elem(), path[1:])
	case reflect.Struct:
		for _, f := range reflect.VisibleFields(t) {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); f.IsExported() && name == path[0] {
				return hasPath(f.Type, path[1:])
			}
		}
	default: // nothing is below
	}
	return false
}

// checkAsserts evaluates terms on a document; the error names the first that is false.
func checkAsserts(terms []assertion, doc any) ([]assertion, error) {
	whole, err := decoded(doc)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(terms)
	for i := range out {
		found := at(whole, strings.Split(out[i].Path, "."))
		out[i].Found, out[i].Holds = written(found), holds(found, out[i].Op, out[i].Value)
		if !out[i].Holds && err == nil {
			err = &failure{
				Exit: exitFalse, Code: "assertion", Phase: "assert",
				Err: errors.New(out[i].text()),
			}
		}
	}
	return out, err
}

// text says of a term that is false what is there instead.
func (a assertion) text() string {
	return fmt.Sprintf("%s %s %s is false: it is %s", a.Path, a.Op, a.Value, foundText(a.Found))
}

// shownItems is how many items of a list are told to a person.
const shownItems = 8

// foundText is the value of a term for a person: of a list its first items, of one of
// objects how many there are.
func foundText(found string) string {
	v, err := decode([]byte(found))
	if _, object := v.(map[string]any); object && err == nil {
		return "an object; compare one of its fields"
	}
	list, ok := v.([]any)
	if !ok || err != nil {
		return plainText(found)
	}
	if len(list) == 0 {
		return "an empty list"
	}
	var items []string
	for _, item := range list[:min(len(list), shownItems)] {
		if _, object := item.(map[string]any); object {
			return fmt.Sprintf("a list of %d objects; compare a field of one of them", len(list))
		}
		items = append(items, plainText(written(item)))
	}
	if more := len(list) - len(items); more > 0 {
		items = append(items, fmt.Sprintf("%d more", more))
	}
	return strings.Join(items, ", ")
}

// decoded is a document as JSON readers see it.
func decoded(doc any) (any, error) {
	b, err := encode(doc)
	if err != nil {
		return nil, err
	}
	return decode(b)
}

func decode(b []byte) (whole any, err error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	err = dec.Decode(&whole)
	return whole, err
}

// at is the value at a path; nil if there is none.
func at(v any, path []string) any {
	for _, key := range path {
		switch of := v.(type) {
		case map[string]any:
			v = of[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(of) {
				return nil
			}
			v = of[i]
		default:
			return nil
		}
	}
	return v
}

// written is a value as a person writes it.
func written(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// holds compares. Null is equal to null only, and neither less nor more than anything.
func holds(found any, op, value string) bool {
	switch op {
	case "==":
		return same(found, value)
	case "!=":
		return !same(found, value)
	case "has":
		list, _ := found.([]any)
		return slices.ContainsFunc(list, func(v any) bool { return same(v, value) })
	}
	number, ok := found.(json.Number)
	if !ok {
		return false
	}
	a, errA := number.Float64()
	b, errB := strconv.ParseFloat(value, 64)
	if errA != nil || errB != nil {
		return false
	}
	switch op {
	case "<":
		return a < b
	case ">":
		return a > b
	case "<=":
		return a <= b
	default:
		return a >= b
	}
}

// same compares numbers by value and everything else as it is written.
func same(found any, value string) bool {
	if number, ok := found.(json.Number); ok {
		a, errA := number.Float64()
		b, errB := strconv.ParseFloat(value, 64)
		return errA == nil && errB == nil && a == b
	}
	return written(found) == value
}

// readDocument reads a document of --json, or the last line of --ndjson, and tells when it
// was made. what names in errors who wants it.
func readDocument(what, file, schema string) (raw []byte, at time.Time, err error) {
	b, err := readCapped(file)
	if err != nil {
		return nil, at, usagef("%s: %w", what, err)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, at, usagef("%s: %s is empty", what, file)
	}
	var head envelope
	if json.Unmarshal(b, &head) != nil {
		lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
		b = lines[len(lines)-1]
		if err := json.Unmarshal(b, &head); err != nil {
			return nil, at, usagef("%s: %s is no document: %w", what, file, err)
		}
	}
	if head.Schema != schema {
		return nil, at, usagef("%s: %s holds a document of %q, not of %s", what, file, head.Schema, schema)
	}
	return b, head.Time, nil
}

// maxDocument is how many bytes a file with a document, or with many lines of them, may have.
const maxDocument = 64 << 20

// readCapped reads a whole file, unless that is too large.
func readCapped(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(b) > maxDocument {
		return nil, fmt.Errorf("%s is larger than %s", file, sizeText(maxDocument))
	}
	return b, nil
}
