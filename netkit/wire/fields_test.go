package wire

import (
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// TestFields: numbers and bytes come with their values, others are passed over, and what is no message is said to be none.
func TestFields(t *testing.T) {
	message := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 300)
	message = protowire.AppendFixed64(protowire.AppendTag(message, 2, protowire.Fixed64Type), 7)
	message = protowire.AppendString(protowire.AppendTag(message, 3, protowire.BytesType), "text")
	var seen []protowire.Number
	err := Fields(message, func(f Field) error {
		seen = append(seen, f.Num)
		if want := (map[protowire.Number]uint64{1: 300})[f.Num]; f.Number != want {
			t.Errorf("field %d is %d", f.Num, f.Number)
		}
		if want := (map[protowire.Number]string{3: "text"})[f.Num]; string(f.Bytes) != want {
			t.Errorf("field %d is %q", f.Num, f.Bytes)
		}
		return nil
	})
	if err != nil || !slices.Equal(seen, []protowire.Number{1, 2, 3}) {
		t.Errorf("fields %v, %v", seen, err)
	}
	stop := errors.New("enough")
	if err := Fields(message, func(Field) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("ended with %v", err)
	}
	for _, bad := range [][]byte{message[:len(message)-1], {0x80}, {0}, {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f}} {
		if err := Fields(bad, func(Field) error { return nil }); !errors.Is(err, ErrBadMessage) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}
