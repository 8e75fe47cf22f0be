package p2panda

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
)

func openLogs(t *testing.T) (*logstore.Store, Store) {
	t.Helper()
	dir := t.TempDir()
	s, err := logstore.Open(logstore.Config{Dir: filepath.Join(dir, "store"), Guard: filepath.Join(dir, "guard", "own")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, Logs(s)
}

// What goes into a store of logs comes out of it: operations in the database and in files, and nothing of logs that are no p2panda's.
func TestStoreOfLogs(t *testing.T) {
	s, store := openLogs(t)
	a := newAuthor(t, 1)
	note, defs := a.schema("note")
	piece := a.create(blobPiece, map[string]any{"data": bytes.Repeat([]byte{1}, 200_000)})
	doc := a.create(note, map[string]any{"text": "1"})
	two := a.update(doc, doc.ID)
	for _, run := range [][]Record{{defs[0]}, {defs[1]}, {piece}, {doc, two}} {
		if added, err := store.Put(run); err != nil || added != len(run) {
			t.Fatal(added, err)
		}
		if added, err := store.Put(run); err != nil || added != 0 {
			t.Fatal(added, err)
		}
	}
	if _, err := store.Put([]Record{a.create(note, map[string]any{"text": "x"}), a.update(doc, two.ID)}); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	var big bytes.Buffer
	big.Write(bytes.Repeat([]byte{2}, MaxOperation+1))
	huge, err := s.NewPayload(&big)
	if err != nil {
		t.Fatal(err)
	}
	key := newAuthor(t, 9).key
	if _, err := s.CreateLog(bamboo.Author(key[32:]), "opaque"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(key, 0, logstore.PayloadOf([]byte("opaque")), huge); err != nil {
		t.Fatal(err)
	}
	r, err := newReplica(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	set, _ := SchemaSet(append(System(), note)...)
	heights, version, err := r.heights(set)
	if err != nil || len(heights) != 1 || len(heights[0].Logs) != 3 || version != 7 {
		t.Errorf("%v %d %v", heights, version, err)
	}
	d := newDog(t, "")
	if err := r.lacking(set, nil, func(r Record) error {
		d.publish(r)
		return nil
	}); err != nil || d.count() != 4 {
		t.Errorf("%d entries, %v", d.count(), err)
	}
	if _, err := store.Find(bamboo.Hash{1}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if p, err := store.Find(two.ID); err != nil || p != two.place() {
		t.Error(p, err)
	}
	var got Record
	if err := store.Run(piece.place().LogID, 1, 1, func(r Record) error { got = r; return nil }); err != nil || !bytes.Equal(got.Operation, piece.Operation) {
		t.Errorf("%d bytes, %v", len(got.Operation), err)
	}
}

// An inner signature that does not verify proves nothing about the run, but a node would refuse the entry.
func TestUnprovenEntriesAreNotSent(t *testing.T) {
	s, store := openLogs(t)
	a := newAuthor(t, 1)
	note, _ := a.schema("note")
	doc := a.create(note, map[string]any{"text": "1"})
	two := a.update(doc, doc.ID)
	two.Raw = append([]byte(nil), two.Raw...)
	two.Raw[len(two.Raw)-1] ^= 1
	two.Signed, _ = bamboo.Parse(two.Raw)
	log := a.docs[doc.ID]
	a.logs[log][1] = two.Signed
	three := a.update(doc, two.ID)
	var run []logstore.Record
	for _, r := range []Record{doc, two, three} {
		run = append(run, logstore.Record{Signed: r.Signed, Payload: r.Operation})
	}
	if _, err := s.Put(run); err != nil {
		t.Fatal(err)
	}
	if upTo, err := store.Proven(doc.place().LogID, 3); err != nil || upTo != 1 {
		t.Errorf("proven up to %d, %v", upTo, err)
	}
	r, err := newReplica(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	if err := r.lacking([]string{note}, nil, func(Record) error { sent++; return nil }); err != nil || sent != 1 {
		t.Errorf("%d entries are sent, %v", sent, err)
	}
}
