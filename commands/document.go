package commands

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"time"
)

// envelope is how every document begins. A document's own fields follow it, then verdict.
type envelope struct {
	Schema    string    `json:"schema"`
	Event     string    `json:"event,omitempty"` // with --ndjson only
	Time      time.Time `json:"time"`            // when the document was made
	ElapsedMS float64   `json:"elapsed_ms"`      // since the program started
}

// verdict is how every result document ends; events other than the summary have none.
type verdict struct {
	OK    bool      `json:"ok"`
	Error *errorDoc `json:"error"`
}

// summaryEvent is the event of the last line of --ndjson.
const summaryEvent = "summary"

// encode makes one JSON object of the fields of all parts, which are structs, in their order. Lists and maps without entries are
// [] and {}, never null: null means unknown, and an unknown list is a nil pointer to one.
func encode(parts ...any) ([]byte, error) {
	var line bytes.Buffer
	line.WriteByte('{')
	for _, part := range parts {
		if part == nil {
			continue
		}
		var one bytes.Buffer
		enc := json.NewEncoder(&one)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(withLists(reflect.ValueOf(part)).Interface()); err != nil {
			return nil, fmt.Errorf("encode %T: %w", part, err)
		}
		fields, found := bytes.CutPrefix(bytes.TrimSpace(one.Bytes()), []byte("{"))
		if !found {
			return nil, fmt.Errorf("encode %T: a document is a struct or a map", part)
		}
		fields = bytes.TrimSuffix(fields, []byte("}"))
		if line.Len() > 1 && len(fields) > 0 {
			line.WriteByte(',')
		}
		line.Write(fields)
	}
	line.WriteString("}\n")
	return line.Bytes(), nil
}

// withLists returns a copy of v in which every nil slice or map is an empty one. Types that encode themselves are left alone.
func withLists(v reflect.Value) reflect.Value {
	if _, custom := reflect.TypeAssert[json.Marshaler](v); custom {
		return v
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return v
		}
		inner := withLists(v.Elem())
		if v.Kind() == reflect.Interface {
			return inner
		}
		p := reflect.New(v.Type().Elem())
		p.Elem().Set(inner)
		return p
	case reflect.Struct:
		c := reflect.New(v.Type()).Elem()
		c.Set(v)
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				c.Field(i).Set(withLists(v.Field(i)))
			}
		}
		return c
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v
		}
		c := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			c.Index(i).Set(withLists(v.Index(i)))
		}
		return c
	case reflect.Map:
		c := reflect.MakeMapWithSize(v.Type(), v.Len())
		for key, value := range v.Seq2() {
			c.SetMapIndex(key, withLists(value))
		}
		return c
	default:
		return v
	}
}

// millis returns a duration as documents carry it: in milliseconds, to the microsecond.
func millis(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}
