package p2panda

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"dibber/netkit/bamboo"

	"github.com/fxamacker/cbor/v2"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const venue = "venue_0020c65567ae37efea293e34a9c7d13f8f2bf23dbdc3b5c7b9ab46293111c48fc78b"

// messages are those of the vectors, whose structure is that of aquadoggo's own tests.
func messages(t testing.TB) map[string]Message {
	author := bamboo.Author(unhex(t, "9cdb3a8c0c4b308173d4c3c43a67a6d013444af99acb8be6c52423746d9aa2c1"))
	return map[string]Message{
		"8400011a6553f1008474736368656d615f646566696e6974696f6e5f7631781a736368656d615f6669656c645f646566696e6974696f6e5f763167626c6f625f76316d626c6f625f70696563655f7631": Announce{
			Version: 1, Timestamp: 1_700_000_000, Schemas: System(),
		},
		"840100008274736368656d615f646566696e6974696f6e5f7631784a76656e75655f3030323063363535363761653337656665613239336533346139633764313366386632626632336462646333623563376239616234363239333131316334386663373862": SyncRequest{
			Schemas: []string{"schema_definition_v1", venue},
		},
		"830a0080": Have{},
		"830a00818258209cdb3a8c0c4b308173d4c3c43a67a6d013444af99acb8be6c52423746d9aa2c181820001": Have{
			Heights: []AuthorHeights{{author, []Height{{0, 1}}}},
		},
		"830300f4":         SyncDone{},
		"8402054201024103": Entry{Session: 5, Entry: []byte{1, 2}, Operation: []byte{3}},
	}
}

func TestVectors(t *testing.T) {
	for vector, m := range messages(t) {
		got, err := Encode(m)
		if err != nil || hex.EncodeToString(got) != vector {
			t.Errorf("%T is written %x (%v), want %s", m, got, err, vector)
		}
		back, err := Decode(unhex(t, vector))
		if err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%s is read as %#v, %v", vector, back, err)
		}
	}
}

