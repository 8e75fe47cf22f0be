package negentropy

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// FingerprintSize is the length of a [Fingerprint] in bytes.
const FingerprintSize = 16

// Fingerprint stands for the items of a range.
type Fingerprint [FingerprintSize]byte

// Sum is the sum of IDs, read as little-endian numbers, mod 2^256, with how many
// they are. Sums over neighbouring ranges add up to that of both. The zero value is
// that of no items.
type Sum struct {
	Count uint64
	words [4]uint64 // least significant first
}

// SumSize is the length of [Sum.Bytes].
const SumSize = IDSize

// ParseSum is the sum of count items that has the bytes of Bytes.
func ParseSum(count uint64, b [SumSize]byte) Sum {
	return Sum{Count: count, words: words(b)}
}

// Bytes is the sum without the count, little-endian.
func (s Sum) Bytes() (b [SumSize]byte) {
	for i, w := range s.words {
		binary.LittleEndian.PutUint64(b[8*i:], w)
	}
	return b
}

// AddID adds one item.
func (s Sum) AddID(id ID) Sum { return s.Add(Sum{Count: 1, words: words(id)}) }

// Add adds the items of t.
func (s Sum) Add(t Sum) Sum {
	var carry uint64
	for i := range s.words {
		s.words[i], carry = bits.Add64(s.words[i], t.words[i], carry)
	}
	s.Count += t.Count
	return s
}

// Sub takes away the items of t, which must be among those of s.
func (s Sum) Sub(t Sum) Sum {
	var borrow uint64
	for i := range s.words {
		s.words[i], borrow = bits.Sub64(s.words[i], t.words[i], borrow)
	}
	s.Count -= t.Count
	return s
}

// Fingerprint is the sum and the count, hashed and cut short (protocol V1, Fingerprints).
func (s Sum) Fingerprint() Fingerprint {
	b := s.Bytes()
	digest := sha256.Sum256(appendVarint(b[:], s.Count))
	return Fingerprint(digest[:FingerprintSize])
}

func words(b [IDSize]byte) (w [4]uint64) {
	for i := range w {
		w[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return w
}
