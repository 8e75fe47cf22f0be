package pipe

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// kind is the first byte of a frame.
type kind byte

const (
	data kind = iota
	consumed
	end
	abort
)

const (
	sessionBytes = 16
	// chunk is how much data a frame carries at most.
	chunk = 32 << 10
	// maxFrame is the largest frame taken.
	maxFrame = chunk + 1
	// maxHello is the largest first frame taken.
	maxHello = sessionBytes + binary.MaxVarintLen64
)

// errProtocol means that the peer said something that the protocol does not know.
var errProtocol = errors.New("peer broke the pipe protocol")

// sessionID names a session between two peers.
type sessionID [sessionBytes]byte

func encodeHello(id sessionID, received uint64) []byte {
	return binary.AppendUvarint(id[:], received)
}

func decodeHello(frame []byte) (id sessionID, received uint64, err error) {
	if len(frame) < sessionBytes {
		return id, 0, fmt.Errorf("%w: hello of %d bytes", errProtocol, len(frame))
	}
	copy(id[:], frame)
	received, err = decodeCount(frame[sessionBytes:])
	return id, received, err
}

func encodeCount(n uint64) []byte { return binary.AppendUvarint(nil, n) }

func decodeCount(b []byte) (uint64, error) {
	n, used := binary.Uvarint(b)
	if used <= 0 || used != len(b) {
		return 0, fmt.Errorf("%w: malformed count", errProtocol)
	}
	return n, nil
}