func TestHeightsMayBeText(t *testing.T) {
	raw, err := cbor.Marshal([]any{10, 0, []any{[]any{make([]byte, 32), []any{[]any{"7", "12"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(raw)
	if want := (Have{Heights: []AuthorHeights{{Logs: []Height{{7, 12}}}}}); err != nil || !reflect.DeepEqual(m, Message(want)) {
		t.Errorf("%#v, %v", m, err)
	}
}

func TestMalformedMessages(t *testing.T) {
	key := make([]byte, 32)
	for name, items := range map[string]any{
		"no array":                  "announce",
		"empty":                     []any{},
		"unknown type":              []any{4, 0, 0},
		"type of the handbook":      []any{20, 0, 0},
		"text as type":              []any{"0", 1, 1, []string{}},
		"announce, no set":          []any{0, 1, 1},
		"announce, one more":        []any{0, 1, 1, []string{}, 1},
		"request, no session":       []any{1, 0, []string{"blob_v1"}},
		"request for nothing":       []any{1, 0, 0, []string{}},
		"set out of order":          []any{1, 0, 0, []string{"blob_v1", "schema_definition_v1"}},
		"set in the order of names": []any{1, 0, 0, []string{"blob_piece_v1", "blob_v1"}},
		"set with one twice":        []any{1, 0, 0, []string{"blob_v1", "blob_v1"}},
		"application first":         []any{1, 0, 0, []string{venue, "blob_v1"}},
		"no schema":                 []any{0, 1, 1, []string{"venue"}},
		"entry alone":               []any{2, 0, []byte{1}},
		"entry, operation null":     []any{2, 0, []byte{1}, nil},
		"entry as text":             []any{2, 0, "01", []byte{1}},
		"announce, null":            []any{0, 1, nil, []string{}},
		"have, null":                []any{10, 0, nil},
		"have, null logs":           []any{10, 0, []any{[]any{key, nil}}},
		"done, a number":            []any{3, 0, 0},
		"have, key short":           []any{10, 0, []any{[]any{key[:31], []any{[]any{0, 1}}}}},
		"have, key as text":         []any{10, 0, []any{[]any{"00", []any{[]any{0, 1}}}}},
		"have, flat":                []any{10, 0, []any{[]any{key, 0, 1}}},
		"have, seq 0":               []any{10, 0, []any{[]any{key, []any{[]any{0, 0}}}}},
		"have, negative":            []any{10, 0, []any{[]any{key, []any{[]any{-1, 1}}}}},
		"have, three numbers":       []any{10, 0, []any{[]any{key, []any{[]any{0, 1, 1}}}}},
	} {
		raw, err := cbor.Marshal(items)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := Decode(raw); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %#v, %v", name, m, err)
		}
	}
}

func TestWhatIsNotWritten(t *testing.T) {
	for name, m := range map[string]Message{
		"entry alone":         Entry{Entry: []byte{1}},
		"request for nothing": SyncRequest{},
		"set out of order":    Announce{Schemas: []string{"blob_v1", "schema_definition_v1"}},
	} {
		if b, err := Encode(m); err == nil {
			t.Errorf("%s is written as %x", name, b)
		}
	}
}

func TestSchemaSet(t *testing.T) {
	long := venue + "_0020" + strings.Repeat("f", 64)
	got, err := SchemaSet(venue, "blob_piece_v1", "schema_field_definition_v1", "a"+venue, long, "blob_v1", venue)
	want := []string{"schema_field_definition_v1", "blob_v1", "blob_piece_v1", "a" + venue, venue, long}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v %v", got, err)
	}
	if _, err := SchemaSet("venue"); !errors.Is(err, ErrSchemas) {
		t.Error(err)
	}
}

func TestReader(t *testing.T) {
	var stream []byte
	var want []Message
	for vector, m := range messages(t) {
		stream, want = append(stream, unhex(t, vector)...), append(want, m)
	}
	for name, from := range map[string]io.Reader{
		"at once": bytes.NewReader(stream), "by the byte": iotest.OneByteReader(bytes.NewReader(stream)), "with its end": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		r := NewReader(from)
		for i, m := range want {
			if got, err := r.Next(); err != nil || !reflect.DeepEqual(got, m) {
				t.Fatalf("%s: message %d is %#v, %v; want %#v", name, i, got, err, m)
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: at the end %v", name, err)
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	piece, err := Encode(Entry{Entry: make([]byte, 200), Operation: make([]byte, MaxMessage)})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		raw  []byte
		want error
	}{
		"more than fits":     {piece, ErrMessage},
		"a count alone":      {unhex(t, "9bffffffffffffffff"), ErrMessage},
		"counts in counts":   {bytes.Repeat(unhex(t, "9a000fffff"), 20), ErrMessage},
		"a length alone":     {unhex(t, "8402005b7fffffffffffffff"), ErrMessage},
		"a length that fits": {unhex(t, "8402005a000fff00"), io.ErrUnexpectedEOF},
		"length left open":   {unhex(t, "9f00"), ErrMessage},
		"tag":                {unhex(t, "c100"), ErrMessage},
		"cut off":            {unhex(t, "830300"), io.ErrUnexpectedEOF},
		"no message":         {unhex(t, "83185800f4"), ErrMessage},
	} {
		if m, err := NewReader(bytes.NewReader(c.raw)).Next(); !errors.Is(err, c.want) {
			t.Errorf("%s: %#v, %v", name, m, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	for vector := range messages(f) {
		f.Add(unhex(f, vector))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := NewReader(bytes.NewReader(raw))
		for {
			m, err := r.Next()
			if err != nil {
				return
			}
			again, err := Encode(m)
			if e, ok := m.(Entry); ok && len(e.Operation) == 0 {
				continue // read, never written
			}
			if err != nil {
				t.Fatalf("%#v was read and cannot be written: %v", m, err)
			}
			if back, err := Decode(again); err != nil || !reflect.DeepEqual(back, m) {
				t.Fatalf("%#v came back as %#v, %v", m, back, err)
			}
		}
	})
}
