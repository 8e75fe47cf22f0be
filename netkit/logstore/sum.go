package logstore

import (
	"encoding/binary"
	"fmt"

	"lukechampine.com/blake3"
)

const lanes = 1024

// ltHash is the homomorphic hash of a set: the sum, lane by lane modulo 2^16, of its elements stretched to 2 KiB each (LtHash16, by
// Bellare and Micciancio's construction, 1024 lanes). Finding two sets with one hash is a lattice problem of more than 200 bits.
type ltHash [lanes]uint16

// add puts an element in.
func (h *ltHash) add(element []byte) {
	for i, lane := range stretch(element) {
		h[i] += lane
	}
}

// remove takes an element out.
func (h *ltHash) remove(element []byte) {
	for i, lane := range stretch(element) {
		h[i] -= lane
	}
}

func stretch(element []byte) (out ltHash) {
	hasher := blake3.New(32, nil)
	_, _ = hasher.Write(element) // a hash takes whatever it is given
	var data [2 * lanes]byte
	_, _ = hasher.XOF().Read(data[:])
	return ltHashOf(data[:])
}

func ltHashOf(data []byte) (h ltHash) {
	for i := range h {
		h[i] = binary.LittleEndian.Uint16(data[2*i:])
	}
	return h
}

func (h *ltHash) append(dst []byte) []byte {
	for _, lane := range h {
		dst = binary.LittleEndian.AppendUint16(dst, lane)
	}
	return dst
}

// root is the hash of the set in 32 bytes.
func (h *ltHash) root() [32]byte { return blake3.Sum256(h.append(make([]byte, 0, 2*lanes))) }

// element is what a log adds to the root, nil for nothing. Of a forked log peers hold different branches; what they can all agree on
// is where it forks, and what they hold before.
func (h *Head) element() []byte {
	if h.Fork > 0 {
		return row('f', h.Author[:], number(h.Log), number(h.Fork), number(min(h.Height, h.Fork-1)))
	}
	if h.Height == 0 {
		return nil
	}
	return row('h', h.Author[:], number(h.Log), number(h.Height), h.ID[:])
}

// state is the row about the store as a whole.
type state struct {
	epoch    uint64
	arrivals uint64
	bytes    uint64
	// heads is not written: it is four times the size of all else that a lone entry needs, and soon computed again.
	heads ltHash
}

const (
	stateFormat = 1
	stateSize   = 1 + 3*8
)

func (s *state) encode() []byte {
	out := make([]byte, 1, stateSize)
	out[0] = stateFormat
	for _, n := range []uint64{s.epoch, s.arrivals, s.bytes} {
		out = binary.BigEndian.AppendUint64(out, n)
	}
	return out
}

func decodeState(value []byte) (state, error) {
	if len(value) != stateSize || value[0] != stateFormat {
		return state{}, &CorruptError{What: "state of the store", Cause: fmt.Errorf("%w: %d bytes", errRow, len(value))}
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(value[1+8*i:]) }
	return state{epoch: n(0), arrivals: n(1), bytes: n(2)}, nil
}

// replace puts the element of a log in the place of what it was.
func (s *state) replace(before, after *Head) {
	if element := before.element(); element != nil {
		s.heads.remove(element)
	}
	if element := after.element(); element != nil {
		s.heads.add(element)
	}
}
