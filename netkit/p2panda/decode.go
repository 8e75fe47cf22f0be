package p2panda

import (
	"fmt"
	"strconv"

	"dibber/netkit/bamboo"

	"github.com/fxamacker/cbor/v2"
)

// MaxMessage is the length in bytes above which a message is refused. The longest that honest nodes send carries a piece
// of a blob, 256,000 bytes, or the heights of some twenty thousand logs.
const MaxMessage = 1 << 20

// decode reads one item: of definite length and without tags, as nodes write them.
func decode(data []byte, into any) error {
	mode, err := cbor.DecOptions{
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden, MaxNestedLevels: 6, MaxArrayElements: MaxMessage,
	}.DecMode()
	if err == nil {
		err = mode.Unmarshal(data, into)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrMessage, err)
	case len(data) == 1 && (data[0] == null || data[0] == undefined): // which the library reads as zero
		return fmt.Errorf("%w: nothing where something belongs", ErrMessage)
	}
	return nil
}

// Items of CBOR that stand for nothing (RFC 8949, 3.3).
const (
	null      = 0xf6
	undefined = 0xf7
)

// decoder takes the items of a message one after the other and keeps the first error.
type decoder struct {
	items []cbor.RawMessage
	err   error
}

// next decodes the next item.
func (d *decoder) next(into any) bool {
	switch {
	case d.err != nil:
		return false
	case len(d.items) == 0:
		d.err = fmt.Errorf("%w: too few items", ErrMessage)
		return false
	}
	d.err = decode(d.items[0], into)
	d.items = d.items[1:]
	return d.err == nil
}

// end returns the first error, that others found included.
func (d *decoder) end(found error) error {
	if d.err == nil && len(d.items) > 0 {
		d.err = fmt.Errorf("%w: %d items too many", ErrMessage, len(d.items))
	}
	if d.err == nil && found != nil {
		d.err = fmt.Errorf("%w: %w", ErrMessage, found)
	}
	return d.err
}

func (d *decoder) number() (n uint64) {
	d.next(&n)
	return n
}

func (d *decoder) bool() (b bool) {
	d.next(&b)
	return b
}

func (d *decoder) bytes() (b []byte) {
	d.next(&b)
	return b
}

func (d *decoder) schemas() (ids []string) {
	d.next(&ids)
	return ids
}

// heights are those of a Have. The numbers may be text, too.
func (d *decoder) heights() (out []AuthorHeights) {
	var authors []struct {
		_      struct{} `cbor:",toarray"`
		Author []byte
		Logs   [][]any
	}
	if !d.next(&authors) {
		return nil
	}
	for _, a := range authors {
		if len(a.Author) != len(bamboo.Author{}) {
			d.err = fmt.Errorf("%w: public key of %d bytes", ErrMessage, len(a.Author))
			return nil
		}
		if a.Logs == nil {
			d.err = fmt.Errorf("%w: nothing where logs belong", ErrMessage)
			return nil
		}
		h := AuthorHeights{Author: bamboo.Author(a.Author)}
		for _, pair := range a.Logs {
			height, err := heightOf(pair)
			if err != nil {
				d.err = err
				return nil
			}
			h.Logs = append(h.Logs, height)
		}
		out = append(out, h)
	}
	return out
}

func heightOf(pair []any) (h Height, err error) {
	if len(pair) != 2 {
		return h, fmt.Errorf("%w: log height of %d items", ErrMessage, len(pair))
	}
	if h.Log, err = numberOf(pair[0]); err != nil {
		return h, err
	}
	if h.Seq, err = numberOf(pair[1]); err == nil && h.Seq == 0 {
		err = fmt.Errorf("%w: sequence number 0", ErrMessage)
	}
	return h, err
}

func numberOf(v any) (uint64, error) {
	switch v := v.(type) {
	case uint64:
		return v, nil
	case string:
		if n, err := strconv.ParseUint(v, 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%w: %.40v where a number belongs", ErrMessage, v)
}
