package p2panda

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"dibber/netkit/bamboo"
)

// What cannot be sent so that a node takes it is withheld, with all that builds on it; the rest goes.
func TestWithheld(t *testing.T) {
	a, b := newAuthor(t, 1), newAuthor(t, 2)
	note, definition := a.schema("note")
	doc := a.create(note, map[string]any{"text": "1"})
	two := a.update(doc, doc.ID)
	missing := b.update(doc, two.ID)
	three := a.update(doc, missing.ID)
	four := a.update(doc, three.ID)
	gone := newAuthor(t, 3).remove(doc, two.ID)
	goneToo := newAuthor(t, 4).remove(doc, two.ID)
	after := newAuthor(t, 5).update(doc, gone.ID)
	beside := newAuthor(t, 6).update(doc, two.ID)
	other := newAuthor(t, 7)
	alien := other.create(note, map[string]any{"text": "alien"})
	other.docs[doc.ID] = other.docs[alien.ID] // goes on in the log of another document
	crossed := other.update(doc, two.ID)
	opaque, err := bamboo.Sign(newAuthor(t, 8).key, 0, nil, bamboo.Hash{}, []byte("no operation"))
	if err != nil {
		t.Fatal(err)
	}
	more := newAuthor(t, 9).create(note, map[string]any{"text": "1", "more": "2"})
	typed := newAuthor(t, 10).create(note, map[string]any{"text": int64(1)})
	typedLater := newAuthor(t, 11).write(doc.ID, bamboo.Operation{Action: bamboo.Update, Schema: note, Previous: []bamboo.Hash{two.ID}, Fields: map[string]any{"txt": "3"}})
	onIt := newAuthor(t, 12).update(doc, typedLater.ID)
	defined := func(records ...Record) []Record { return append(slices.Clone(definition), records...) }
	for name, c := range map[string]struct {
		held, want []Record
		heights    map[LogID]uint64
	}{
		"a field too many":        {defined(more, doc), []Record{doc}, nil},
		"a field of another type": {defined(typed, doc), []Record{doc}, nil},
		"an unknown field later":  {defined(doc, two, typedLater, onIt), []Record{doc, two}, nil},
		"the schema is not here":  {[]Record{doc, typedLater, two}, []Record{doc, two, typedLater}, nil},
		"half of it is":           {[]Record{definition[1], typed}, []Record{typed}, nil},
		"all there":               {[]Record{doc, two, missing, three, four}, []Record{doc, two, missing, three, four}, nil},
		"previous is not here":    {[]Record{doc, two, three, four}, []Record{doc, two}, nil},
		"creation is not here":    {[]Record{missing}, nil, nil},
		"it came later":           {[]Record{missing, doc, two}, []Record{doc, two, missing}, nil},
		"deletions last, and one": {[]Record{doc, two, gone, goneToo, after, beside}, []Record{doc, two, beside, gone}, nil},
		"the peer has the end":    {[]Record{doc, two, missing}, []Record{missing}, map[LogID]uint64{doc.place().LogID: 2}},
		"the peer has it all":     {[]Record{doc, two}, nil, map[LogID]uint64{doc.place().LogID: 2}},
		"the peer has more":       {[]Record{doc, two}, nil, map[LogID]uint64{doc.place().LogID: 7}},
		"the peer deleted it":     {[]Record{doc, two, gone, beside}, nil, map[LogID]uint64{doc.place().LogID: 2, gone.place().LogID: 1}},
		"log of two documents":    {[]Record{alien, crossed}, []Record{alien}, nil},
		"no operation":            {[]Record{{Signed: opaque, Operation: []byte("no operation")}}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := newReplica(newMemory(t, c.held...), nil)
			if err != nil {
				t.Fatal(err)
			}
			var got, want []bamboo.Hash
			for _, r := range c.want {
				want = append(want, r.ID)
			}
			if err := r.lacking([]string{note}, c.heights, func(r Record) error {
				got = append(got, r.ID)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("sends %v, want %v", got, want)
			}
		})
	}
}

