package negentropy

import (
	"errors"
	"fmt"
)

// MinFrame is the smallest limit of a message's length but 0: a range must find room.
const MinFrame = 4096

const (
	// buckets is how many parts a range that differs is split into. One of fewer than
	// listBelow items is listed instead. Others do the same: messages are alike to the byte.
	buckets   = 16
	listBelow = 2 * buckets
	// splitRoom is the most that a range takes which is split or listed.
	splitRoom = 1200
	// reserve is the room left in a frame for one more bound and fingerprint, and a skip before it.
	reserve = 200
)

var (
	// ErrVersion means that the other side does not speak protocol version 1.
	ErrVersion = errors.New("other side does not speak negentropy version 1")
	// ErrFrame means that a limit is too small to be kept.
	ErrFrame = fmt.Errorf("limit of a message is below %d bytes", MinFrame)
)

// Diff is what an [Initiator] learned from one message. Where messages have a limit, a
// difference may be told again by a later one.
type Diff struct {
	Have []ID // items of this side that the other lacks
	Need []ID // items of the other side that this one lacks
}

// Initiator is the side that asks, and learns in what the sets differ.
type Initiator struct{ engine }

// NewInitiator reconciles set, with messages of at most frame bytes: at least
// [MinFrame], or 0 for any length.
func NewInitiator(set Set, frame int) (*Initiator, error) {
	e, err := newEngine(set, frame)
	return &Initiator{e}, err
}

// Open is the first message.
func (i *Initiator) Open() ([]byte, error) {
	w := &writer{b: []byte{Version1}}
	err := i.split(w, 0, i.set.Len(), end())
	return w.b, err
}

// OpenTail is another first message: it splits the end of the order, again and again, down to the last few items, which it
// lists. Where the sides differ in what is newest that saves all round trips but one or two, for about 300 bytes a level;
// elsewhere it saves nothing. Any responder answers it.
func (i *Initiator) OpenTail() ([]byte, error) {
	w := &writer{b: []byte{Version1}}
	from, to := 0, i.set.Len()
	for to-from >= listBelow && !i.full(len(w.b)+2*splitRoom) {
		last := to - (to-from)/buckets
		bound, err := i.boundAt(last)
		if err != nil {
			return nil, err
		}
		if err := i.parts(w, from, last, buckets-1, bound); err != nil {
			return nil, err
		}
		from = last
	}
	err := i.split(w, from, to, end())
	return w.b, err
}

// Next takes an answer and returns the next message, nil when all is known. Both the
// answer and the set may fail it.
func (i *Initiator) Next(answer []byte) ([]byte, Diff, error) {
	var d Diff
	b, err := i.reconcile(answer, &d)
	switch {
	case err != nil:
		return nil, Diff{}, err
	case len(b) == 1:
		return nil, d, nil
	}
	return b, d, nil
}

// Responder is the side that answers. It keeps nothing between messages.
type Responder struct{ engine }

// NewResponder answers from set, with messages of at most frame bytes: at least
// [MinFrame], or 0 for any length.
func NewResponder(set Set, frame int) (*Responder, error) {
	e, err := newEngine(set, frame)
	return &Responder{e}, err
}

// Answer answers a message. One of another version of the protocol is answered with
// the version that is spoken here.
func (r *Responder) Answer(msg []byte) ([]byte, error) { return r.reconcile(msg, nil) }

// engine is what both sides have in common.
type engine struct {
	set   Set
	frame int
}

func newEngine(set Set, frame int) (engine, error) {
	if frame != 0 && frame < MinFrame {
		return engine{}, ErrFrame
	}
	return engine{set, frame}, nil
}

// full reports whether a message of n bytes has no room left.
func (e *engine) full(n int) bool { return e.frame != 0 && n > e.frame-reserve }

// round is the work on one message: what is read, what is written, and up to where.
type round struct {
	*engine
	in   reader
	out  writer
	diff *Diff // nil at the responder

	at   int   // the first item behind all ranges that were read
	done Bound // where these ranges end
	// skipping is set while nothing was written of the last of these ranges.
	skipping bool
}

// reconcile answers a message, as the initiator when diff is set.
func (e *engine) reconcile(msg []byte, diff *Diff) ([]byte, error) {
	r := &round{engine: e, in: reader{rest: msg}, out: writer{b: []byte{Version1}}, diff: diff}
	switch {
	case len(msg) == 0:
		return nil, malformed("is empty")
	case msg[0] < 0x60 || msg[0] > 0x6f:
		return nil, malformed("begins with %#02x, which is no version", msg[0])
	case msg[0] != Version1 && diff != nil:
		return nil, ErrVersion
	case msg[0] != Version1:
		return r.out.b, nil
	}
	r.in.rest = msg[1:]
	for len(r.in.rest) > 0 {
		if more, err := r.step(); err != nil {
			return nil, err
		} else if !more {
			break
		}
	}
	return r.out.b, nil
}

