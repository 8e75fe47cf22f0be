package rendezvous

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The checker below holds a reply against what rust-libp2p's client demands.
// It reads the bytes by itself: sharing the codec would share its mistakes.

type rawFields map[protowire.Number][]rawField

type rawField struct {
	varint uint64
	bytes  []byte
}

func rawParse(data []byte) (rawFields, error) {
	out := make(rawFields)
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		data = data[n:]
		var f rawField
		switch typ {
		case protowire.VarintType:
			f.varint, n = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(data)
		default:
			return nil, fmt.Errorf("wire type %d", typ)
		}
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		data = data[n:]
		out[num] = append(out[num], f)
	}
	return out, nil
}

// checkRustReply returns why a rust client would reject the reply. both is
// set when the request asked for both flavours, which no rust client does.
func checkRustReply(reply []byte, both bool) error {
	if len(reply) > 1<<20 {
		return fmt.Errorf("reply of %d bytes", len(reply))
	}
	m, err := rawParse(reply)
	if err != nil {
		return err
	}
	kind, ok := m[1]
	if !ok {
		return errors.New("no type")
	}
	switch kind[0].varint {
	case 1:
		return checkRustRegister(m)
	case 4:
		return checkRustDiscover(m, both)
	default:
		return fmt.Errorf("type %d", kind[0].varint)
	}
}

func checkRustRegister(m rawFields) error {
	if m[3] == nil {
		return errors.New("no register response")
	}
	r, err := rawParse(m[3][0].bytes)
	switch {
	case err != nil:
		return err
	case r[1] == nil:
		return errors.New("register response without status")
	case r[1][0].varint == 0 && r[3] == nil:
		return errors.New("register response OK without ttl")
	}
	return nil
}

func checkRustDiscover(m rawFields, both bool) error {
	if m[6] == nil {
		return errors.New("no discover response")
	}
	r, err := rawParse(m[6][0].bytes)
	switch {
	case err != nil:
		return err
	case r[3] == nil:
		return errors.New("discover response without status")
	case r[3][0].varint != 0:
		return nil
	case r[2] == nil:
		return errors.New("discover response OK without cookie")
	}
	cookie := r[2][0].bytes
	if len(cookie) < 8 || !utf8.Valid(cookie[8:]) || len(cookie[8:]) > 255 {
		return fmt.Errorf("cookie %x", cookie)
	}
	flavours := make(map[string]int)
	for i, f := range r[1] {
		flavour, err := checkRustEntry(f.bytes, both)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		flavours[flavour]++
	}
	if len(flavours) > 1 && !both {
		return fmt.Errorf("flavours are mixed: %v", flavours)
	}
	return nil
}

func checkRustEntry(data []byte, both bool) (payloadType string, err error) {
	e, err := rawParse(data)
	switch {
	case err != nil:
		return "", err
	case e[1] == nil, e[2] == nil, e[3] == nil:
		return "", errors.New("ns, record or ttl is missing")
	case e[200] != nil && !both:
		return "", errors.New("second record that was not asked for")
	}
	envelope, err := rawParse(e[2][0].bytes)
	if err != nil || envelope[2] == nil {
		return "", errors.New("record is no envelope")
	}
	return string(envelope[2][0].bytes), nil
}
