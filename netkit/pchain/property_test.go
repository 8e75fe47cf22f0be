package pchain

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// draw fills a value with what can be sent.
func draw(t *rapid.T, v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *Status:
		*x = rapid.SampledFrom([]Status{StatusInvalid, StatusNonceTooLow, StatusNonceInaccessible}).Draw(t, "status")
		return
	case *[]byte:
		*x = rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "bytes")
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rapid.Uint64Max(1<<v.Type().Bits()-1).Draw(t, "number"))
	case reflect.String:
		v.SetString(rapid.String().Draw(t, "text"))
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "there") {
			v.Set(reflect.New(v.Type().Elem()))
			draw(t, v.Elem())
		}
	case reflect.Slice:
		n := rapid.IntRange(0, 3).Draw(t, "items")
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			draw(t, v.Index(i))
		}
	case reflect.Struct:
		if _, ok := reflect.TypeAssert[enum](v); ok {
			field := v.Field(rapid.IntRange(0, v.NumField()-1).Draw(t, "variant"))
			field.Set(reflect.New(field.Type().Elem()))
			draw(t, field.Elem())
			return
		}
		for _, field := range v.Fields() {
			draw(t, field)
		}
	default:
		t.Fatalf("no %s is sent", v.Type())
	}
}

// drawPayload makes a message that a profile has, and tells the topic for it.
func drawPayload(t *rapid.T, p Profile) (string, Payload) {
	out := Payload{}
	topic := rapid.SampledFrom(append(p.Topics(), p.Mailbox(Address{1}))).Draw(t, "topic")
	switch topic {
	case p.Mempool:
		out.Transaction, out.TxVersion = new(Transaction), TxV1
		if p.versioned {
			out.TxVersion = rapid.SampledFrom([]TxVersion{TxV1, TxV2}).Draw(t, "version")
		}
		draw(t, reflect.ValueOf(out.Transaction).Elem())
	case p.Dropped:
		out.Dropped = new(Dropped)
		draw(t, reflect.ValueOf(out.Dropped).Elem())
	default:
		out.Message = new(Message)
		draw(t, reflect.ValueOf(out.Message).Elem())
	}
	out.Kind = out.kind()
	return topic, out
}

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	for _, p := range Profiles() {
		t.Run(p.Name, rapid.MakeCheck(func(t *rapid.T) {
			topic, want := drawPayload(t, p)
			data, err := p.Encode(want)
			if err != nil {
				t.Fatal(err)
			}
			want.Trailing = rapid.IntRange(0, 3).Draw(t, "trailing")
			got, err := p.Decode(topic, append(data, make([]byte, want.Trailing)...))
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Fatalf("%v: %s", err, diff)
			}
			n := rapid.IntRange(0, len(data)-1).Draw(t, "cut") // no beginning of a message is one
			if short, err := p.Decode(topic, data[:n]); err == nil && short.Kind != KindOpaque {
				t.Fatalf("%d of %d bytes are %+v", n, len(data), short)
			}
			text, err := json.Marshal(want)
			var read Payload
			if err == nil {
				err = json.Unmarshal(text, &read)
			}
			if diff := cmp.Diff(want, read); diff != "" || err != nil {
				t.Fatalf("by way of %s: %v: %s", text, err, diff)
			}
		}))
	}
}

// FuzzDecode: what can be read is written again as it was, and nothing makes the decoder fall over.
func FuzzDecode(f *testing.F) {
	for i, p := range Profiles() {
		for j := range append(p.Topics(), "") {
			f.Add(uint8(i), uint8(j), []byte{0, 3, 1})
		}
		f.Add(uint8(i), uint8(1), append(make([]byte, 41), 255, 255, 0, 0, 12, 12))
		f.Add(uint8(i), uint8(2), append(append([]byte{1}, make([]byte, 32)...), 0x03, 0x02))
	}
	sync, err := marshal(nil, Message{Sync: &Sync{Response: &SyncResponse{
		Blocks: []Block{{Justify: Genesis(), Data: [][]byte{{1}, {}}}}, HighestQC: Genesis(),
	}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(0), uint8(0), sync)
	f.Fuzz(func(t *testing.T, profile, topic uint8, data []byte) {
		p := Profiles()[int(profile)%len(Profiles())]
		topics := append(p.Topics(), p.Mailbox(Address{}), "else")
		m, err := p.Decode(topics[int(topic)%len(topics)], data)
		if err != nil || m.Kind == KindOpaque {
			return
		}
		again, err := p.Encode(m)
		if err != nil || !bytes.Equal(again, data[:len(data)-m.Trailing]) {
			t.Errorf("%x is read as %+v and written as %x, %v", data, m, again, err)
		}
	})
}

// FuzzParseBoot: what is a boot node is one again as it writes itself, and can be dialled.
func FuzzParseBoot(f *testing.F) {
	f.Add("6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw@127.0.0.1:25519")
	f.Add("6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw@[::1]:1")
	f.Add("6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw@boot.example.org:65535")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := ParseBoot(text)
		if err != nil {
			return
		}
		again, err := ParseBoot(b.String())
		if err != nil || again != b {
			t.Errorf("%q is %+v, and %q is %+v, %v", text, b, b.String(), again, err)
		}
		if info, err := b.AddrInfo(); err != nil || info.ID != b.Address.Peer() || len(info.Addrs) != 1 {
			t.Errorf("%q: %v, %v", text, info, err)
		}
	})
}
