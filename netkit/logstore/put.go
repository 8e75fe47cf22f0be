package logstore

import (
	"errors"
	"fmt"

	"dibber/netkit/bamboo"
	"dibber/netkit/negentropy"
)

// PutResult says what became of a run.
type PutResult struct {
	// Added were stored, Known were there already.
	Added, Known int
	// Fork is the fork that the run shows, nil if it shows none.
	Fork *Fork
}

// errMoved says that the log has grown since a run was proven.
var errMoved = errors.New("the log has changed")

// Put stores a run of one log, numbers rising by one, as somebody sent it. Entries that are known are passed over, the others are
// proven: by their links to what is held and to each other, and the signature of the last one (see [bamboo.VerifyRun]); their
// payloads are compared too. Files of payloads must have been received before. Either all of it is stored or nothing.
//
// Where a known number has another entry the log is forked: the proof is stored and named in the result, and the error is
// [ErrForked]. Other errors are a [GapError], a [bamboo.LinkError] (at the first entry that is new: the two logs fork further
// down), a [bamboo.SignatureError], and the errors of this package. An empty run is nothing to do.
func (s *Store) Put(run []Record) (PutResult, error) {
	for {
		res, err := s.put(run)
		if !errors.Is(err, errMoved) {
			return res, err
		}
	}
}

func (s *Store) put(run []Record) (res PutResult, err error) {
	if len(run) == 0 {
		return res, nil
	}
	v, err := s.View()
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	k := keyOf(run[0].Author, run[0].Log)
	head, err := v.head(k)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return res, err
	}
	fork, known, err := v.compare(k, head.Height, run)
	if err != nil {
		return res, err
	}
	if fork != nil {
		err := s.do(func(w *work) error {
			_, err := w.fork(fork)
			return err
		})
		if err != nil {
			return res, err
		}
		return PutResult{Known: known, Fork: fork}, fmt.Errorf("log %d by %s at entry %d: %w", fork.Log, fork.Author, fork.Seq, ErrForked)
	}
	if run = run[known:]; len(run) == 0 {
		return PutResult{Known: known}, nil
	}
	if err := s.prove(v, &head, run); err != nil {
		return res, err
	}
	err = s.doMany(len(run), func(w *work) error {
		h, err := w.head(k)
		if err != nil {
			return err
		}
		if h.Height != head.Height || h.ID != head.ID || h.Fork != head.Fork {
			return errMoved
		}
		for i := range run {
			w.add(h, &run[i])
		}
		return nil
	})
	if err != nil {
		return res, err
	}
	return PutResult{Added: len(run), Known: known}, nil
}

// compare returns how many of a run's first entries are held, and the fork if one of them is held differently.
func (v *View) compare(k logKey, height uint64, run []Record) (fork *Fork, known int, err error) {
	for i := range run {
		r := &run[i]
		if keyOf(r.Author, r.Log) != k || r.Seq > height {
			return nil, i, nil
		}
		held, err := v.entry(k.at(r.Seq))
		if err != nil {
			return nil, 0, err
		}
		if held.ID != r.ID {
			if err := errors.Join(proves(&held.Signed, &r.Signed), checkPayload(r)); err != nil {
				return nil, 0, err
			}
			return &Fork{Author: r.Author, Log: r.Log, Seq: r.Seq, Kept: held, Other: *r}, i, nil
		}
	}
	return nil, len(run), nil
}

// prove returns an error unless a run may follow a log as it is.
func (s *Store) prove(v *View, head *Head, run []Record) error {
	first := &run[0]
	switch {
	case head.Fork > 0 && run[len(run)-1].Seq >= head.Fork: // up to there all branches are one
		return fmt.Errorf("log %d by %s: %w", first.Log, first.Author, ErrForked)
	case head.Ended:
		return fmt.Errorf("log %d by %s: %w", first.Log, first.Author, ErrEnded)
	case first.Seq != head.Height+1:
		return &GapError{Author: first.Author, Log: first.Log, Height: head.Height, Got: first.Seq}
	}
	k := keyOf(first.Author, first.Log)
	signed := make([]bamboo.Signed, len(run))
	for i := range run {
		signed[i] = run[i].Signed
	}
	var lost error
	err := bamboo.VerifyRun(signed, func(seq uint64) (bamboo.Hash, bool) {
		if seq == head.Height {
			return head.ID, true
		}
		r, err := v.entry(k.at(seq))
		lost = errors.Join(lost, err)
		return r.ID, err == nil
	})
	if lost != nil {
		return lost
	}
	if err != nil {
		return err
	}
	for i := range run {
		if err := checkPayload(&run[i]); err != nil {
			return err
		}
		if run[i].Time == negentropy.Forever {
			return fmt.Errorf("entry %d of log %d by %s: its time is behind all times", run[i].Seq, run[i].Log, run[i].Author)
		}
		if filed(&run[i].Entry) && !s.hasFile(run[i].PayloadHash, run[i].PayloadSize) {
			return fmt.Errorf("entry %d of log %d by %s: %w", run[i].Seq, run[i].Log, run[i].Author, ErrPayloadMissing)
		}
	}
	return nil
}

// checkPayload compares a payload that is not a file.
func checkPayload(r *Record) error {
	if filed(&r.Entry) {
		if r.Payload != nil {
			return fmt.Errorf("entry %d: %w: one of %d bytes is a file", r.Seq, bamboo.ErrPayload, r.PayloadSize)
		}
		return nil
	}
	return r.CheckPayload(r.Payload)
}
