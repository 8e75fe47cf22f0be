package bamboo

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestOperationRoundTrip(t *testing.T) {
	hash := rapid.Custom(func(t *rapid.T) Hash { return HashOf(rapid.SliceOf(rapid.Byte()).Draw(t, "hashed")) })
	value := rapid.OneOf(
		rapid.Bool().AsAny(), rapid.Int64().AsAny(), rapid.Float64().AsAny(), rapid.String().AsAny(), rapid.SliceOf(rapid.Byte()).AsAny(),
		rapid.SliceOf(hash).AsAny(), rapid.SliceOfN(rapid.SliceOf(hash), 1, 4).AsAny(),
	)
	rapid.Check(t, func(t *rapid.T) {
		o := Operation{Action: Action(rapid.IntRange(0, 2).Draw(t, "action")), Schema: venue}
		_, previous, fields := o.Action.parts()
		if previous {
			o.Previous = rapid.SliceOfNDistinct(hash, 1, 5, rapid.ID[Hash]).Draw(t, "previous")
			slices.SortFunc(o.Previous, func(a, b Hash) int { return bytes.Compare(a[:], b[:]) })
		}
		if fields {
			o.Fields = rapid.MapOfN(rapid.String(), value, 1, 8).Draw(t, "fields")
		}
		raw, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeOperation(raw)
		if err != nil {
			t.Fatalf("%x: %v", raw, err)
		}
		if diff := cmp.Diff(o, got, cmpopts.EquateNaNs()); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestOrderOfFields is the trap of canonical CBOR, which puts short names first.
func TestOrderOfFields(t *testing.T) {
	raw, err := (&Operation{Schema: "blob_v1", Fields: map[string]any{"data": true, "comments": true, "age": true}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	age, comments, data := bytes.Index(raw, []byte("age")), bytes.Index(raw, []byte("comments")), bytes.Index(raw, []byte("data"))
	if age > comments || comments > data {
		t.Errorf("written in another order: %q", raw)
	}
}

func TestEncodeRefuses(t *testing.T) {
	fields := map[string]any{"a": true}
	for want, o := range map[string]Operation{
		"unknown action 3":                     {Action: 3, Schema: venue},
		"is neither":                           {Schema: "venue", Fields: fields},
		"action 0 with 1 previous":             {Schema: venue, Previous: make([]Hash, 1), Fields: fields},
		"action 1 with 0 previous":             {Action: Update, Schema: venue, Fields: fields},
		"previous operations do not rise":      {Action: Delete, Schema: venue, Previous: make([]Hash, 2)},
		"action 0 with 0 fields":               {Schema: venue},
		"action 2 with 1 fields":               {Action: Delete, Schema: venue, Previous: make([]Hash, 1), Fields: fields},
		`field "a": no field holds a int`:      {Schema: venue, Fields: map[string]any{"a": 1}},
		`field "a": no field holds a <nil>`:    {Schema: venue, Fields: map[string]any{"a": nil}},
		`field "a": no field holds a []string`: {Schema: venue, Fields: map[string]any{"a": []string{}}},
	} {
		if _, err := o.Encode(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestDecodeOperationRefuses has the ideas of upstream's src/operation/decode.rs.
func TestDecodeOperationRefuses(t *testing.T) {
	link := id(t, idA).Append(nil)
	ok := cbor.RawMessage{0xa1, 0x61, 'a', 0xf5}
	fields := func(raw string) []any { return []any{1, 0, venue, cbor.RawMessage(raw)} }
	for name, c := range map[string]struct {
		items any
		want  string
	}{
		"no array":                  {"text", ""},
		"a map":                     {map[int]int{1: 0}, ""},
		"empty":                     {[]any{}, "0 items"},
		"two items":                 {[]any{1, 0}, "2 items"},
		"version 0":                 {[]any{0, 0, venue, ok}, "unknown version 0"},
		"version 2":                 {[]any{2, 0, venue, ok}, "unknown version 2"},
		"version of text":           {[]any{"1", 0, venue, ok}, ""},
		"negative version":          {[]any{-1, 0, venue, ok}, ""},
		"action 3":                  {[]any{1, 3, venue, ok}, "unknown action 3"},
		"action 256":                {[]any{1, 256, venue, ok}, "unknown action 256"},
		"schema of bytes":           {[]any{1, 0, []byte(venue), ok}, ""},
		"no schema":                 {[]any{1, 0, "", ok}, "is neither"},
		"unknown system schema":     {[]any{1, 0, "blobs_v1", ok}, "is neither"},
		"version of a schema":       {[]any{1, 0, "blob_v256", ok}, "version"},
		"schema in capitals":        {[]any{1, 0, strings.ToUpper(venue), ok}, "is neither"},
		"schema with a short name":  {[]any{1, 0, venue[4:], ok}, "is neither"},
		"schema with a number":      {[]any{1, 0, "0" + venue, ok}, "is neither"},
		"schema with an underscore": {[]any{1, 0, "venue_" + venue[5:], ok}, "is neither"},
		"schema ids unsorted":       {[]any{1, 0, venue + venue[5:], ok}, "do not rise"},
		"create with previous":      {[]any{1, 0, venue, [][]byte{link}, ok}, "5 items, want 4"},
		"create without fields":     {[]any{1, 0, venue}, "3 items, want 4"},
		"update without previous":   {[]any{1, 1, venue, ok}, "4 items, want 5"},
		"update with empty":         {[]any{1, 1, venue, [][]byte{}, ok}, "0 previous"},
		"delete with fields":        {[]any{1, 2, venue, [][]byte{link}, ok}, "5 items, want 4"},
		"delete with map":           {[]any{1, 2, venue, ok}, "previous operations"},
		"delete without previous":   {[]any{1, 2, venue}, "3 items, want 4"},
		"one item too many":         {[]any{1, 1, venue, [][]byte{link}, ok, 1}, "6 items, want 5"},
		"previous twice":            {[]any{1, 2, venue, [][]byte{link, link}}, "do not rise"},
		"previous short":            {[]any{1, 2, venue, [][]byte{link[1:]}}, "malformed hash"},
		"previous long":             {[]any{1, 2, venue, [][]byte{append(link, 0)}}, "malformed hash"},
		"previous of text":          {[]any{1, 2, venue, []string{idA}}, "not a byte string"},
		"previous of numbers":       {[]any{1, 2, venue, []int{7}}, "not a byte string"},
		"fields in an array":        {[]any{1, 0, venue, []int{}}, "not a map"},
		"no fields":                 {fields("\xa0"), "0 fields"},
		"fields unsorted":           {fields("\xa2\x61b\xf5\x61a\xf5"), `"a" stands after "b"`},
		"fields in canonical order": {fields("\xa2\x61b\xf5\x62aa\xf5"), `"aa" stands after "b"`},
		"field twice":               {fields("\xa2\x61a\xf5\x61a\xf5"), `"a" stands after "a"`},
		"name of a number":          {fields("\xa1\x01\xf5"), "name of a field"},
		"name not UTF-8":            {fields("\xa1\x61\xff\xf5"), ""},
		"field of null":             {fields("\xa1\x61a\xf6"), "no field holds"},
		"field of a map":            {fields("\xa1\x61a\xa0"), "no field holds"},
		"field of a tag":            {fields("\xa1\x61a\xc1\x00"), ""},
		"field too large":           {fields("\xa1\x61a\x1b\xff\xff\xff\xff\xff\xff\xff\xff"), "no field holds"},
		"field too negative":        {fields("\xa1\x61a\x3b\xff\xff\xff\xff\xff\xff\xff\xff"), ""},
		"list of texts":             {fields("\xa1\x61a\x81\x61x"), "not a byte string"},
		"list of both":              {[]any{1, 0, venue, map[string]any{"a": []any{link, [][]byte{link}}}}, ""},
		"lists of lists of lists":   {[]any{1, 0, venue, map[string]any{"a": [][][][]byte{{{link}}}}}, "not a byte string"},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := cbor.Marshal(c.items)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := DecodeOperation(raw); !errors.Is(err, ErrOperation) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	for _, raw := range [][]byte{nil, {0x9f, 0xff}, {0x84}, {0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, append(unhex(t, operationA), 0)} {
		if _, err := DecodeOperation(raw); !errors.Is(err, ErrOperation) {
			t.Errorf("%x: %v", raw, err)
		}
	}
}

func TestCountsAreChecked(t *testing.T) {
	head := appendHead(nil, majorMap, math.MaxUint64)
	if major, count, _, err := readHead(head); major != majorMap || count != math.MaxUint64 || err != nil {
		t.Fatalf("%d, %d, %v", major, count, err)
	}
	mode, err := cbor.DecOptions{}.DecMode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeFields(mode, append(head, 0x61, 'a', 0xf5)); err == nil {
		t.Error("a map was read that has more fields than bytes")
	}
}

func FuzzDecodeOperation(f *testing.F) {
	f.Add(unhex(f, operationA))
	f.Add(unhex(f, operationB))
	raw, err := (&Operation{Action: Update, Schema: "blob_v1", Previous: []Hash{HashOf(nil)}, Fields: map[string]any{"a": [][]Hash{{}, {HashOf(nil)}}}}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := DecodeOperation(data)
		if err != nil {
			return
		}
		raw, err := o.Encode()
		if err != nil {
			t.Fatalf("%x was read as %v, which cannot be written: %v", data, o, err)
		}
		again, err := DecodeOperation(raw)
		if diff := cmp.Diff(o, again, cmpopts.EquateNaNs()); err != nil || diff != "" {
			t.Fatalf("%v %s", err, diff)
		}
	})
}
