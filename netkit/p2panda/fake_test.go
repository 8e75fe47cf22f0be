package p2panda

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"dibber/netkit/bamboo"

	"github.com/libp2p/go-libp2p/core/peer"
)

// dog is a node of aquadoggo 0.8 as far as replication goes, with its bugs. It has no clock: Tick is its scheduler's 5 s.
type dog struct {
	t        testing.TB
	id       peer.ID
	allow    []string // nil means all
	now      uint64   // seconds
	logs     map[LogID][]Record
	docs     map[bamboo.Hash]bamboo.Hash // document by operation
	deleted  map[bamboo.Hash]bool
	schemas  []string // materialised
	announce Announce
	failed   []string // sessions that it dropped, and why
	done     int
}

func newDog(t testing.TB, id peer.ID, allow ...string) *dog {
	d := &dog{
		t: t, id: id, allow: allow, now: 1_700_000_000, logs: make(map[LogID][]Record),
		docs: make(map[bamboo.Hash]bamboo.Hash), deleted: make(map[bamboo.Hash]bool),
	}
	d.materialise()
	return d
}

// count is how many entries it holds.
func (d *dog) count() (n int) {
	for _, log := range d.logs {
		n += len(log)
	}
	return n
}

// materialise puts schemas together from their definitions, and announces if that makes a difference.
func (d *dog) materialise() {
	d.schemas = System()
	for _, log := range d.logs {
		for _, r := range log {
			o, _ := bamboo.DecodeOperation(r.Operation)
			fields, ok := o.Fields["fields"].([][]bamboo.Hash)
			if o.Schema != "schema_definition_v1" || !ok {
				continue
			}
			if !slices.ContainsFunc(fields, func(view []bamboo.Hash) bool { return d.docs[view[0]] == bamboo.Hash{} }) {
				d.schemas = append(d.schemas, o.Fields["name"].(string)+"_"+r.ID.String())
			}
		}
	}
	d.schemas, _ = SchemaSet(d.schemas...)
	set := d.schemas
	if len(d.allow) > 0 {
		set = d.allow
	}
	if !slices.Equal(set, d.announce.Schemas) {
		d.announce = Announce{Version: 1, Timestamp: d.now, Schemas: set}
	}
}

// ingest is publish: it takes an entry only if it goes on exactly where the log ends and builds only on what is here.
func (d *dog) ingest(r Record) string {
	o, err := bamboo.DecodeOperation(r.Operation)
	if err != nil {
		return err.Error()
	}
	if !slices.Contains(d.schemas, o.Schema) {
		return "" // ignored
	}
	log := d.logs[r.place().LogID]
	switch {
	case r.Seq <= uint64(len(log)) && log[r.Seq-1].ID == r.ID:
		return "" // ignored
	case r.Seq != uint64(len(log))+1:
		return "wrong sequence number"
	case r.Seq > 1 && r.Backlink != log[r.Seq-2].ID:
		return "wrong backlink"
	case r.Verify() != nil || r.CheckPayload(r.Operation) != nil:
		return "invalid"
	}
	if !d.conforms(&o) {
		return "operation does not match its schema"
	}
	doc := r.ID
	for _, id := range o.Previous {
		if doc = d.docs[id]; doc == (bamboo.Hash{}) {
			return "previous operation is missing"
		}
	}
	if d.deleted[doc] {
		return "document is deleted"
	}
	if r.Seq > 1 && d.docs[log[0].ID] != doc {
		return "log is of another document"
	}
	for other, entries := range d.logs {
		if r.Seq == 1 && other.Author == r.Author && d.docs[entries[0].ID] == doc {
			return "author has a log of the document"
		}
	}
	d.logs[r.place().LogID] = append(log, r)
	d.docs[r.ID] = doc
	d.deleted[doc] = o.Action == bamboo.Delete
	return ""
}

// publish takes in what an application made.
func (d *dog) publish(records ...Record) {
	d.t.Helper()
	for _, r := range records {
		if refused := d.ingest(r); refused != "" {
			d.t.Fatalf("publish: %s", refused)
		}
		if d.docs[r.ID] == (bamboo.Hash{}) {
			d.t.Fatalf("publish: schema %s is not there", schemaOf(r))
		}
		d.materialise()
	}
}

