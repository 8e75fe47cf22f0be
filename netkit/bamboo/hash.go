package bamboo

import (
	"encoding/hex"
	"errors"
	"fmt"

	"lukechampine.com/blake3"
)

// ErrHash is returned for what is not a YASMF hash of the BLAKE3 kind.
var ErrHash = errors.New("malformed hash")

// HashSize is the length in bytes of a hash as it is written: its kind, its length and the digest.
const HashSize = 2 + 32

// Hash is the digest of a YASMF hash. The zero Hash stands for none.
type Hash [32]byte

// HashOf returns the hash of data.
func HashOf(data []byte) Hash { return blake3.Sum256(data) }

// String returns the text form, 68 hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h.Append(nil)) }

// Append appends the hash as it is written.
func (h Hash) Append(dst []byte) []byte {
	dst = append(dst, 0, byte(len(h)))
	return append(dst, h[:]...)
}

// ParseHash reads the text form of a hash.
func ParseHash(text string) (Hash, error) {
	data, err := hex.DecodeString(text)
	if err != nil {
		return Hash{}, fmt.Errorf("%w: %w", ErrHash, err)
	}
	h, rest, err := readHash(data)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes, want %d", ErrHash, len(data), HashSize)
	}
	return h, err
}

func readHash(data []byte) (h Hash, rest []byte, err error) {
	if len(data) < HashSize {
		return h, nil, fmt.Errorf("%w: cut off after %d bytes", ErrHash, len(data))
	}
	if data[0] != 0 || int(data[1]) != len(h) {
		return h, nil, fmt.Errorf("%w: kind %d of %d bytes, want 0 of %d", ErrHash, data[0], data[1], len(h))
	}
	copy(h[:], data[2:])
	return h, data[HashSize:], nil
}
