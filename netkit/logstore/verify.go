package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"dibber/netkit/bamboo"

	"github.com/cockroachdb/pebble/v2"
)

// VerifyConfig says what [Store.Verify] is to do besides looking.
type VerifyConfig struct {
	// Repair puts in order what follows from the entries (heads, ids, order, arrivals, summaries, root) and takes out entries that
	// cannot be proven, with all after them in their log, and files of payloads that are something else: peers have them still.
	Repair bool
	// On is called with the number of entries looked at so far; nil means nobody.
	On func(entries int)
}

// VerifyReport is what [Store.Verify] found.
type VerifyReport struct {
	Logs    int    `json:"logs"`
	Entries int    `json:"entries"`
	Bytes   uint64 `json:"bytes"`
	Files   int    `json:"files"`
	// Problems are the first [maxProblems] of Found.
	Problems []string `json:"problems"`
	Found    int      `json:"found"`
	// Removed entries could not be proven; Repaired says that everything found was put in order.
	Removed  int  `json:"removed"`
	Repaired bool `json:"repaired"`
}

// maxProblems bounds the list of a report.
const maxProblems = 100

func (r *VerifyReport) found(format string, args ...any) {
	if r.Found++; len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

// Verify reads everything and compares it: each entry with its hash, its links, its signature and its payload, and all else with the
// entries. Nothing can be written meanwhile. The report is also good when there is an error.
func (s *Store) Verify(ctx context.Context, cfg VerifyConfig) (VerifyReport, error) {
	report := VerifyReport{Problems: []string{}}
	// The size keeps others out of the batch, which would stand on a view that a repair replaces.
	err := s.doMany(batchMax, func(w *work) error {
		c := &check{s: s, v: w.base, ctx: ctx, cfg: cfg, report: &report, fix: s.db.Pebble().NewBatch()}
		defer func() { _ = c.fix.Close() }() // what is in it was committed, or is not wanted
		if err := c.walk(); err != nil {
			return err
		}
		if err := c.files(); err != nil {
			return err
		}
		if err := c.forks(); err != nil {
			return err
		}
		return c.rest()
	})
	return report, err
}

// rest looks at what follows from the entries, as it is after what was found so far has been put in order.
func (c *check) rest() (err error) {
	if c.cfg.Repair {
		if err := c.flush(); err != nil {
			return err
		}
	}
	before := c.v
	c.v = newView(c.s, before.state, before.blocks)
	defer func() { err = errors.Join(err, c.v.snap.Close()) }()
	if err := c.strays(); err != nil {
		return err
	}
	if err := c.summaries(); err != nil {
		return err
	}
	if !c.cfg.Repair || c.report.Found == 0 {
		return nil
	}
	c.report.Repaired = true
	return c.rebuild()
}

// walk goes through all logs: those that have a head and those that only have entries.
func (c *check) walk() error {
	heads := make(map[logKey]Head)
	err := c.v.scan([]byte{rowHead}, []byte{rowHead + 1}, func(key, value []byte) error {
		if len(key) != 1+len(logKey{}) {
			c.report.found("head %x: %v", key, errRow)
			return c.drop(bytes.Clone(key))
		}
		k := logKey(key[1:])
		h, err := decodeHead(k, value)
		if err != nil {
			c.report.found("%v", err)
			h = Head{Author: k.author(), Log: k.log()}
		}
		heads[k] = h
		return nil
	})
	if err != nil {
		return err
	}
	var walked *logWalk
	err = c.v.scan([]byte{rowEntry}, []byte{rowEntry + 1}, func(key, value []byte) error {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if len(key) != 1+len(place{}) {
			c.report.found("entry %x: %v", key, errRow)
			return c.drop(bytes.Clone(key))
		}
		p := place(key[1:])
		if walked == nil || walked.key != p.log() {
			if err := c.end(walked, heads); err != nil {
				return err
			}
			walked = &logWalk{key: p.log()}
		}
		return c.entry(walked, p, bytes.Clone(value))
	})
	if err != nil {
		return err
	}
	if err := c.end(walked, heads); err != nil {
		return err
	}
	for k, h := range heads { // what is left has no entry
		empty := Head{Author: h.Author, Log: h.Log, Name: h.Name, Mine: h.Mine, Fork: h.Fork}
		if h != empty {
			c.report.found("log %d by %s has no entries, its head says %d", k.log(), k.author(), h.Height)
			if err := c.set(row(rowHead, k[:]), empty.encode()); err != nil {
				return err
			}
		}
		c.keep(empty)
	}
	return nil
}

// logWalk is one log while its entries are looked at.
type logWalk struct {
	key    logKey
	seq    uint64 // of the last entry that was in order
	broken bool
	// proven is the head after the last entry whose links are good and that a signature vouches for.
	proven Head
	// pending are the entries after that: first those in order, and of these first those whose signatures were checked.
	pending          []pendingEntry
	inOrder, checked int
}

type pendingEntry struct {
	place   place
	record  Record
	arrival uint64
	bad     bool // its own signature does not verify
}

func (c *check) entry(l *logWalk, p place, value []byte) error {
	c.report.Entries++
	if c.cfg.On != nil && c.report.Entries%1000 == 0 {
		c.cfg.On(c.report.Entries)
	}
	r, arrival, payload, err := decodeSigned(p, value)
	if err == nil && !filed(&r.Entry) {
		if err = r.CheckPayload(payload); err != nil {
			err = p.damaged(err)
		}
	}
	l.pending = append(l.pending, pendingEntry{place: p, record: r, arrival: arrival})
	switch {
	case l.broken:
	case err != nil:
		c.report.found("%v", err)
		l.broken = true
	case p.seq() != l.seq+1:
		c.report.found("entry %d of log %d by %s is missing", l.seq+1, p.log().log(), p.log().author())
		l.broken = true
	default:
		l.seq = p.seq()
		l.inOrder++
	}
	if l.inOrder-l.checked < bamboo.Batch {
		return nil
	}
	return c.prove(l)
}

// prove checks what was gathered of a log.
func (c *check) prove(l *logWalk) error {
	signed := make([]bamboo.Signed, l.inOrder)
	for i := range signed {
		signed[i] = l.pending[i].record.Signed
	}
	var refused *bamboo.SignatureError
	if err := bamboo.VerifySignatures(signed[l.checked:]); errors.As(err, &refused) {
		for _, i := range refused.Entries {
			e := &l.pending[l.checked+i]
			e.bad = true
			c.report.found("entry %d of log %d by %s: %v", e.record.Seq, e.record.Log, e.record.Author, bamboo.ErrSignature)
		}
	} else if err != nil {
		return err
	}
	l.checked = l.inOrder
	held := func(seq uint64) (bamboo.Hash, bool) {
		r, err := c.v.entry(l.key.at(seq))
		return r.ID, err == nil
	}
	for good := l.vouched(l.inOrder); ; {
		err := bamboo.VerifyRun(signed[:good], held)
		var link *bamboo.LinkError
		if err == nil {
			return c.settle(l, good)
		}
		if !errors.As(err, &link) {
			return err
		}
		c.report.found("%v", err)
		l.broken = true
		good = l.vouched(int(link.Seq - signed[0].Seq))
	}
}

// vouched returns how many of the first n pending entries the signature of the last one vouches for.
func (l *logWalk) vouched(n int) int {
	for n > 0 && l.pending[n-1].bad {
		n--
	}
	return n
}

// settle keeps the first entries of those pending, and puts in order what leads to them.
func (c *check) settle(l *logWalk, good int) error {
	for i := range l.pending[:good] {
		e := &l.pending[i]
		if err := c.leads(e); err != nil {
			return err
		}
		r := &e.record
		l.proven.Height, l.proven.ID, l.proven.Ended = r.Seq, r.ID, r.End
		l.proven.Bytes += r.PayloadSize
		c.kept++
		c.last = max(c.last, e.arrival)
		c.report.Bytes += r.PayloadSize
	}
	l.pending = append(l.pending[:0], l.pending[good:]...)
	l.inOrder, l.checked = l.inOrder-good, l.checked-good
	return nil
}

// leads compares the rows that lead to an entry.
func (c *check) leads(e *pendingEntry) error {
	item := itemOf(e.record.Time, e.record.ID)
	for _, want := range []struct {
		key, value []byte
		what       string
	}{
		{row(rowID, e.record.ID[:]), e.place[:], "the row of its id"},
		{row(rowItem, item[:]), []byte{}, "its place in the order"},
		{row(rowArrival, number(e.arrival)), e.place[:], "its arrival"},
	} {
		got, err := c.v.get(want.key)
		if err == nil && bytes.Equal(got, want.value) {
			continue
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		c.report.found("entry %d of log %d by %s: %s is wrong", e.record.Seq, e.record.Log, e.record.Author, want.what)
		if err == nil && want.key[0] == rowArrival {
			if taken, err := c.leadsSomewhere(want.key, got); err != nil {
				return err
			} else if taken {
				return c.renumber(e)
			}
		}
		if err := c.set(want.key, want.value); err != nil {
			return err
		}
	}
	return nil
}

// renumber lets an entry arrive anew, after all others, because another one has its number.
func (c *check) renumber(e *pendingEntry) error {
	value, err := c.v.get(row(rowEntry, e.place[:]))
	if err != nil {
		return err
	}
	c.renumbered++
	e.arrival = c.v.state.arrivals + c.renumbered
	copy(value[8:], number(e.arrival))
	return errors.Join(c.set(row(rowEntry, e.place[:]), value), c.set(row(rowArrival, number(e.arrival)), e.place[:]))
}

// end concludes a log: what could not be proven goes, and its head is compared.
func (c *check) end(l *logWalk, heads map[logKey]Head) error {
	if l == nil {
		return nil
	}
	if err := c.prove(l); err != nil {
		return err
	}
	c.report.Logs++
	for _, e := range l.pending {
		c.report.Removed++
		if err := c.remove(&e); err != nil {
			return err
		}
	}
	was := heads[l.key]
	delete(heads, l.key)
	want := l.proven
	want.Author, want.Log = l.key.author(), l.key.log()
	want.Name, want.Mine, want.Fork, want.Checked = was.Name, was.Mine, was.Fork, min(was.Checked, want.Height)
	if was != want {
		c.report.found("head of log %d by %s: it says %d, the entries go to %d", want.Log, want.Author, was.Height, want.Height)
		if err := c.set(row(rowHead, l.key[:]), want.encode()); err != nil {
			return err
		}
	}
	c.keep(want)
	return nil
}

// forks looks at the proofs.
func (c *check) forks() error {
	return c.v.scan([]byte{rowFork}, []byte{rowFork + 1}, func(key, value []byte) error {
		err := errRow
		if len(key) == 1+len(place{}) {
			var f Fork
			if f, err = decodeFork(place(key[1:]), bytes.Clone(value)); err == nil {
				err = proves(&f.Kept.Signed, &f.Other.Signed)
			}
		}
		if err == nil {
			return nil
		}
		c.report.found("proof of a fork: %v", err)
		return c.drop(bytes.Clone(key))
	})
}

// files reads every file of a payload. A repair notes which of them are not there, or not any more.
func (c *check) files() error {
	err := c.change(func(b *pebble.Batch) error { return b.DeleteRange([]byte{rowLack}, []byte{rowLack + 1}, nil) })
	if err != nil {
		return err
	}
	return c.v.scan([]byte{rowFile}, []byte{rowFile + 1}, func(key, value []byte) error {
		if len(key) != 1+len(bamboo.Hash{}) {
			c.report.found("file %x: %v", key, errRow)
			return c.drop(bytes.Clone(key))
		}
		if err := c.ctx.Err(); err != nil {
			return err
		}
		c.report.Files++
		hash := bamboo.Hash(key[1:])
		err := c.s.ReadPayload(io.Discard, hash)
		if err == nil {
			return nil
		}
		c.report.found("%v", err)
		if !c.cfg.Repair {
			return nil
		}
		there, err := c.s.mend(hash)
		if err != nil || there {
			return err
		}
		return c.set(row(rowLack, hash[:]), bytes.Clone(value))
	})
}
