package bamboo

import (
	"errors"
	"math/bits"
)

// ErrVaru64 is returned for a number that is cut off or not written in its shortest form.
var ErrVaru64 = errors.New("malformed varu64")

// short is the number of values that are their own single byte.
const short = 248

// AppendVaru64 appends n to dst: itself below 248, else 247 and the number of bytes that follow, big-endian.
func AppendVaru64(dst []byte, n uint64) []byte {
	if n < short {
		return append(dst, byte(n))
	}
	size := (bits.Len64(n) + 7) / 8
	dst = append(dst, byte(short-1+size))
	for i := size - 1; i >= 0; i-- {
		dst = append(dst, byte(n>>(8*i)))
	}
	return dst
}

// ReadVaru64 reads a number from the start of data and returns what follows it, or [ErrVaru64].
func ReadVaru64(data []byte) (n uint64, rest []byte, err error) {
	if len(data) == 0 {
		return 0, nil, ErrVaru64
	}
	if data[0] < short {
		return uint64(data[0]), data[1:], nil
	}
	size := int(data[0]) - short + 1
	if len(data) < 1+size {
		return 0, nil, ErrVaru64
	}
	for _, b := range data[1 : 1+size] {
		n = n<<8 | uint64(b)
	}
	if n < short || (bits.Len64(n)+7)/8 != size {
		return 0, nil, ErrVaru64
	}
	return n, data[1+size:], nil
}
