package relay

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// FuzzReadIntro: a request is refused, or what it holds lies within it.
func FuzzReadIntro(f *testing.F) {
	whole := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte("destination"))
	f.Add(protowire.AppendBytes(protowire.AppendTag(whole, 2, protowire.BytesType), []byte("message")))
	f.Add([]byte{0x08, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte{0x0a, 0x05, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, first := range []protowire.Type{protowire.BytesType, protowire.VarintType} {
			head, body, err := readIntro(data, first)
			if err == nil && (!bytes.Contains(data, head) || !bytes.Contains(data, body)) {
				t.Fatalf("%x gave %x and %x", data, head, body)
			}
		}
	})
}
