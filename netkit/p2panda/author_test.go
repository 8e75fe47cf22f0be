package p2panda

import (
	"crypto/ed25519"
	"slices"
	"testing"

	"dibber/netkit/bamboo"
)

// author signs operations as an application of p2panda does: a log for each document.
type author struct {
	t    testing.TB
	key  ed25519.PrivateKey
	logs map[uint64][]bamboo.Signed
	docs map[bamboo.Hash]uint64
}

func newAuthor(t testing.TB, seed byte) *author {
	return &author{
		t: t, key: ed25519.NewKeyFromSeed(append(make([]byte, 31), seed)),
		logs: make(map[uint64][]bamboo.Signed), docs: make(map[bamboo.Hash]uint64),
	}
}

// write signs an operation into the author's log of a document.
func (a *author) write(doc bamboo.Hash, o bamboo.Operation) Record {
	a.t.Helper()
	log, ok := a.docs[doc]
	if !ok {
		log = uint64(len(a.docs))
	}
	payload, err := o.Encode()
	if err != nil {
		a.t.Fatal(err)
	}
	var last *bamboo.Signed
	var skip bamboo.Hash
	if n := len(a.logs[log]); n > 0 {
		last = &a.logs[log][n-1]
		if bamboo.HasSkiplink(uint64(n + 1)) {
			skip = a.logs[log][bamboo.Lipmaa(uint64(n+1))-1].ID
		}
	}
	signed, err := bamboo.Sign(a.key, log, last, skip, payload)
	if err != nil {
		a.t.Fatal(err)
	}
	a.logs[log] = append(a.logs[log], signed)
	if o.Action == bamboo.Create {
		doc = signed.ID
	}
	a.docs[doc] = log
	return Record{Signed: signed, Operation: payload}
}

func (a *author) create(schema string, fields map[string]any) Record {
	a.t.Helper()
	return a.write(bamboo.Hash{}, bamboo.Operation{Schema: schema, Fields: fields})
}

func (a *author) update(doc Record, previous ...bamboo.Hash) Record {
	a.t.Helper()
	slices.SortFunc(previous, func(a, b bamboo.Hash) int { return slices.Compare(a[:], b[:]) })
	return a.write(doc.ID, bamboo.Operation{Action: bamboo.Update, Schema: schemaOf(doc), Previous: previous, Fields: map[string]any{"text": "more"}})
}

func (a *author) remove(doc Record, previous ...bamboo.Hash) Record {
	a.t.Helper()
	return a.write(doc.ID, bamboo.Operation{Action: bamboo.Delete, Schema: schemaOf(doc), Previous: previous})
}

// schema defines a schema with one field, and returns its id with the operations that define it.
func (a *author) schema(name string) (id string, records []Record) {
	a.t.Helper()
	field := a.create("schema_field_definition_v1", map[string]any{"name": "text", "type": "str"})
	definition := a.create("schema_definition_v1", map[string]any{
		"name": name, "description": "", "fields": [][]bamboo.Hash{{field.ID}},
	})
	return name + "_" + definition.ID.String(), []Record{field, definition}
}

func schemaOf(r Record) string {
	o, err := bamboo.DecodeOperation(r.Operation)
	if err != nil {
		return ""
	}
	return o.Schema
}
