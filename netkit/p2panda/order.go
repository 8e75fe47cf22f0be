package p2panda

import (
	"slices"

	"dibber/netkit/bamboo"
)

// step is an operation of a document, without its payload.
type step struct {
	id       bamboo.Hash
	place    Place
	previous []bamboo.Hash
	deletes  bool
}

// lacking returns the entries of a document that a peer with these heights lacks, in an order in which a node takes them: each behind
// what it builds on, and one deletion last, since nothing is taken after it. What cannot stand there is withheld: entries
// that build on something that is not here, that are no operations of the document or not of their schema's shape, or whose
// signatures do not verify.
func (x *index) lacking(doc *document, heights map[LogID]uint64) ([]Place, error) {
	if !slices.ContainsFunc(doc.logs, func(l LogID) bool { return heights[l] < x.logs[l].height }) {
		return nil, nil
	}
	logs := make([][]step, len(doc.logs))
	there := make(map[bamboo.Hash]struct{})
	for i, log := range doc.logs {
		steps, err := x.steps(doc, log)
		if err != nil {
			return nil, err
		}
		held := min(int(min(heights[log], x.logs[log].height)), len(steps))
		for _, s := range steps[:held] {
			if s.deletes {
				return nil, nil
			}
			there[s.id] = struct{}{}
		}
		if uint64(held) == heights[log] || heights[log] == 0 {
			logs[i] = steps[held:]
		} // else it holds entries of the log that are not here, or not in order
	}
	return sorted(logs, there), nil
}

// sorted merges logs: as many entries of one as may be, then those of another.
func sorted(logs [][]step, there map[bamboo.Hash]struct{}) []Place {
	var out []Place
	ready := func(s step) bool {
		return !slices.ContainsFunc(s.previous, func(id bamboo.Hash) bool { _, ok := there[id]; return !ok })
	}
	for moved := true; moved; {
		moved = false
		for i := range logs {
			for len(logs[i]) > 0 && !logs[i][0].deletes && ready(logs[i][0]) {
				there[logs[i][0].id] = struct{}{}
				out = append(out, logs[i][0].place)
				logs[i], moved = logs[i][1:], true
			}
		}
	}
	for _, rest := range logs {
		if len(rest) > 0 && rest[0].deletes && ready(rest[0]) {
			return append(out, rest[0].place)
		}
	}
	return out
}

// steps reads a log up to the first entry that a node would not take.
func (x *index) steps(doc *document, log LogID) ([]step, error) {
	proven, err := x.store.Proven(log, x.logs[log].height)
	if err != nil {
		return nil, err
	}
	looks, err := x.shapeOf(doc.schema)
	if err != nil {
		return nil, err
	}
	var out []step
	bad := false
	err = x.store.Run(log, 1, proven, func(r Record) error {
		if bad = bad || r.End; bad {
			return nil
		}
		o, err := bamboo.DecodeOperation(r.Operation)
		if err != nil || o.Schema != doc.schema || o.Action == bamboo.Create && r.ID != doc.id || !looks.takes(&o) {
			bad = true
			return nil
		}
		out = append(out, step{id: r.ID, place: r.place(), previous: o.Previous, deletes: o.Action == bamboo.Delete})
		return nil
	})
	return out, err
}
