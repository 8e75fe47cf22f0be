// Package rustcheck holds a rendezvous reply against what rust-libp2p's client
// demands. It is for tests, of the protocol and of what is composed of it, and
// reads the bytes by itself: to share the codec would share its mistakes.
package rustcheck

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

type fields map[protowire.Number][]field

type field struct {
	varint uint64
	bytes  []byte
}

func parse(data []byte) (fields, error) {
	out := make(fields)
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		data = data[n:]
		var f field
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

// Reply is what a rust client reads out of a reply that it takes.
type Reply struct {
	Status  uint64
	Records [][]byte // signed envelopes, of a reply to DISCOVER
}

// Check reads a reply to REGISTER or DISCOVER, or returns why a rust client would
// reject it. both is set when the request asked for both flavours, which no rust
// client does.
func Check(reply []byte, both bool) (Reply, error) {
	if len(reply) > 1<<20 {
		return Reply{}, fmt.Errorf("reply of %d bytes", len(reply))
	}
	m, err := parse(reply)
	if err != nil {
		return Reply{}, err
	}
	kind, ok := m[1]
	if !ok {
		return Reply{}, errors.New("no type")
	}
	switch kind[0].varint {
	case 1:
		return checkRegister(m)
	case 4:
		return checkDiscover(m, both)
	default:
		return Reply{}, fmt.Errorf("type %d", kind[0].varint)
	}
}

func checkRegister(m fields) (Reply, error) {
	if m[3] == nil {
		return Reply{}, errors.New("no register response")
	}
	r, err := parse(m[3][0].bytes)
	switch {
	case err != nil:
		return Reply{}, err
	case r[1] == nil:
		return Reply{}, errors.New("register response without status")
	case r[1][0].varint == 0 && r[3] == nil:
		return Reply{}, errors.New("register response OK without ttl")
	}
	return Reply{Status: r[1][0].varint}, nil
}

func checkDiscover(m fields, both bool) (Reply, error) {
	if m[6] == nil {
		return Reply{}, errors.New("no discover response")
	}
	r, err := parse(m[6][0].bytes)
	switch {
	case err != nil:
		return Reply{}, err
	case r[3] == nil:
		return Reply{}, errors.New("discover response without status")
	case r[3][0].varint != 0:
		return Reply{Status: r[3][0].varint}, nil
	case r[2] == nil:
		return Reply{}, errors.New("discover response OK without cookie")
	}
	cookie := r[2][0].bytes
	if len(cookie) < 8 || !utf8.Valid(cookie[8:]) || len(cookie[8:]) > 255 {
		return Reply{}, fmt.Errorf("cookie %x", cookie)
	}
	var out Reply
	flavours := make(map[string]int)
	for i, f := range r[1] {
		record, flavour, err := checkEntry(f.bytes, both)
		if err != nil {
			return Reply{}, fmt.Errorf("entry %d: %w", i, err)
		}
		out.Records = append(out.Records, record)
		flavours[flavour]++
	}
	if len(flavours) > 1 && !both {
		return Reply{}, fmt.Errorf("flavours are mixed: %v", flavours)
	}
	return out, nil
}

func checkEntry(data []byte, both bool) (record []byte, payloadType string, err error) {
	e, err := parse(data)
	switch {
	case err != nil:
		return nil, "", err
	case e[1] == nil, e[2] == nil, e[3] == nil:
		return nil, "", errors.New("ns, record or ttl is missing")
	case e[200] != nil && !both:
		return nil, "", errors.New("second record that was not asked for")
	}
	envelope, err := parse(e[2][0].bytes)
	if err != nil || envelope[2] == nil {
		return nil, "", errors.New("record is no envelope")
	}
	return e[2][0].bytes, string(envelope[2][0].bytes), nil
}
