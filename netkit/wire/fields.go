package wire

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrBadMessage is returned for bytes that are no protobuf message.
var ErrBadMessage = errors.New("malformed message")

// Field is one field of a protobuf message.
type Field struct {
	Num    protowire.Number
	Type   protowire.Type
	Number uint64 // of a varint; else 0
	Bytes  []byte // of bytes, strings and messages, within the message that was walked; else nil
}

// Fields calls visit for each field of a protobuf message, in their order, and takes no memory for them. Those of other types
// than varint and bytes come without their value. It ends with visit's error, or with ErrBadMessage.
func Fields(message []byte, visit func(Field) error) error {
	for len(message) > 0 {
		var f Field
		var n int
		if f.Num, f.Type, n = protowire.ConsumeTag(message); n < 0 {
			return fmt.Errorf("%w: %w", ErrBadMessage, protowire.ParseError(n))
		}
		message = message[n:]
		switch f.Type {
		case protowire.VarintType:
			f.Number, n = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			f.Bytes, n = protowire.ConsumeBytes(message)
		default:
			n = protowire.ConsumeFieldValue(f.Num, f.Type, message)
		}
		if n < 0 {
			return fmt.Errorf("%w: %w", ErrBadMessage, protowire.ParseError(n))
		}
		message = message[n:]
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}
