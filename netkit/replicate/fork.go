package replicate

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
)

// search looks for the first entry in which the two sides' branches of a log differ.
type search struct {
	same, differs uint64 // numbers known to be of equal and of different entries; 0 is none
	top           uint64 // where both sides have a signature that verified, mostly
	asked         []uint64
}

// search begins to look for a fork at or before a number of which this side and the other have different entries.
func (s *session) search(l logID, differs uint64) error {
	if s.searches[l] != nil {
		return nil
	}
	h, err := s.view.Head(l.author, l.log)
	if err != nil {
		return err
	}
	if err := s.reach(func(e *state) { e.incomplete = true }); err != nil {
		return err
	}
	if h.Fork > 0 && h.Fork <= differs { // the other side gets the proof
		return nil
	}
	f := &search{differs: differs, top: differs}
	s.searches[l] = f
	if err := s.reach(func(e *state) { e.searches++ }); err != nil {
		return err
	}
	return s.ask(l, f)
}

// ask asks for entries in between, or for the one that is sought.
func (s *session) ask(l logID, f *search) error {
	if f.differs-f.same == 1 {
		return s.out.say(binary.AppendUvarint(l.append([]byte{byte(kindFetch)}), f.differs))
	}
	f.asked = f.asked[:0]
	span := f.differs - f.same
	n := min(span-1, maxProbe)
	for i := range n {
		// Without overflow: span is cut into n+1 parts.
		f.asked = append(f.asked, f.same+span/(n+1)*(i+1)+span%(n+1)*(i+1)/(n+1))
	}
	out := binary.AppendUvarint(l.append([]byte{byte(kindProbe)}), n)
	for _, seq := range f.asked {
		out = binary.AppendUvarint(out, seq)
	}
	return s.out.say(out)
}

// spend counts a question of the other side.
func (s *session) spend() error {
	if s.budget--; s.budget < 0 {
		return broken("it asks without end")
	}
	return nil
}

func (s *session) onProbe(body []byte) error {
	d := decoder{rest: body}
	l := d.log()
	n := d.count(1)
	if d.err == nil && n > maxProbe {
		d.fail("it asks for too much at once")
		n = 0
	}
	out := binary.AppendUvarint(l.append([]byte{byte(kindPoints)}), uint64(n))
	for range n {
		e, err := s.view.Entry(l.author, l.log, d.number())
		if err != nil && !errors.Is(err, logstore.ErrNotFound) {
			return err
		}
		out = append(out, e.ID[:]...)
	}
	if err := errors.Join(d.end(), s.spend()); err != nil {
		return err
	}
	return s.out.say(out)
}

func (s *session) onPoints(body []byte) error {
	d := decoder{rest: body}
	l := d.log()
	ids := make([]bamboo.Hash, d.count(len(bamboo.Hash{})))
	for i := range ids {
		ids[i] = d.hash()
	}
	if err := d.end(); err != nil {
		return err
	}
	f := s.searches[l]
	if f == nil || len(f.asked) == 0 || len(ids) != len(f.asked) {
		return broken("it answers what was not asked")
	}
	for i, seq := range f.asked {
		same, err := s.holds(l, seq, ids[i])
		if err != nil {
			return err
		}
		if !same {
			f.differs = seq
			break
		}
		f.same = seq
	}
	f.asked = f.asked[:0]
	return s.ask(l, f)
}

func (s *session) onFetch(body []byte) error {
	d := decoder{rest: body}
	l := d.log()
	seq := d.number()
	if err := errors.Join(d.end(), s.spend()); err != nil {
		return err
	}
	e, err := s.view.Entry(l.author, l.log, seq)
	if err != nil && !errors.Is(err, logstore.ErrNotFound) {
		return err
	}
	return s.out.say(append(l.append([]byte{byte(kindEntry)}), e.Raw...))
}

// onEntry has found the other side's branch.
func (s *session) onEntry(body []byte) error {
	d := decoder{rest: body}
	l := d.log()
	f := s.searches[l]
	if d.err != nil || f == nil || f.differs-f.same != 1 {
		return broken("it sends an entry that was not asked for")
	}
	other, err := bamboo.Parse(d.rest)
	if err != nil {
		return broken("entry of a fork: %v", err)
	}
	own, err := s.view.Entry(l.author, l.log, f.differs)
	if err != nil {
		return err
	}
	err = s.keepFork(own.Signed, other)
	if errors.Is(err, bamboo.ErrSignature) && f.differs != f.top {
		// An author may sign badly inside of a log. Entries further up differ too.
		f.same, f.differs = f.top-1, f.top
		return s.ask(l, f)
	}
	if err != nil {
		return err
	}
	delete(s.searches, l)
	if !s.cfg.List {
		if err := s.out.say(encodeProof(own.Raw, other.Raw)); err != nil {
			return err
		}
	}
	return s.reach(func(e *state) { e.searches-- })
}

// keepFork stores a proof, of authors whose entries are taken.
func (s *session) keepFork(a, b bamboo.Signed) error {
	l := logID{a.Author, a.Log}
	reason, _, err := s.replica.welcome(s.view, a.Author)
	if err == nil && reason != "" {
		var known bool // a log that is here is to be known as forked, whatever has become of its author's leave
		if known, err = knows(s.view, a.Author); !known {
			return err
		}
	}
	if err != nil {
		return err
	}
	added := true
	if !s.cfg.List {
		if added, err = s.replica.Store.PutFork(a, b); err != nil {
			return err
		}
	}
	if added {
		s.noteFork(l, a.Seq)
	}
	return nil
}

// noteFork notes that a log was found to be forked.
func (s *session) noteFork(l logID, seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.forks[l]; !ok || seq < known {
		s.forks[l] = seq
	}
}

// Fork is a log of which two branches are known.
type Fork struct {
	Author string `json:"author"`
	Log    uint64 `json:"log"`
	Seq    uint64 `json:"seq"` // of the first entry that is known to differ
}

func (s *session) forkList() []Fork {
	out := make([]Fork, 0, len(s.forks))
	for l, seq := range s.forks {
		out = append(out, Fork{Author: l.author.String(), Log: l.log, Seq: seq})
	}
	slices.SortFunc(out, func(a, b Fork) int { return cmp.Or(cmp.Compare(a.Author, b.Author), cmp.Compare(a.Log, b.Log)) })
	return out
}

// digest is over the lowest fork known of each log.
type digest struct{ buf bytes.Buffer }

func newDigest() *digest { return &digest{} }

func (d *digest) add(author bamboo.Author, log, seq uint64) {
	d.buf.Write(binary.AppendUvarint(logID{author, log}.append(nil), seq))
}

// sum is zero if there is none.
func (d *digest) sum() [32]byte {
	if d.buf.Len() == 0 {
		return [32]byte{}
	}
	return bamboo.HashOf(d.buf.Bytes())
}
