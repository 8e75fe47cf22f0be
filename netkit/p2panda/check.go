package p2panda

import (
	"errors"
	"fmt"
	"slices"

	"dibber/netkit/bamboo"
)

// checker holds entries that were received against what is here and against each other, without the schemas.
type checker struct {
	set   []string
	index *index
	// logs and docs are what the entries before in the same batch begin or go on with.
	logs map[LogID]*draft
	docs map[bamboo.Hash]*draft // by operation
	runs []*draft
	got  received
}

// draft is a run of a log that is about to be stored.
type draft struct {
	doc     bamboo.Hash
	schema  string
	records []Record
	refused error
}

func refusedf(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

// check adds an entry to the run that it belongs to.
func (c *checker) check(e Entry) error {
	signed, err := bamboo.Parse(e.Entry)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	r := Record{Signed: signed, Operation: e.Operation}
	run := c.logs[r.place().LogID]
	if run != nil && run.refused != nil {
		return run.refused
	}
	if run == nil {
		run = &draft{}
		c.logs[r.place().LogID] = run
		c.runs = append(c.runs, run)
	}
	if err := c.fits(run, &r); err != nil {
		run.refused = fmt.Errorf("entry %d of log %d by %s: %w", r.Seq, r.Log, r.Author, err)
		return run.refused
	}
	run.records = append(run.records, r)
	c.docs[r.ID] = run
	return nil
}

// fits says why an entry cannot follow in a run.
func (c *checker) fits(run *draft, r *Record) error {
	if err := r.CheckPayload(r.Operation); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	o, err := bamboo.DecodeOperation(r.Operation)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if !slices.Contains(c.set, o.Schema) {
		return refusedf("its schema %.80q was not asked for", o.Schema)
	}
	if n := len(run.records); n > 0 && r.Seq != run.records[n-1].Seq+1 {
		return refusedf("it follows entry %d", run.records[n-1].Seq)
	}
	doc, err := c.documentOf(r, &o)
	if err != nil {
		return err
	}
	begun := run.doc
	if held := c.index.logs[r.place().LogID]; begun == (bamboo.Hash{}) && held != nil {
		if held.doc == nil {
			return refusedf("the log holds something else here")
		}
		begun = held.doc.id
	}
	switch {
	case begun == bamboo.Hash{} && r.Seq != 1:
		return refusedf("its log is not here")
	case begun != bamboo.Hash{} && begun != doc:
		return refusedf("its log is that of another document")
	case begun == bamboo.Hash{} && c.author(doc, r.place().LogID):
		return refusedf("its author has a log of the document already")
	}
	run.doc, run.schema = doc, o.Schema
	return nil
}

// documentOf returns the document that an operation is of, which all that it builds on must be of, too.
func (c *checker) documentOf(r *Record, o *bamboo.Operation) (bamboo.Hash, error) {
	if o.Action == bamboo.Create {
		if r.Seq != 1 {
			return bamboo.Hash{}, refusedf("a document is created where its log goes on")
		}
		return r.ID, nil
	}
	var of bamboo.Hash
	for _, id := range o.Previous {
		doc, schema, err := c.find(id)
		switch {
		case err != nil:
			return of, err
		case of != bamboo.Hash{} && of != doc:
			return of, refusedf("it builds on two documents")
		case schema != o.Schema:
			return of, refusedf("it builds on an operation of schema %.80q", schema)
		}
		of = doc
	}
	return of, nil
}

// find returns the document of an operation that is here or comes before.
func (c *checker) find(id bamboo.Hash) (doc bamboo.Hash, schema string, err error) {
	if run := c.docs[id]; run != nil {
		return run.doc, run.schema, nil
	}
	held, err := c.index.documentOf(id)
	if err != nil {
		return doc, "", err
	}
	if held == nil {
		return doc, "", refusedf("it builds on an operation that is not here: %s", id)
	}
	return held.id, held.schema, nil
}

// author says whether the author of a new log has another one of the document.
func (c *checker) author(doc bamboo.Hash, log LogID) bool {
	if held := c.index.docs[doc]; held != nil && held.logOf(log.Author) != nil {
		return true
	}
	for other, run := range c.logs {
		if other != log && other.Author == log.Author && run.doc == doc && len(run.records) > 0 {
			return true
		}
	}
	return false
}

// dropUnsigned cuts runs before the first signature that does not verify.
func (c *checker) dropUnsigned() {
	var all []bamboo.Signed
	for _, run := range c.runs {
		for _, r := range run.records {
			all = append(all, r.Signed)
		}
	}
	bad, ok := errors.AsType[*bamboo.SignatureError](bamboo.VerifySignatures(all))
	if !ok {
		return
	}
	first := 0
	for _, run := range c.runs {
		n := len(run.records)
		if i := slices.IndexFunc(bad.Entries, func(i int) bool { return i >= first && i < first+n }); i >= 0 {
			at := bad.Entries[i] - first
			c.got.add(received{refused: n - at, err: fmt.Errorf("entry %d of log %d by %s: %w: %w",
				run.records[at].Seq, run.records[at].Log, run.records[at].Author, ErrRefused, bamboo.ErrSignature)})
			run.records = run.records[:at]
		}
		first += n
	}
}
