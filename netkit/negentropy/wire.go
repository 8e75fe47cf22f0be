package negentropy

import (
	"errors"
	"fmt"
)

// ErrMalformed means that a message breaks the protocol's rules.
var ErrMalformed = errors.New("malformed message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// Version1 is the first byte of a message of protocol version 1.
const Version1 = 0x61

// The kinds of range of a message.
const (
	modeSkip        = 0 // nothing to say of this range
	modeFingerprint = 1 // what the sender's items add up to
	modeIDList      = 2 // the sender's items
)

// appendVarint writes n in base 128, most significant digit first, as negentropy has it.
func appendVarint(b []byte, n uint64) []byte {
	shift := 63
	for shift > 0 && n>>shift == 0 {
		shift -= 7
	}
	for ; shift > 0; shift -= 7 {
		b = append(b, byte(n>>shift)|0x80)
	}
	return append(b, byte(n)&0x7f)
}

// reader takes a message apart. Timestamps are differences to the one before.
type reader struct {
	rest []byte
	last uint64
}

func (r *reader) varint() (uint64, error) {
	var n uint64
	for i, c := range r.rest {
		if n > 1<<57-1 {
			return 0, malformed("number above 64 bits")
		}
		n = n<<7 | uint64(c&0x7f)
		if c&0x80 == 0 {
			r.rest = r.rest[i+1:]
			return n, nil
		}
	}
	return 0, malformed("ends within a number")
}

func (r *reader) bytes(n uint64) ([]byte, error) {
	if n > uint64(len(r.rest)) {
		return nil, malformed("ends %d bytes early", n-uint64(len(r.rest)))
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b, nil
}

func (r *reader) timestamp() (uint64, error) {
	n, err := r.varint()
	if err != nil {
		return 0, err
	}
	switch {
	case n == 0 || r.last == Forever:
		r.last = Forever
	case n-1 > Forever-r.last:
		return 0, malformed("timestamp above 64 bits")
	default:
		r.last += n - 1
	}
	return r.last, nil
}

func (r *reader) bound() (Bound, error) {
	at, err := r.timestamp()
	if err != nil {
		return Bound{}, err
	}
	n, err := r.varint()
	if err != nil {
		return Bound{}, err
	}
	if n > IDSize {
		return Bound{}, malformed("prefix of %d bytes", n)
	}
	prefix, err := r.bytes(n)
	return Bound{at, prefix}, err
}

// ids reads a list, whose count is held against what is there before anything is made of it.
func (r *reader) ids() ([]ID, error) {
	n, err := r.varint()
	if err != nil {
		return nil, err
	}
	if n > uint64(len(r.rest))/IDSize {
		return nil, malformed("list of %d items in %d bytes", n, len(r.rest))
	}
	out := make([]ID, n)
	for i := range out {
		out[i] = ID(r.rest[:IDSize])
		r.rest = r.rest[IDSize:]
	}
	return out, nil
}

// writer puts a message together.
type writer struct {
	b    []byte
	last uint64
}

func (w *writer) varint(n uint64) { w.b = appendVarint(w.b, n) }

func (w *writer) bound(b Bound) {
	if b.Timestamp == Forever {
		w.varint(0)
	} else {
		w.varint(b.Timestamp - w.last + 1)
	}
	w.last = b.Timestamp
	w.varint(uint64(len(b.Prefix)))
	w.b = append(w.b, b.Prefix...)
}

func (w *writer) skip(upTo Bound) {
	w.bound(upTo)
	w.varint(modeSkip)
}

func (w *writer) fingerprint(upTo Bound, f Fingerprint) {
	w.bound(upTo)
	w.varint(modeFingerprint)
	w.b = append(w.b, f[:]...)
}

// idList writes the list of count items, whose IDs stand one after another.
func (w *writer) idList(upTo Bound, count int, ids []byte) {
	w.bound(upTo)
	w.varint(modeIDList)
	w.varint(uint64(count))
	w.b = append(w.b, ids...)
}
