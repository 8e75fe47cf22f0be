package main

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// The requests are written out field by field, as the specification numbers them, so that they are made before the clock runs.

func encodeRegister(ns string, envelope []byte, ttl uint64) []byte {
	var body []byte
	body = protowire.AppendString(protowire.AppendTag(body, 1, protowire.BytesType), ns)
	body = protowire.AppendBytes(protowire.AppendTag(body, 2, protowire.BytesType), envelope)
	body = protowire.AppendVarint(protowire.AppendTag(body, 3, protowire.VarintType), ttl)
	return request(0, 2, body)
}

func encodeDiscover(ns string, limit uint64, cookie []byte) []byte {
	var body []byte
	body = protowire.AppendString(protowire.AppendTag(body, 1, protowire.BytesType), ns)
	body = protowire.AppendVarint(protowire.AppendTag(body, 2, protowire.VarintType), limit)
	if cookie != nil {
		body = protowire.AppendBytes(protowire.AppendTag(body, 3, protowire.BytesType), cookie)
	}
	return request(3, 5, body)
}

func request(kind uint64, field protowire.Number, body []byte) []byte {
	out := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), kind)
	return protowire.AppendBytes(protowire.AppendTag(out, field, protowire.BytesType), body)
}

// checkStatus returns an error for a reply whose status is not OK.
func checkStatus(reply []byte) error {
	status := uint64(1)
	for body := reply; len(body) > 0; {
		num, typ, n := protowire.ConsumeTag(body)
		if n < 0 {
			return protowire.ParseError(n)
		}
		body = body[n:]
		if typ == protowire.BytesType && (num == 3 || num == 6) {
			inner, _ := protowire.ConsumeBytes(body)
			status = statusField(inner, map[protowire.Number]protowire.Number{3: 1, 6: 3}[num])
		}
		if n = protowire.ConsumeFieldValue(num, typ, body); n < 0 {
			return protowire.ParseError(n)
		}
		body = body[n:]
	}
	if status != 0 {
		return fmt.Errorf("answered with status %d", status)
	}
	return nil
}

func statusField(body []byte, field protowire.Number) uint64 {
	for len(body) > 0 {
		num, typ, n := protowire.ConsumeTag(body)
		if n < 0 {
			return 1
		}
		body = body[n:]
		if num == field && typ == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(body)
			return v
		}
		if n = protowire.ConsumeFieldValue(num, typ, body); n < 0 {
			return 1
		}
		body = body[n:]
	}
	return 1
}
