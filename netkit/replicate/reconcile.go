package replicate

import (
	"errors"
	"math"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
)

// negentropyFrame is how long a message of negentropy may be; with maxRounds more than that for every thousand logs no honest
// reconciliation takes.
const (
	negentropyFrame = 256 << 10
	maxRounds       = 64
)

// begin says what the other side needs to find out what it lacks.
func (s *session) begin() error {
	s.budget = 16 * (fewLogs + maxRounds)
	if s.cfg.List {
		s.heights = make(map[logID]uint64)
	}
	switch {
	case s.algo == Ranges:
		return s.reconcile()
	case !s.tells():
		return s.tell(nil)
	case s.algo == Cursor:
		since := s.theirs.received
		if s.theirs.cursorEpoch != s.own.epoch {
			since = 0
		}
		heads, err := s.grown(since)
		if err != nil {
			return err
		}
		return s.tell(heads)
	default:
		heads, err := s.heads()
		if err != nil {
			return err
		}
		return s.tell(heads)
	}
}

// lists reports whether the side with these flags transfers nothing and only wants to know.
func lists(flags byte) bool { return flags&(flagTakes|flagGives|flagCompare) == 0 }

// tells reports whether the other side has use for what this side holds.
func (s *session) tells() bool {
	return lists(s.theirs.flags) || s.own.flags&flagGives != 0 && s.theirs.flags&flagTakes != 0
}

// heads are those of all logs that have entries.
func (s *session) heads() (out []head, err error) {
	err = s.view.Heads(func(h logstore.Head) error {
		if h.Height > 0 {
			out = append(out, headOf(&h))
		}
		return nil
	})
	return out, err
}

// grown are the heads of the logs that entries have come to after the n-th arrival.
func (s *session) grown(n uint64) (out []head, err error) {
	seen := make(map[logID]struct{})
	err = s.view.Since(n, func(a logstore.Arrival) error {
		l := logID{a.Author, a.Log}
		if _, ok := seen[l]; ok {
			return nil
		}
		seen[l] = struct{}{}
		h, err := s.view.Head(a.Author, a.Log)
		if err == nil {
			out = append(out, headOf(&h))
		}
		return err
	})
	return out, err
}

func headOf(h *logstore.Head) head {
	return head{logID: logID{h.Author, h.Log}, height: h.Height, bytes: h.Bytes, id: h.ID}
}

// tell lists heads. It is done once in a session.
func (s *session) tell(heads []head) error {
	last := isLast
	if len(heads) > maxListed {
		heads, last = heads[:maxListed], isCut
	}
	s.listed = heads
	s.budget += 16 * len(heads)
	const part = partFrame / (minHead + 16)
	for len(heads) > part {
		if err := s.out.say(encodeHeads(heads[:part], goesOn)); err != nil {
			return err
		}
		heads = heads[part:]
	}
	return s.out.say(encodeHeads(heads, last))
}

// onHeads asks for what the other side holds beyond this one.
func (s *session) onHeads(body []byte) error {
	heads, end, err := decodeHeads(body)
	if err != nil {
		return err
	}
	if s.gotAll || s.got+uint64(len(heads)) > maxListed {
		return broken("it lists logs without end")
	}
	var wants []want
	for i := range heads {
		w, err := s.consider(s.got, &heads[i])
		if err != nil {
			return err
		}
		if w != nil {
			wants = append(wants, *w)
		}
		s.got++
	}
	if end == isCut {
		if err := s.reach(func(e *state) { e.incomplete = true }); err != nil {
			return err
		}
	}
	if s.gotAll = end != goesOn; s.gotAll {
		if err := s.spare(); err != nil {
			return err
		}
	}
	return s.out.say(encodeWants(wants, s.gotAll))
}

