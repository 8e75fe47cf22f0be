package replicate

import (
	"encoding/binary"
	"errors"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
)

// run is a piece of a log on its way.
type run struct {
	index   uint64 // of the head that the receiver got for the log
	from    uint64
	entries []piece
}

// piece is what is sent of an entry: all that does not follow from where it stands.
type piece struct {
	end       bool
	size      uint64
	time      uint64
	signature [64]byte
	payload   []byte      // of at most logstore.InlineMax bytes
	hash      bamboo.Hash // of a longer one
}

// The flags of a piece.
const (
	pieceEnd  = 1 << iota
	pieceBack // its time is before that of the entry before
)

// minPiece is the length of the shortest piece.
const minPiece = 1 + 1 + 1 + 64

func encodeRun(index uint64, records []logstore.Record) []byte {
	size := 32
	for i := range records {
		size += minPiece + 20 + max(len(records[i].Payload), 32)
	}
	out := append(make([]byte, 0, size), byte(kindRun))
	for _, n := range []uint64{index, records[0].Seq, uint64(len(records))} {
		out = binary.AppendUvarint(out, n)
	}
	before := uint64(0)
	for i := range records {
		r := &records[i]
		flags, delta := byte(0), r.Time-before
		if r.End {
			flags |= pieceEnd
		}
		if r.Time < before {
			flags, delta = flags|pieceBack, before-r.Time
		}
		before = r.Time
		out = binary.AppendUvarint(append(out, flags), r.PayloadSize)
		out = binary.AppendUvarint(out, delta)
		out = append(out, r.Signature[:]...)
		if r.PayloadSize > logstore.InlineMax {
			out = append(out, r.PayloadHash[:]...)
		} else {
			out = append(out, r.Payload...)
		}
	}
	return out
}

func decodeRun(body []byte) (run, error) {
	d := decoder{rest: body}
	r := run{index: d.number(), from: d.number()}
	r.entries = make([]piece, d.count(minPiece))
	before := uint64(0)
	for i := range r.entries {
		p := &r.entries[i]
		flags := d.byte()
		p.end, p.size = flags&pieceEnd != 0, d.number()
		if delta := d.number(); flags&pieceBack != 0 {
			p.time = before - delta
		} else {
			p.time = before + delta
		}
		before = p.time
		copy(p.signature[:], d.bytes(len(p.signature)))
		if p.size > logstore.InlineMax {
			p.hash = d.hash()
		} else {
			p.payload = d.bytes(int(p.size))
		}
		if d.err != nil {
			break
		}
	}
	if d.err == nil && (len(r.entries) == 0 || r.from == 0 || r.from+uint64(len(r.entries)) < r.from) {
		d.fail("a run of nothing")
	}
	return r, d.end()
}

// errGap means that an entry before a run is not held any more.
var errGap = errors.New("the entry before the run is not held")

// rebuild makes the entries of a run whole again. held returns the ids of entries before it.
func (r *run) rebuild(l logID, held func(seq uint64) (bamboo.Hash, bool)) ([]logstore.Record, error) {
	out := make([]logstore.Record, len(r.entries))
	id := func(seq uint64) (bamboo.Hash, bool) {
		if seq >= r.from {
			return out[seq-r.from].ID, true
		}
		return held(seq)
	}
	raws := make([]byte, 0, len(r.entries)*bamboo.MaxEntrySize)
	for i := range r.entries {
		p, seq := &r.entries[i], r.from+uint64(i)
		e := bamboo.Entry{End: p.end, Author: l.author, Log: l.log, Seq: seq, PayloadSize: p.size, PayloadHash: p.hash, Signature: p.signature}
		if p.size <= logstore.InlineMax {
			e.PayloadHash = bamboo.HashOf(p.payload)
		}
		var ok bool
		if seq > 1 {
			if e.Backlink, ok = id(seq - 1); !ok {
				return nil, errGap
			}
		}
		if bamboo.HasSkiplink(seq) {
			if e.Skiplink, ok = id(bamboo.Lipmaa(seq)); !ok {
				return nil, errGap
			}
		}
		start := len(raws)
		raws = e.Append(raws)
		raw := raws[start:len(raws):len(raws)]
		out[i] = logstore.Record{Signed: bamboo.Signed{Entry: e, Raw: raw, ID: bamboo.HashOf(raw)}, Time: p.time, Payload: p.payload}
		if p.size <= logstore.InlineMax && p.payload == nil {
			out[i].Payload = []byte{}
		}
	}
	return out, nil
}
