package p2panda

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The major types of CBOR (RFC 8949, 3.1) that matter for where an item ends.
const (
	majorBytes  = 2
	majorText   = 3
	majorArray  = 4
	majorMap    = 5
	majorTag    = 6
	majorSimple = 7
)

// Reader reads messages that follow one another without anything between them.
type Reader struct {
	from *bufio.Reader
	buf  []byte
}

// NewReader reads from a stream.
func NewReader(from io.Reader) *Reader { return &Reader{from: bufio.NewReader(from)} }

// Next returns the next message, and io.EOF at the end between two. What is no message,
// or longer than [MaxMessage], ends the stream: the error wraps [ErrMessage].
//
// It finds the end of a message as it comes, each byte looked at once however few
// arrive at a time, and holds counts and lengths against what may still come.
func (r *Reader) Next() (Message, error) {
	if err := r.Wait(); err != nil {
		return nil, err
	}
	r.buf = r.buf[:0]
	for open := uint64(1); open > 0; open-- {
		more, err := r.item()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if open += more; open > MaxMessage-uint64(len(r.buf))+1 {
			return nil, tooLong()
		}
	}
	return Decode(r.buf)
}

// Wait returns when the next message begins, or with the error that [Reader.Next] would return before it.
func (r *Reader) Wait() error {
	_, err := r.from.Peek(1)
	return err
}

// Buffered says whether something has been read beyond the last message.
func (r *Reader) Buffered() bool { return r.from.Buffered() > 0 }

func tooLong() error { return fmt.Errorf("%w: longer than %d bytes", ErrMessage, MaxMessage) }

// item reads an item without those in it, and returns how many these are.
func (r *Reader) item() (inside uint64, err error) {
	head, err := r.take(1)
	if err != nil {
		return 0, err
	}
	major, n := head[0]>>5, uint64(head[0]&0x1f)
	switch {
	case n > 27:
		return 0, fmt.Errorf("%w: length of an item is left open", ErrMessage)
	case n >= 24:
		arg, err := r.take(1 << (n - 24))
		if err != nil {
			return 0, err
		}
		var wide [8]byte
		copy(wide[8-len(arg):], arg)
		n = binary.BigEndian.Uint64(wide[:])
	}
	switch {
	case major < majorBytes || major == majorSimple:
		return 0, nil
	case n > MaxMessage:
		return 0, tooLong()
	case major == majorArray:
		return n, nil
	case major == majorMap:
		return 2 * n, nil
	case major == majorTag:
		return 0, fmt.Errorf("%w: tag", ErrMessage)
	}
	_, err = r.take(int(n))
	return 0, err
}

// take reads n bytes into the buffer and returns them.
func (r *Reader) take(n int) ([]byte, error) {
	at := len(r.buf)
	if n > MaxMessage-at {
		return nil, tooLong()
	}
	// A length alone takes no memory: it grows with what arrives.
	for left := n; left > 0; {
		step := min(left, 16<<10)
		from := len(r.buf)
		r.buf = append(r.buf, make([]byte, step)...)
		if _, err := io.ReadFull(r.from, r.buf[from:]); err != nil {
			return nil, err
		}
		left -= step
	}
	return r.buf[at:], nil
}