// included are its documents of a set, blobs only where something refers to them.
func (d *dog) included(set []string) []bamboo.Hash {
	schema := make(map[bamboo.Hash]string)
	refs := make(map[bamboo.Hash][]bamboo.Hash)
	for _, log := range d.logs {
		for _, r := range log {
			o, _ := bamboo.DecodeOperation(r.Operation)
			doc := d.docs[r.ID]
			schema[doc] = o.Schema
			for _, v := range o.Fields {
				switch v := v.(type) {
				case []byte:
					if len(v) == bamboo.HashSize {
						refs[doc] = append(refs[doc], bamboo.Hash(v[2:]))
					}
				case [][]bamboo.Hash:
					refs[doc] = append(refs[doc], slices.Concat(v...)...)
				}
			}
		}
	}
	out := make(map[bamboo.Hash]bool)
	add := func(kind string, from func(string) bool) {
		for doc, ids := range refs {
			if !from(schema[doc]) || !slices.Contains(set, schema[doc]) || schema[doc] == blob && !out[doc] {
				continue
			}
			for _, id := range ids {
				if to := d.docs[id]; schema[to] == kind && slices.Contains(set, kind) {
					out[to] = true
				}
			}
		}
	}
	for doc, s := range schema {
		if s != blob && s != blobPiece && slices.Contains(set, s) {
			out[doc] = true
		}
	}
	add(blob, func(s string) bool { return s != blob && s != blobPiece })
	add(blobPiece, func(s string) bool { return s == blob })
	return slices.SortedFunc(maps.Keys(out), func(a, b bamboo.Hash) int { return slices.Compare(a[:], b[:]) })
}

func (d *dog) heights(set []string) []AuthorHeights {
	byAuthor := make(map[bamboo.Author][]Height)
	for _, doc := range d.included(set) {
		for log, entries := range d.logs {
			if d.docs[entries[0].ID] == doc {
				byAuthor[log.Author] = append(byAuthor[log.Author], Height{log.Log, uint64(len(entries))})
			}
		}
	}
	var out []AuthorHeights
	for a, logs := range byAuthor {
		out = append(out, AuthorHeights{a, logs})
	}
	return out
}

// entries are those that a peer lacks, document by document, in the order in which its operations were materialised.
func (d *dog) entries(set []string, have []AuthorHeights) (out []Record) {
	held := make(map[LogID]uint64)
	for _, a := range have {
		for _, h := range a.Logs {
			held[LogID{a.Author, h.Log}] = h.Seq
		}
	}
	for _, doc := range d.included(set) {
		var ops []Record
		for _, log := range d.logs {
			if d.docs[log[0].ID] == doc {
				ops = append(ops, log...)
			}
		}
		placed := make(map[bamboo.Hash]bool)
		for n := -1; n != len(placed); {
			n = len(placed)
			for _, r := range ops {
				o, _ := bamboo.DecodeOperation(r.Operation)
				if placed[r.ID] || slices.ContainsFunc(o.Previous, func(id bamboo.Hash) bool { return !placed[id] }) || r.Seq > 1 && !placed[r.Backlink] {
					continue
				}
				placed[r.ID] = true
				if r.Seq > held[r.place().LogID] {
					out = append(out, r)
				}
			}
		}
	}
	return out
}

// leash is a connection of a dog.
type leash struct {
	dog       *dog
	peer      peer.ID
	announced uint64
	theirs    *Announce
	sessions  []*dogSession
	out       []Message
}

type dogSession struct {
	id                  uint64
	set                 []string
	ours, pending       bool
	sentHave, done, end bool
	gotHave             bool
}

func (l *leash) send(m Message) { l.out = append(l.out, m) }

// tick is its scheduler: it announces what is new and begins a session for what both have, whether or not anything is to be exchanged.
func (l *leash) tick() {
	d := l.dog
	d.now += 5
	d.materialise()
	if d.announce.Timestamp > l.announced {
		l.announced = d.announce.Timestamp
		l.send(d.announce)
	}
	if l.theirs == nil {
		return
	}
	set := intersect(d.announce.Schemas, l.theirs.Schemas)
	if len(set) == 0 || len(l.sessions) >= 3 || slices.ContainsFunc(l.sessions, func(s *dogSession) bool { return slices.Equal(s.set, set) }) {
		return
	}
	l.request(set, l.next())
}