// Blobs go along with what refers to them, and never alone.
func TestBlobs(t *testing.T) {
	a := newAuthor(t, 1)
	piece := a.create(blobPiece, map[string]any{"data": []byte("data")})
	image := a.create(blob, map[string]any{"length": int64(4), "mime_type": "text/plain", "pieces": [][]bamboo.Hash{{piece.ID}}})
	note, _ := a.schema("note")
	doc := a.create(note, map[string]any{"image": image.ID.Append(nil)})
	full, _ := SchemaSet(append(System(), note)...)
	for name, c := range map[string]struct {
		held []Record
		set  []string
		want int
	}{
		"alone":               {[]Record{piece, image}, full, 0},
		"referred to":         {[]Record{piece, image, doc}, full, 3},
		"pieces not asked":    {[]Record{piece, image, doc}, []string{blob, note}, 2},
		"blobs not asked":     {[]Record{piece, image, doc}, []string{blobPiece, note}, 1},
		"referrer not asked":  {[]Record{piece, image, doc}, System(), 0},
		"referrer comes last": {[]Record{doc, image, piece}, full, 3},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := newReplica(newMemory(t, c.held...), nil)
			if err != nil {
				t.Fatal(err)
			}
			sent, logs := 0, 0
			if err := r.lacking(c.set, nil, func(Record) error { sent++; return nil }); err != nil {
				t.Fatal(err)
			}
			heights, _, err := r.heights(c.set)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range heights {
				logs += len(h.Logs)
			}
			if sent != c.want || logs != c.want {
				t.Errorf("%d entries are sent, %d logs told of, want %d", sent, logs, c.want)
			}
		})
	}
}

// Whatever several authors write at both ends, a node takes all that is sent, and both end with the same.
func TestConvergence(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			a := newAuthor(t, 200)
			note, defs := a.schema("note")
			s := newScene(t, seed%2 == 0, nil, defs...)
			s.run(2) // the node knows the schema
			type replicaOf struct {
				ops  []Record // what can be built on here
				docs []Record
			}
			ends := []*replicaOf{{}, {}} // ours, the node's
			put := func(end int, r Record) {
				ends[end].ops = append(ends[end].ops, r)
				if end == 1 {
					s.dog.publish(r)
				} else if _, err := s.store.Put([]Record{r}); err != nil {
					t.Fatal(err)
				}
			}
			for round := range 5 {
				for end := range ends {
					// Authors write at one end only, as their keys are in one place.
					for range rng.IntN(8) {
						who := byte(1 + 10*end + rng.IntN(3))
						key := fmt.Sprint(end, who)
						author := s.author(key, who)
						e := ends[end]
						if len(e.docs) == 0 || rng.IntN(3) == 0 {
							doc := author.create(note, map[string]any{"text": fmt.Sprint(round)})
							e.docs = append(e.docs, doc)
							put(end, doc)
							continue
						}
						doc := e.docs[rng.IntN(len(e.docs))]
						previous := []bamboo.Hash{doc.ID}
						if own := author.logs[author.docs[doc.ID]]; len(own) > 0 && author.knows(doc) {
							previous = append(previous, own[len(own)-1].ID)
						}
						slices.SortFunc(previous, func(a, b bamboo.Hash) int { return slices.Compare(a[:], b[:]) })
						put(end, author.update(doc, slices.Compact(previous)...))
					}
				}
				s.run(3)
				// What has come over can be built on at the other end.
				ends[0].docs = append(ends[0].docs, ends[1].docs...)
				slices.SortFunc(ends[0].docs, func(a, b Record) int { return slices.Compare(a.ID[:], b.ID[:]) })
				ends[0].docs = slices.CompactFunc(ends[0].docs, func(a, b Record) bool { return a.ID == b.ID })
				ends[1].docs = slices.Clone(ends[0].docs)
			}
			s.check(len(ends[0].ops) + len(ends[1].ops) + len(defs))
		})
	}
}

func (a *author) knows(doc Record) bool { _, ok := a.docs[doc.ID]; return ok }