// consider decides whether this side wants what the other has of a log, and finds out whether they have the same.
func (s *session) consider(index uint64, h *head) (*want, error) {
	own, err := s.view.Head(h.author, h.log)
	if err != nil && !errors.Is(err, logstore.ErrNotFound) {
		return nil, err
	}
	if s.heights != nil {
		s.heights[h.logID] = h.height
	}
	to := h.height
	if own.Fork > 0 { // beyond there are branches, of which each side keeps its own
		to = min(to, own.Fork-1)
		if own.Height >= to {
			return nil, nil
		}
	}
	if own.Height >= h.height {
		same, err := s.holds(h.logID, h.height, h.id)
		if err != nil || same {
			return nil, err
		}
		return nil, s.search(h.logID, h.height)
	}
	s.missing(Missing{Author: h.author, Log: h.log, From: own.Height + 1, To: to, Here: true})
	if s.own.flags&flagTakes == 0 || s.theirs.flags&flagGives == 0 {
		return nil, nil
	}
	size := h.bytes - min(h.bytes, own.Bytes)
	reason, err := s.replica.admit(s.view, s.cfg.Peer, h.logID, size)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		return nil, s.reach(func(e *state) {
			if e.refused++; e.reason == "" {
				e.reason = reason
			}
			e.incomplete = true
		})
	}
	s.takes.expect(index, &taking{head: *h, next: own.Height + 1, to: to, last: own.ID, granted: size})
	s.moves(to - own.Height)
	return &want{index: index, from: own.Height + 1, to: to, before: own.ID}, nil
}

// missing notes and tells what a side lacks.
func (s *session) missing(m Missing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := m.To - m.From + 1; m.Here {
		s.progress.Need += n
	} else {
		s.progress.Have += n
	}
	if s.cfg.OnMissing != nil {
		s.cfg.OnMissing(m)
	}
}

// spare tells what the other side lacks, where it will not ask for it.
func (s *session) spare() error {
	if s.heights == nil {
		return nil
	}
	all := s.differing()
	if s.algo != Ranges {
		var err error
		if all, err = s.heads(); err != nil {
			return err
		}
	}
	for i := range all {
		if h, theirs := &all[i], s.heights[all[i].logID]; theirs < h.height {
			s.missing(Missing{Author: h.author, Log: h.log, From: theirs + 1, To: h.height})
		}
	}
	return nil
}

// moves notes that a run of n entries is to be sent.
func (s *session) moves(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended.logs++
	s.ended.minimum += math.Log2(float64(n) + 1)
}

// holds reports whether this side has an entry under its number.
func (s *session) holds(l logID, seq uint64, id bamboo.Hash) (bool, error) {
	e, err := s.view.Entry(l.author, l.log, seq)
	if errors.Is(err, logstore.ErrNotFound) {
		return false, nil
	}
	return e.ID == id, err
}

// onWants sends what is asked for.
func (s *session) onWants(body []byte) error {
	wants, last, err := decodeWants(body)
	if err != nil {
		return err
	}
	if s.asked += uint64(len(wants)); s.out.ended() || s.asked > uint64(len(s.listed)) {
		return broken("it asks for more runs than there are")
	}
	var runs []sending
	for _, w := range wants {
		if w.index >= uint64(len(s.listed)) {
			return broken("it asks for a log that was not listed")
		}
		h := &s.listed[w.index]
		if w.to > h.height {
			return broken("it asks for entries that there are not")
		}
		same := w.from == 1
		if !same {
			if same, err = s.holds(h.logID, w.from-1, w.before); err != nil {
				return err
			}
		}
		if !same {
			if err := s.out.say(encodeSkip(w.index, skipForked)); err != nil {
				return err
			}
			if err := s.search(h.logID, w.from-1); err != nil {
				return err
			}
			continue
		}
		s.missing(Missing{Author: h.author, Log: h.log, From: w.from, To: w.to})
		s.moves(w.to - w.from + 1)
		runs = append(runs, sending{logID: h.logID, index: w.index, next: w.from, to: w.to})
	}
	s.out.change(func() {
		s.out.runs = append(s.out.runs, runs...)
		s.out.runsLast = s.out.runsLast || last
	})
	return nil
}
