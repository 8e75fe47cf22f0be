// Package perf measures what a connection carries, with the libp2p perf protocol
// /perf/1.0.0 (libp2p/specs perf/perf.md) in both roles, and beside it a plain TCP
// connection between the same hosts.
//
// On a stream the client sends the number of bytes it wants, as eight bytes in
// network order, then any number of bytes of its own, and closes its side. The server
// reads to the end, then sends what it was asked for.
package perf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	// Protocol is the libp2p perf protocol.
	Protocol protocol.ID = "/perf/1.0.0"
	// RawProtocol asks for a TCP port at which the same exchange goes over a plain
	// connection. The server answers with the port, two bytes in network order, and a
	// token of tokenSize bytes that the connection begins with, and closes the port when
	// the stream ends.
	RawProtocol protocol.ID = "/dibber/perf-raw/1.0.0"

	chunkSize  = 64 << 10
	headerSize = 8
	tokenSize  = 32
	// rawConns is how many connections a raw port takes: one each way.
	rawConns = 2
)

// duplex is a stream or a TCP connection.
type duplex interface {
	io.ReadWriter
	CloseWrite() error
	SetDeadline(time.Time) error
}

// noise is what is sent: bytes that no link on the way can compress.
func noise() []byte {
	b := make([]byte, chunkSize)
	var seed [32]byte
	_, _ = rand.NewChaCha8(seed).Read(b) // never fails
	return b
}

// answer is the server's side of one exchange. The buffer is chunkSize bytes.
func answer(d duplex, sent, buf []byte) error {
	var header [headerSize]byte
	if _, err := io.ReadFull(d, header[:]); err != nil {
		return fmt.Errorf("read number of bytes asked for: %w", err)
	}
	for {
		_, err := d.Read(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read upload: %w", err)
		}
	}
	for left := binary.BigEndian.Uint64(header[:]); left > 0; {
		n, err := d.Write(sent[:min(left, chunkSize)])
		if err != nil {
			return fmt.Errorf("send download: %w", err)
		}
		left -= uint64(n)
	}
	return d.CloseWrite()
}
