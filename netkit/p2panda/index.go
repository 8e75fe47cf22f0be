package p2panda

import (
	"errors"
	"slices"

	"dibber/netkit/bamboo"
)

// index knows which document and schema each log is of. It learns them from the operations alone, so it needs no schema.
type index struct {
	store Store
	// seen counts the entries that have been looked at.
	seen uint64
	logs map[LogID]*logEntry
	docs map[bamboo.Hash]*document
	// waiting are logs that begin with an update of what is not here yet.
	waiting map[LogID]bamboo.Hash
	shapes  map[string]shape // by schema, those that are known
}

// logEntry is what is known of a log. One without a document is none of p2panda's, or one that no node would take.
type logEntry struct {
	doc    *document
	height uint64
}

// document is the operations that go back to one creation, whoever made them.
type document struct {
	id     bamboo.Hash
	schema string
	logs   []LogID // one for each author
	// refs are the ids of other documents, or of operations of them, in its fields.
	refs map[bamboo.Hash]struct{}
}

func newIndex(store Store) *index {
	return &index{
		store: store, logs: make(map[LogID]*logEntry), docs: make(map[bamboo.Hash]*document), waiting: make(map[LogID]bamboo.Hash),
		shapes: make(map[string]shape),
	}
}

// refresh looks at what has been stored since.
func (x *index) refresh() error {
	before := x.seen
	seen, err := x.store.Since(x.seen, x.see)
	if err != nil {
		return err
	}
	if x.seen = seen; seen == before {
		return nil
	}
	for found := true; found; {
		found = false
		for log, previous := range x.waiting {
			doc, err := x.documentOf(previous)
			if err != nil {
				return err
			}
			if doc == nil {
				continue
			}
			found = true
			delete(x.waiting, log)
			if err := x.reread(log, doc); err != nil {
				return err
			}
		}
	}
	return nil
}

// reread takes a log in whose document has become known.
func (x *index) reread(log LogID, doc *document) error {
	e := x.logs[log]
	return x.store.Run(log, 1, e.height, func(r Record) error {
		o, err := bamboo.DecodeOperation(r.Operation)
		if err != nil {
			return nil // it is withheld with all that follows
		}
		if r.Seq == 1 && !x.join(log, e, doc, &o) {
			return nil
		}
		if e.doc != nil {
			e.doc.refer(&o)
		}
		return nil
	})
}

func (x *index) see(p Place) error {
	e := x.logs[p.LogID]
	if e != nil {
		e.height = max(e.height, p.Seq)
		if e.doc == nil { // of others, or waiting
			return nil
		}
	}
	return x.store.Run(p.LogID, p.Seq, p.Seq, func(r Record) error {
		o, err := bamboo.DecodeOperation(r.Operation)
		switch {
		case e != nil:
			if err == nil {
				e.doc.refer(&o)
			}
			return nil
		case r.Seq != 1:
			return nil // its beginning was not stored before it
		}
		e = &logEntry{height: 1}
		x.logs[p.LogID] = e
		if err != nil {
			return nil
		}
		if o.Action == bamboo.Create {
			doc := &document{id: r.ID, schema: o.Schema}
			x.docs[r.ID] = doc
			x.join(p.LogID, e, doc, &o)
			doc.refer(&o)
			return nil
		}
		doc, err := x.documentOf(o.Previous[0])
		if err != nil {
			return err
		}
		if doc == nil {
			x.waiting[p.LogID] = o.Previous[0]
			return nil
		}
		if x.join(p.LogID, e, doc, &o) {
			doc.refer(&o)
		}
		return nil
	})
}

// join makes a log one of a document, unless it is of another schema or the author has one there already.
func (x *index) join(log LogID, e *logEntry, doc *document, o *bamboo.Operation) bool {
	if o.Schema != doc.schema || doc.logOf(log.Author) != nil {
		return false
	}
	e.doc = doc
	doc.logs = append(doc.logs, log)
	return true
}

func (d *document) logOf(author bamboo.Author) *LogID {
	i := slices.IndexFunc(d.logs, func(l LogID) bool { return l.Author == author })
	if i < 0 {
		return nil
	}
	return &d.logs[i]
}

// refer keeps the ids in the fields of an operation.
func (d *document) refer(o *bamboo.Operation) {
	for _, value := range o.Fields {
		var ids []bamboo.Hash
		switch v := value.(type) {
		case []byte:
			if len(v) == bamboo.HashSize && v[0] == 0 && v[1] == byte(len(bamboo.Hash{})) {
				ids = []bamboo.Hash{bamboo.Hash(v[2:])}
			}
		case []bamboo.Hash:
			ids = v
		case [][]bamboo.Hash:
			ids = slices.Concat(v...)
		}
		for _, id := range ids {
			if d.refs == nil {
				d.refs = make(map[bamboo.Hash]struct{})
			}
			d.refs[id] = struct{}{}
		}
	}
}

// documentOf returns the document that an operation is of, nil if it is not here.
func (x *index) documentOf(operation bamboo.Hash) (*document, error) {
	if doc := x.docs[operation]; doc != nil {
		return doc, nil
	}
	p, err := x.store.Find(operation)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if e := x.logs[p.LogID]; e != nil {
		return e.doc, nil
	}
	return nil, nil
}

// The schemas of blobs and their pieces, documents of which go along with those that refer to them and never alone.
const (
	blob      = "blob_v1"
	blobPiece = "blob_piece_v1"
)

// included returns the documents that a session over a set of schemas is about, in the order of schemas, then ids.
func (x *index) included(set []string) ([]*document, error) {
	bySchema := make(map[string][]*document, len(set))
	for _, d := range x.docs {
		if slices.Contains(set, d.schema) {
			bySchema[d.schema] = append(bySchema[d.schema], d)
		}
	}
	var blobs, pieces map[*document]bool
	var err error
	if slices.Contains(set, blob) {
		var others []*document
		for schema, docs := range bySchema {
			if schema != blob && schema != blobPiece {
				others = append(others, docs...)
			}
		}
		if blobs, err = x.referred(others, blob); err != nil {
			return nil, err
		}
	}
	if slices.Contains(set, blobPiece) {
		var from []*document
		for d := range blobs {
			from = append(from, d)
		}
		if pieces, err = x.referred(from, blobPiece); err != nil {
			return nil, err
		}
	}
	var out []*document
	for _, schema := range set {
		docs := bySchema[schema]
		slices.SortFunc(docs, func(a, b *document) int { return slices.Compare(a.id[:], b.id[:]) })
		for _, d := range docs {
			if schema != blob && schema != blobPiece || blobs[d] || pieces[d] {
				out = append(out, d)
			}
		}
	}
	return out, nil
}

// referred returns the documents of a schema that others refer to.
func (x *index) referred(from []*document, schema string) (map[*document]bool, error) {
	out := make(map[*document]bool)
	for _, d := range from {
		for id := range d.refs {
			to, err := x.documentOf(id)
			if err != nil {
				return nil, err
			}
			if to != nil && to.schema == schema {
				out[to] = true
			}
		}
	}
	return out, nil
}

// schemas returns those that there are documents of.
func (x *index) schemas() []string {
	found := make(map[string]struct{})
	for _, d := range x.docs {
		found[d.schema] = struct{}{}
	}
	var out []string
	for s := range found {
		out = append(out, s)
	}
	return out
}
