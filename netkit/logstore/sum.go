package logstore

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"lukechampine.com/blake3"

	"dibber/netkit/bamboo"
)

// Sum is the sum of ids, each taken as a little-endian number, modulo 2^256: the accumulator of negentropy V1. It is fast and can be
// collided by who inserts tens of thousands of chosen entries, so it finds differences and does not prove that there are none.
type Sum [4]uint64

// Add adds an id.
func (s *Sum) Add(id bamboo.Hash) {
	s.AddSum(Sum{
		binary.LittleEndian.Uint64(id[0:]), binary.LittleEndian.Uint64(id[8:]),
		binary.LittleEndian.Uint64(id[16:]), binary.LittleEndian.Uint64(id[24:]),
	})
}

// AddSum adds a sum.
func (s *Sum) AddSum(o Sum) {
	var carry uint64
	for i := range s {
		s[i], carry = bits.Add64(s[i], o[i], carry)
	}
}

// Sub takes a sum away.
func (s *Sum) Sub(o Sum) {
	var borrow uint64
	for i := range s {
		s[i], borrow = bits.Sub64(s[i], o[i], borrow)
	}
}

// Bytes returns the sum in 32 little-endian bytes.
func (s Sum) Bytes() (out [32]byte) {
	for i, limb := range s {
		binary.LittleEndian.PutUint64(out[8*i:], limb)
	}
	return out
}

func sumOf(data []byte) (s Sum) {
	for i := range s {
		s[i] = binary.LittleEndian.Uint64(data[8*i:])
	}
	return s
}

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
