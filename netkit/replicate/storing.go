package replicate

import (
	"errors"
	"fmt"
	"time"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
)

// storing is a piece of a run that is becoming durable while the next one comes.
type storing struct {
	of      *taking
	records []logstore.Record
	verify  time.Duration // how long it took to prove them
	credit  int           // bytes that the other side may send again once they are stored

	done chan struct{} // closed when the following are known
	put  logstore.PutResult
	err  error
}

// holds returns the id of an entry that is being stored.
func (s *storing) holds(of *taking, seq uint64) (bamboo.Hash, bool) {
	if s == nil || s.of != of || len(s.records) == 0 || seq < s.records[0].Seq || seq-s.records[0].Seq >= uint64(len(s.records)) {
		return bamboo.Hash{}, false
	}
	return s.records[seq-s.records[0].Seq].ID, true
}

// stored waits for what is being stored, if anything is, and tells of it.
func (t *taker) stored() error {
	done := t.storing
	if done == nil {
		return nil
	}
	t.storing = nil
	<-done.done
	of := done.of
	if errors.Is(done.err, logstore.ErrForked) { // another session was faster to learn of it
		of.over = true
		if done.put.Fork != nil {
			t.s.noteFork(of.logID, done.put.Fork.Seq)
		}
		return errors.Join(t.s.reach(func(e *state) { e.incomplete = true }), t.credit(done))
	}
	if done.err != nil {
		return fmt.Errorf("store entries of log %d by %s: %w", of.log, of.author, done.err)
	}
	of.over = of.over || of.next > of.to
	inline := uint64(0)
	for i := range done.records {
		inline += uint64(len(done.records[i].Payload))
	}
	t.s.tally(func(p *Progress) { p.Pulled.add(len(done.records), inline) })
	err := t.s.reach(func(e *state) {
		e.taken += uint64(done.put.Added)
		e.verify += done.verify
	})
	return errors.Join(err, t.credit(done))
}

// credit lets the other side send as much again as was taken.
func (t *taker) credit(s *storing) error {
	t.mu.Lock()
	t.outstanding -= s.credit
	t.mu.Unlock()
	return t.s.out.say(encodeNumber(kindCredit, uint64(s.credit)))
}