func (l *leash) next() uint64 {
	if n := len(l.sessions); n > 0 {
		return l.sessions[n-1].id + 1
	}
	return 0
}

func (l *leash) request(set []string, id uint64) {
	l.sessions = append(l.sessions, &dogSession{id: id, set: set, ours: true, pending: true})
	l.send(SyncRequest{Session: id, Schemas: set})
}

// fail drops a session and tells nobody.
func (l *leash) fail(id uint64, why string) {
	l.dog.failed = append(l.dog.failed, why)
	l.sessions = slices.DeleteFunc(l.sessions, func(s *dogSession) bool { return s.id == id })
}

func (l *leash) receive(m Message) {
	switch m := m.(type) {
	case Announce:
		if m.Version == 1 && (l.theirs == nil || m.Timestamp > l.theirs.Timestamp) {
			l.theirs = &m
		}
	case SyncRequest:
		l.asked(m)
	case Have:
		s := l.find(m.Session)
		if s == nil {
			return
		}
		if s.gotHave {
			l.fail(s.id, "second Have")
			return
		}
		s.gotHave, s.pending = true, false
		if !s.sentHave {
			s.sentHave = true
			l.send(Have{Session: s.id, Heights: l.dog.heights(s.set)})
		}
		for _, r := range l.dog.entries(s.set, m.Heights) {
			l.send(Entry{Session: s.id, Entry: r.Raw, Operation: r.Operation})
		}
		if !s.done {
			s.done = true
			l.send(SyncDone{Session: s.id})
		}
		l.finish(s)
	case Entry:
		l.entry(m)
	case SyncDone:
		if s := l.find(m.Session); s != nil {
			s.end, s.pending = true, false
			l.finish(s)
		}
	}
}

func (l *leash) entry(m Entry) {
	s := l.find(m.Session)
	if s == nil {
		return
	}
	if len(m.Operation) == 0 {
		l.dog.t.Error("an entry without operation: the node dies")
		return
	}
	signed, err := bamboo.Parse(m.Entry)
	if err != nil {
		l.fail(s.id, err.Error())
		return
	}
	r := Record{Signed: signed, Operation: m.Operation}
	if schema := schemaOf(r); !slices.Contains(s.set, schema) {
		l.fail(s.id, "schema not in target set")
		return
	}
	if refused := l.dog.ingest(r); refused != "" {
		l.fail(s.id, refused)
	}
}

// asked decides on a request as manager.rs does.
func (l *leash) asked(m SyncRequest) {
	if m.Mode != LogHeight || len(l.dog.allow) > 0 && len(intersect(m.Schemas, l.dog.allow)) < len(m.Schemas) {
		l.dog.failed = append(l.dog.failed, "unsupported request")
		return
	}
	yields := strings.Compare(string(l.dog.id), string(l.peer)) < 0
	for _, s := range l.sessions {
		same := slices.Equal(s.set, m.Schemas)
		switch {
		case s.id != m.Session && !same:
		case !s.ours || !s.pending:
			l.fail(s.id, "duplicate session")
			return
		case !yields:
			return // silently
		case s.id == m.Session:
			l.drop(s)
			l.accept(m, m.Session)
			if !same {
				l.request(s.set, l.next())
			}
			return
		default: // the bug: the answer has the number of the request that was dropped
			l.drop(s)
			l.accept(m, s.id)
			return
		}
	}
	l.accept(m, m.Session)
}

func (l *leash) accept(m SyncRequest, label uint64) {
	s := &dogSession{id: m.Session, set: m.Schemas, sentHave: true}
	l.sessions = append(l.sessions, s)
	heights := l.dog.heights(s.set)
	l.send(Have{Session: label, Heights: heights})
	if len(heights) == 0 {
		s.done = true
		l.send(SyncDone{Session: label})
	}
}

func (l *leash) finish(s *dogSession) {
	if s.done && s.end {
		l.dog.done++
		l.drop(s)
	}
}

func (l *leash) drop(s *dogSession) {
	l.sessions = slices.DeleteFunc(l.sessions, func(o *dogSession) bool { return o == s })
}
