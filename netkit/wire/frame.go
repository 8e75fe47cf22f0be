package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// ErrTooLarge is returned for a frame longer than the reader's or writer's cap.
var ErrTooLarge = errors.New("frame too large")

// ErrBadLength is returned for a frame whose length prefix is no uvarint.
var ErrBadLength = errors.New("frame length malformed")

// AppendFrame appends payload to dst as one frame.
func AppendFrame(dst, payload []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(payload)))
	return append(dst, payload...)
}

// WriteFrame writes payload as one frame with a single Write, so that a stream
// sends it in as few packets as it fits. A payload above maxSize bytes is
// refused with [ErrTooLarge] before anything is written.
func WriteFrame(w io.Writer, payload []byte, maxSize int) error {
	if len(payload) > maxSize {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(payload), maxSize)
	}
	frame := make([]byte, 0, binary.MaxVarintLen32+len(payload))
	_, err := w.Write(AppendFrame(frame, payload))
	return err
}

// smallFrame is the size up to which memory is taken for a frame at once; for a longer one it is taken for up to frameGrowth times as
// much as has arrived.
const (
	smallFrame  = 4096
	frameGrowth = 16
)

// Reader reads frames of at most a fixed size.
type Reader struct {
	src *bufio.Reader
	end *endNoter
	max uint64

	mu    sync.Mutex // guards spare
	spare [][]byte
}

// maxSpare is how many frames that were given back a Reader keeps for those to come.
const maxSpare = 16

// NewReader returns a Reader of the frames in src. maxSize is the largest
// payload in bytes it accepts.
func NewReader(src io.Reader, maxSize int) *Reader {
	end := &endNoter{Reader: src}
	return &Reader{src: bufio.NewReaderSize(end, 1024), end: end, max: uint64(max(maxSize, 0))}
}

// Recycle gives back a frame that nobody needs any more, so that one to come takes its memory. It may be called while Next runs.
func (r *Reader) Recycle(frame []byte) {
	if cap(frame) <= smallFrame {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.spare) < maxSpare {
		r.spare = append(r.spare, frame)
	}
}

// recycled returns a frame of a size out of one that was given back, nil if there is none.
func (r *Reader) recycled(size uint64) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := len(r.spare) - 1
	if size <= smallFrame || last < 0 {
		return nil
	}
	frame := r.spare[last]
	r.spare = r.spare[:last]
	if uint64(cap(frame)) < size {
		return nil
	}
	return frame[:size]
}

// endNoter notes when a source has said that it ends.
type endNoter struct {
	io.Reader
	ended bool
}

func (e *endNoter) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.ended = e.ended || errors.Is(err, io.EOF)
	return n, err
}

// Ended reports whether the last frame is known to have been read: some sources
// say with the last bytes that these are the last. Others are only found to
// have ended by [Reader.Next]. It does not block.
func (r *Reader) Ended() bool { return r.end.ended && r.src.Buffered() == 0 }

// reset makes r read the frames of another source.
func (r *Reader) reset(src io.Reader) {
	*r.end = endNoter{Reader: src}
	r.src.Reset(r.end)
}

// Next returns the payload of the next frame. It returns [io.EOF] only between
// frames; a frame that ends early is [io.ErrUnexpectedEOF], one that is too
// long is [ErrTooLarge] and is not read.
func (r *Reader) Next() ([]byte, error) {
	if _, err := r.src.Peek(1); err != nil {
		return nil, err
	}
	size, err := r.length()
	if err != nil {
		return nil, err
	}
	if size > r.max {
		return nil, fmt.Errorf("%w: %d bytes announced, at most %d", ErrTooLarge, size, r.max)
	}
	// Memory grows with what arrives, not with what was announced.
	if body := r.recycled(size); body != nil {
		if _, err := io.ReadFull(r.src, body); err != nil {
			return nil, unexpected(err)
		}
		return body, nil
	}
	body := []byte{}
	for uint64(len(body)) < size {
		arrived := len(body)
		more := make([]byte, min(size, uint64(max(smallFrame, frameGrowth*arrived))))
		copy(more, body)
		body = more
		if _, err := io.ReadFull(r.src, body[arrived:]); err != nil {
			return nil, unexpected(err)
		}
	}
	return body, nil
}

// unexpected makes the end of a stream within a frame an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// length reads the uvarint before a frame. It is written out because
// [binary.ReadUvarint] does not export its overflow error.
func (r *Reader) length() (uint64, error) {
	var size uint64
	for shift := 0; shift < 7*binary.MaxVarintLen64; shift += 7 {
		b, err := r.src.ReadByte()
		if errors.Is(err, io.EOF) {
			return 0, io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
		if shift == 63 && b > 1 {
			break
		}
		size |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return size, nil
		}
	}
	return 0, ErrBadLength
}
