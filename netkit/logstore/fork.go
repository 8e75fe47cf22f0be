package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"dibber/netkit/bamboo"
)

func (f *Fork) place() place { return keyOf(f.Author, f.Log).at(f.Seq) }

// encode makes the value of a fork's row: for both entries whether the payload is there, the length and the record.
func (f *Fork) encode() []byte {
	var out []byte
	for _, r := range []*Record{&f.Kept, &f.Other} {
		var has byte
		if r.Payload != nil {
			has = 1
		}
		value := encodeRecord(nil, r, 0)
		out = binary.BigEndian.AppendUint32(append(out, has), uint32(len(value)))
		out = append(out, value...)
	}
	return out
}

func decodeFork(p place, value []byte) (Fork, error) {
	f := Fork{Author: p.log().author(), Log: p.log().log(), Seq: p.seq()}
	for _, r := range []*Record{&f.Kept, &f.Other} {
		if len(value) < 5 || uint64(len(value)-5) < uint64(binary.BigEndian.Uint32(value[1:])) {
			return Fork{}, p.damaged(errRow)
		}
		has, size := value[0] == 1, binary.BigEndian.Uint32(value[1:])
		var payload []byte
		var err error
		if *r, _, payload, err = decodeSigned(p, value[5:5+size]); err != nil {
			return Fork{}, err
		}
		if has {
			if err := r.CheckPayload(payload); err != nil {
				return Fork{}, p.damaged(err)
			}
			r.Payload = payload
		}
		value = value[5+size:]
	}
	return f, nil
}

// proves returns an error unless two entries are a fork that anybody can check: of one log, with one number, different, both signed.
func proves(a, b *bamboo.Signed) error {
	if a.Author != b.Author || a.Log != b.Log || a.Seq != b.Seq {
		return errors.New("the entries have different places")
	}
	if a.ID == b.ID {
		return errors.New("the entries are the same")
	}
	if err := bamboo.VerifySignatures([]bamboo.Signed{*a, *b}); err != nil {
		return fmt.Errorf("fork at entry %d of log %d by %s: %w", a.Seq, a.Log, a.Author, err)
	}
	return nil
}

// PutFork stores a fork that somebody else found. It returns false if a fork at that number was known.
func (s *Store) PutFork(a, b bamboo.Signed) (added bool, err error) {
	if err := proves(&a, &b); err != nil {
		return false, err
	}
	f := Fork{Author: a.Author, Log: a.Log, Seq: a.Seq, Kept: Record{Signed: a}, Other: Record{Signed: b}}
	err = s.do(func(w *work) error {
		p := f.place()
		if held, err := w.base.entry(p); err == nil {
			// What is in the log is the branch that is kept.
			if held.ID == f.Other.ID {
				f.Kept, f.Other = f.Other, f.Kept
			}
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
		added, err = w.fork(&f)
		return err
	})
	return added, err
}
