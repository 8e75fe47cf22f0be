package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"dibber/netkit/bamboo"
)

// Cursor is how far a store and that of a peer have come with each other.
type Cursor struct {
	// Epoch is that of the peer's store, Received the number of its arrivals up to which all is here.
	Epoch, Received uint64
	// Acked is the number of arrivals here up to which the peer has said that it has all on disk.
	Acked uint64
	// Synced is when the last session ended, in milliseconds since 1970; Converged says that the roots were equal then.
	Synced    uint64
	Converged bool
}

const cursorSize = 5*8 + 1

// Cursor returns what was kept of a peer, or [ErrNotFound]. What it acknowledged of an epoch that is over counts for nothing.
func (v *View) Cursor(peer string) (Cursor, error) {
	value, err := v.get(row(rowPeer, []byte(peer)))
	if err != nil {
		return Cursor{}, err
	}
	if len(value) != cursorSize {
		return Cursor{}, &CorruptError{What: fmt.Sprintf("cursor of peer %x", peer), Cause: errRow}
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(value[8*i:]) }
	c := Cursor{Epoch: n(0), Received: n(1), Acked: n(3), Synced: n(4), Converged: value[40] == 1}
	if n(2) != v.Epoch() {
		c.Acked = 0
	}
	return c, nil
}

// SetCursor keeps what is known of a peer, which is named by the bytes of its id.
func (s *Store) SetCursor(peer string, c Cursor) error {
	return s.do(func(w *work) error {
		var value []byte
		for _, n := range []uint64{c.Epoch, c.Received, w.state.epoch, c.Acked, c.Synced} {
			value = binary.BigEndian.AppendUint64(value, n)
		}
		var converged byte
		if c.Converged {
			converged = 1
		}
		w.set(row(rowPeer, []byte(peer)), append(value, converged))
		return nil
	})
}

// CheckSignatures checks every single signature of a log up to an entry, many at once and each only once. Runs are proven by the
// signature at their end; a run that ends elsewhere, or goes to a peer that checks them all, must not be sent before. The error is a
// [bamboo.SignatureError], whose indices are sequence numbers less one: it is the author's fault, not that of who sent the entries.
func (s *Store) CheckSignatures(author bamboo.Author, log, upTo uint64) (err error) {
	v, err := s.View()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	h, err := v.Head(author, log)
	if err != nil || upTo <= h.Checked {
		return err
	}
	upTo = min(upTo, h.Height)
	var batch []bamboo.Signed
	var bad []int
	check := func() error {
		err := bamboo.VerifySignatures(batch)
		if refused, ok := errors.AsType[*bamboo.SignatureError](err); ok {
			for _, i := range refused.Entries {
				bad = append(bad, int(batch[i].Seq)-1)
			}
			err = nil
		}
		batch = batch[:0]
		return err
	}
	err = v.Run(author, log, h.Checked+1, upTo, func(r Record) error {
		if batch = append(batch, r.Signed); len(batch) < bamboo.Batch {
			return nil
		}
		return check()
	})
	if err := errors.Join(err, check()); err != nil {
		return err
	}
	if len(bad) > 0 {
		return &bamboo.SignatureError{Entries: bad}
	}
	return s.do(func(w *work) error {
		now, err := w.head(keyOf(author, log))
		if err == nil {
			now.Checked = max(now.Checked, upTo)
		}
		return err
	})
}
