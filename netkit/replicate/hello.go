package replicate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"dibber/netkit/logstore"
)

// Algo is how two sides find out in which logs they differ.
type Algo byte

const (
	// Auto takes the first of the others that can be taken.
	Auto Algo = iota
	// Cursor lists what has grown since the last session.
	Cursor
	// Vector lists all logs.
	Vector
	// Ranges reconciles the sets of heads.
	Ranges
)

// String returns the algorithm's word.
func (a Algo) String() string {
	return []string{"auto", "cursor", "vector", "rbsr"}[min(a, Ranges)]
}

// greet exchanges the hellos.
func (s *session) greet() (err error) {
	if s.own, err = s.describe(); err != nil {
		return err
	}
	if s.cfg.Dialled {
		if err := s.recall(); err != nil {
			return err
		}
		if err := s.out.write(s.own.encode()); err != nil {
			return fmt.Errorf("hello: %w", err)
		}
	}
	frame, err := s.next()
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	if len(frame) == 0 || kind(frame[0]) != kindHello {
		if len(frame) > 0 && kind(frame[0]) == kindRefusal {
			return fmt.Errorf("%w by the peer: %q", ErrRefused, frame[1:])
		}
		return broken("it does not say hello")
	}
	if s.theirs, err = decodeHello(frame[1:]); err != nil {
		return err
	}
	s.rounds = 1
	if s.cfg.Dialled {
		s.algo = s.theirs.algo
		return nil
	}
	if err := s.recall(); err != nil {
		return err
	}
	s.algo = s.choose()
	s.own.algo = s.algo
	return s.out.write(s.own.encode())
}

// describe makes the own hello.
func (s *session) describe() (hello, error) {
	h := hello{
		algo: s.cfg.Algo, window: window, epoch: s.view.Epoch(), arrivals: s.view.Arrivals(), entries: uint64(s.view.Len()), root: s.view.Root(),
	}
	switch {
	case s.cfg.Compare:
		h.flags = flagCompare
	case !s.cfg.List:
		h.flags = flagTakes | flagGives | flagFiles
	}
	if s.cfg.NoPull {
		h.flags &^= flagTakes
	}
	if s.cfg.NoPush {
		h.flags &^= flagGives
	}
	lacks, err := s.view.Lacks()
	if err != nil {
		return h, err
	}
	if lacks {
		h.flags |= flagLacks
	}
	sum, err := s.view.Sum(0, s.view.Len())
	if err != nil {
		return h, err
	}
	h.fingerprint = sum.Fingerprint()
	digest := newDigest()
	err = s.view.Heads(func(l logstore.Head) error {
		if l.Height > 0 {
			h.logs++
		}
		if l.Fork > 0 {
			digest.add(l.Author, l.Log, l.Fork)
		}
		return nil
	})
	h.forks = digest.sum()
	return h, err
}

// recall adds to the own hello how far this side has come with the other.
func (s *session) recall() error {
	if s.cursorName() == "" || s.cfg.List { // which is to count everything
		return nil
	}
	c, err := s.view.Cursor(s.cursorName())
	if errors.Is(err, logstore.ErrNotFound) {
		return nil
	}
	s.own.cursorEpoch, s.own.received = c.Epoch, c.Received
	return err
}

// cursorName is under what this side remembers the other: who dials knows a peer, who answers knows a store, whatever identity the
// peer has that day.
func (s *session) cursorName() string {
	if s.cfg.Dialled || s.cfg.Peer == "" {
		return s.cfg.Peer
	}
	return string(binary.BigEndian.AppendUint64([]byte("epoch"), s.theirs.epoch))
}

// choose decides how to find out in which logs the sides differ.
func (s *session) choose() Algo {
	here := s.own.cursorEpoch == s.theirs.epoch && s.own.received <= s.theirs.arrivals
	there := s.theirs.cursorEpoch == s.own.epoch && s.theirs.received <= s.own.arrivals
	// Nothing remembered is as good as a cursor at the beginning, unless that means to list many logs.
	cursor := here && (there || s.own.logs <= fewLogs) || there && s.theirs.logs <= fewLogs
	if !here {
		s.own.received = 0
	}
	many := s.own.logs > fewLogs || s.theirs.logs > fewLogs
	// Entries that differ though their sums do not were made to collide: sums over heads are not to be relied upon either.
	collided := s.own.entries == s.theirs.entries && s.own.fingerprint == s.theirs.fingerprint && s.own.root != s.theirs.root
	want := s.theirs.algo
	switch {
	case cursor && (want == Auto || want == Cursor):
		return Cursor
	case want == Vector, collided, !many && want != Ranges:
		return Vector
	default:
		return Ranges
	}
}

// equal reports whether both sides have the same entries.
func (s *session) equal() bool {
	return s.own.root == s.theirs.root
}

// atOnce reports whether the session ends with the hellos.
func (s *session) atOnce() bool {
	return (s.own.flags|s.theirs.flags)&flagCompare != 0 || s.equal() && !s.own.seeks(&s.theirs) && !s.theirs.seeks(&s.own)
}

// seeks reports whether this side asks the other for files that are missing of its own entries.
func (h *hello) seeks(of *hello) bool {
	return h.flags&flagTakes != 0 && h.flags&flagLacks != 0 && of.flags&flagGives != 0 && of.flags&flagFiles != 0
}

// remember keeps how far this side has come with the other.
func (s *session) remember(equal bool) error {
	if s.cursorName() == "" || s.cfg.List {
		return nil
	}
	c, err := s.view.Cursor(s.cursorName())
	if errors.Is(err, logstore.ErrNotFound) {
		if !s.cfg.Dialled && s.ended.taken == 0 {
			return nil // who brings nothing leaves no trace
		}
		err = nil
	}
	if err != nil {
		return err
	}
	before := c
	s.mu.Lock()
	converged := equal || s.ownFin != nil && s.peerFin != nil && s.ownFin.root == s.peerFin.root
	switch {
	case converged, s.own.flags&flagTakes != 0 && s.theirs.flags&flagGives != 0 && !s.ended.incomplete && s.algo != Cursor:
		c.Epoch, c.Received = s.theirs.epoch, s.theirs.arrivals
	case s.algo == Cursor:
		c.Epoch, c.Received = 0, 0 // it did not lead there: the next session looks at everything
	}
	if converged || s.peerFin != nil && s.peerFin.complete && s.own.flags&flagGives != 0 {
		c.Acked = s.own.arrivals
	}
	s.mu.Unlock()
	c.Converged = converged
	if c == before { // nothing is written for nothing
		return nil
	}
	c.Synced = uint64(time.Now().UnixMilli())
	return s.replica.Store.SetCursor(s.cursorName(), c)
}
