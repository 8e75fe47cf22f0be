package replicate

import (
	"encoding/binary"
	"errors"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
	"dibber/netkit/negentropy"
)

// A live message is a run of one log as its author signed it:
//
//	message = 1 ‖ count ‖ entries: time ‖ length ‖ entry ‖ payload, of at most logstore.InlineMax bytes
//
// Numbers are uvarints. An entry whose payload is a file comes without it.
const (
	liveVersion = 1
	// liveBytes is about how long a message may be, liveMessages how many of them tell of what was signed at once; what is more is left
	// to sessions.
	liveBytes    = 64 << 10
	liveMessages = 16
	minLive      = 1 + 1 + 64
)

// encodeLive makes a message of the first of some entries, one at least, and returns how many are in it.
func encodeLive(records []logstore.Record) (message []byte, n int) {
	var body []byte
	for n < len(records) {
		r := &records[n]
		if n > 0 && len(body)+len(r.Raw)+len(r.Payload) > liveBytes {
			break
		}
		body = binary.AppendUvarint(body, r.Time)
		body = binary.AppendUvarint(body, uint64(len(r.Raw)))
		body = append(append(body, r.Raw...), r.Payload...)
		n++
	}
	return append(binary.AppendUvarint([]byte{liveVersion}, uint64(n)), body...), n
}

func decodeLive(message []byte) ([]logstore.Record, error) {
	d := decoder{rest: message}
	if d.byte() != liveVersion {
		d.fail("another version")
	}
	records := make([]logstore.Record, d.count(minLive))
	for i := range records {
		r := &records[i]
		r.Time = d.number()
		raw := d.bytes(d.count(1))
		if d.err != nil {
			break
		}
		var err error
		if r.Signed, err = bamboo.Parse(raw); err != nil {
			return nil, broken("an entry of a live message: %v", err)
		}
		if r.PayloadSize <= logstore.InlineMax {
			if r.Payload = d.bytes(int(r.PayloadSize)); r.Payload == nil {
				r.Payload = []byte{}
			}
		}
	}
	if d.err == nil && len(records) == 0 {
		d.fail("a run of nothing")
	}
	return records, d.end()
}

// worth is what a live message is worth to a replica.
type worth int

const (
	liveNext   worth = iota // it goes on where the log ends here
	liveAhead               // proven to be the author's, but entries before it are missing, a file is, or the log is forked
	liveKnown               // it is here
	liveBarred              // this side does not take it; others may
	liveBad                 // not what any author signed
)

// judge looks at a run that came, and proves it as far as that can be done.
func (r *Replica) judge(from string, run []logstore.Record) (_ worth, err error) {
	first, last := &run[0], &run[len(run)-1]
	size, files := uint64(0), false
	for i := range run {
		e := &run[i]
		if e.Author != first.Author || e.Log != first.Log || e.Seq != first.Seq+uint64(i) || e.Time == negentropy.Forever {
			return liveBad, nil
		}
		size, files = plus(size, e.PayloadSize), files || e.Payload == nil
	}
	v, err := r.Store.View()
	if err != nil {
		return liveKnown, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	h, err := v.Head(first.Author, first.Log)
	if err != nil && !errors.Is(err, logstore.ErrNotFound) {
		return liveKnown, err
	}
	if h.Height >= last.Seq {
		held, err := v.Entry(last.Author, last.Log, last.Seq)
		if err != nil || held.ID == last.ID {
			return liveKnown, err
		}
	}
	for i := range run {
		if run[i].Payload != nil && run[i].CheckPayload(run[i].Payload) != nil {
			return liveBad, nil
		}
	}
	if h.Fork > 0 {
		return liveBarred, nil // whoever asks gets the proof
	}
	l := logID{first.Author, first.Log}
	reason, err := r.admit(v, from, l, size)
	if err != nil {
		return liveKnown, err
	}
	if reason != "" {
		return liveBarred, nil
	}
	r.release(from, first.Author, size, size)
	return r.proven(v, h.Height, run, files), nil
}

// proven checks links and signature of a run.
func (r *Replica) proven(v *logstore.View, height uint64, run []logstore.Record, files bool) worth {
	signed := make([]bamboo.Signed, len(run))
	for i := range run {
		signed[i] = run[i].Signed
	}
	gap := run[0].Seq > height+1
	err := bamboo.VerifyRun(signed, func(seq uint64) (bamboo.Hash, bool) {
		e, err := v.Entry(run[0].Author, run[0].Log, seq)
		return e.ID, err == nil
	})
	var link *bamboo.LinkError
	switch {
	case err == nil && !gap && !files:
		return liveNext
	case err == nil:
		return liveAhead
	case errors.As(err, &link) && bamboo.VerifySignatures(signed) == nil:
		// A link leads to what is not here, or to something else: a session finds out.
		return liveAhead
	}
	return liveBad
}

// hear takes a message that came, if it is the next of its log. added is how many entries were stored.
func (r *Replica) hear(from string, message []byte) (run []logstore.Record, w worth, added int, err error) {
	if run, err = decodeLive(message); err != nil {
		return nil, liveBad, 0, err
	}
	if w, err = r.judge(from, run); err == nil && w == liveNext {
		added, err = r.takeLive(from, run)
	}
	return run, w, added, err
}

// takeLive stores a run that was found to be the next.
func (r *Replica) takeLive(from string, run []logstore.Record) (added int, err error) {
	size := uint64(0)
	for i := range run {
		size = plus(size, run[i].PayloadSize)
	}
	v, err := r.Store.View()
	if err != nil {
		return 0, err
	}
	reason, err := r.admit(v, from, logID{run[0].Author, run[0].Log}, size)
	if err = errors.Join(err, v.Close()); err != nil || reason != "" {
		return 0, err
	}
	res, err := r.Store.Put(run)
	unused := size
	if res.Added > 0 {
		unused = 0
	}
	r.release(from, run[0].Author, size, unused)
	return res.Added, err
}