// step answers one range. It returns false once the frame is full, and then has
// written a fingerprint of everything that was not answered.
func (r *round) step() (bool, error) {
	upTo, err := r.in.bound()
	if err != nil {
		return false, err
	}
	if upTo.Compare(r.done) < 0 {
		return false, malformed("ranges are out of order")
	}
	mode, err := r.in.varint()
	if err != nil {
		return false, err
	}
	from := r.at
	to, err := r.set.Search(from, upTo)
	if err != nil {
		return false, err
	}
	before := r.out
	wasSkipping := r.skipping
	switch mode {
	case modeSkip:
		r.skipping = true
	case modeFingerprint:
		err = r.compare(from, to, upTo)
	case modeIDList:
		var full bool
		if upTo, to, full, err = r.list(from, to, upTo); full && err == nil {
			return false, r.rest(to)
		}
	default:
		err = malformed("range of unknown kind %d", mode)
	}
	if err != nil {
		return false, err
	}
	if r.full(len(r.out.b)) {
		r.out, r.skipping = before, wasSkipping
		return false, r.rest(from)
	}
	r.at, r.done = to, upTo
	return true, nil
}

// compare answers a fingerprint: what differs is split.
func (r *round) compare(from, to int, upTo Bound) error {
	theirs, err := r.in.bytes(FingerprintSize)
	if err != nil {
		return err
	}
	sum, err := r.set.Sum(from, to)
	if err != nil {
		return err
	}
	if sum.Fingerprint() == Fingerprint(theirs) {
		r.skipping = true
		return nil
	}
	r.endSkip()
	return r.split(&r.out, from, to, upTo)
}

// list answers a list: the initiator takes note of the differences, the responder
// lists its own items, as many as there is room for. It returns how far that went,
// and whether the frame is full now.
func (r *round) list(from, to int, upTo Bound) (Bound, int, bool, error) {
	theirs, err := r.in.ids()
	if err != nil {
		return upTo, to, false, err
	}
	if r.diff != nil {
		r.skipping = true
		return upTo, to, false, r.note(from, to, theirs)
	}
	written := len(r.out.b)
	r.endSkip()
	cut, n := false, 0
	var ids []byte
	err = r.set.Each(from, to, func(item Item) bool {
		if cut = r.full(written + len(ids)); cut {
			upTo, to = Bound{item.Timestamp, item.ID[:]}, from+n
			return false
		}
		ids = append(ids, item.ID[:]...)
		n++
		return true
	})
	r.out.idList(upTo, n, ids)
	return upTo, to, cut || r.full(len(r.out.b)), err
}

// note compares a range of this side's items with the other's.
func (r *round) note(from, to int, theirs []ID) error {
	left := make(map[ID]bool, len(theirs))
	for _, id := range theirs {
		left[id] = true
	}
	err := r.set.Each(from, to, func(item Item) bool {
		if left[item.ID] {
			left[item.ID] = false
		} else {
			r.diff.Have = append(r.diff.Have, item.ID)
		}
		return true
	})
	for _, id := range theirs {
		if left[id] {
			left[id] = false
			r.diff.Need = append(r.diff.Need, id)
		}
	}
	return err
}

// endSkip writes that there was nothing to say of the ranges before.
func (r *round) endSkip() {
	if r.skipping {
		r.skipping = false
		r.out.skip(r.done)
	}
}

// rest ends a message that is full with the fingerprint of all items from a position
// on, which must be the first behind what was answered: the reference leaves out the
// range that found no room, and so can hide what only one side has.
func (r *round) rest(from int) error {
	r.endSkip()
	sum, err := r.set.Sum(from, r.set.Len())
	if err != nil {
		return err
	}
	r.out.fingerprint(end(), sum.Fingerprint())
	return nil
}

// split writes a range in parts: fingerprints of as many items each, or the items if
// they are few.
func (e *engine) split(w *writer, from, to int, upTo Bound) error {
	n := to - from
	if n < listBelow {
		var ids []byte
		err := e.set.Each(from, to, func(item Item) bool {
			ids = append(ids, item.ID[:]...)
			return true
		})
		w.idList(upTo, n, ids)
		return err
	}
	return e.parts(w, from, to, buckets, upTo)
}

// parts writes the fingerprints of a range in so many parts.
func (e *engine) parts(w *writer, from, to, parts int, upTo Bound) error {
	n := to - from
	for i := range parts {
		size := n / parts
		if i < n%parts {
			size++
		}
		sum, err := e.set.Sum(from, from+size)
		if err != nil {
			return err
		}
		from += size
		bound := upTo
		if from < to {
			if bound, err = e.boundAt(from); err != nil {
				return err
			}
		}
		w.fingerprint(bound, sum.Fingerprint())
	}
	return nil
}

// boundAt is the shortest bound before the item at a position above 0.
func (e *engine) boundAt(at int) (Bound, error) {
	var pair []Item
	err := e.set.Each(at-1, at+1, func(item Item) bool {
		pair = append(pair, item)
		return true
	})
	if err != nil {
		return Bound{}, err
	}
	if len(pair) != 2 {
		return Bound{}, fmt.Errorf("set has %d items at %d, of %d in all", len(pair), at-1, e.set.Len())
	}
	return between(pair[0], pair[1]), nil
}
