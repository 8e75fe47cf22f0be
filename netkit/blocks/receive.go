package blocks

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"dibber/netkit/host"

	"github.com/ipfs/boxo/bitswap/message"
	pool "github.com/libp2p/go-buffer-pool"
	"github.com/libp2p/go-libp2p/core/network"
)

const (
	// maxMessage is the size in bytes of the largest message that is read, as the specification has it: 4 MiB.
	maxMessage = 4 << 20
	// idleTimeout is how long a stream may lie still between two messages, readTimeout how long one may take to come.
	idleTimeout = 10 * time.Minute
	readTimeout = 2 * time.Minute
)

var (
	errTooLong = errors.New("message longer than 4 MiB")
	errMemory  = errors.New("no memory for message")
)

// handle takes the messages of one stream.
func (x *exchange) handle(st network.Stream) {
	if !x.enter() {
		_ = st.ResetWithError(network.StreamShutdown)
		return
	}
	defer x.running.Done()
	defer context.AfterFunc(x.ctx, func() { _ = st.Reset() })()
	if err := x.receive(st); err != nil {
		code := network.StreamProtocolViolation
		if errors.Is(err, errMemory) {
			code = network.StreamResourceLimitExceeded
		}
		_ = st.ResetWithError(code)
		return
	}
	_ = st.Close()
}

// receive reads messages to the end of the stream. A peer that asks faster than it may is read more slowly.
func (x *exchange) receive(st network.Stream) error {
	if err := st.Scope().SetService(service); err != nil {
		return fmt.Errorf("%w: %w", errMemory, err)
	}
	from := st.Conn().RemotePeer()
	frames := bufio.NewReader(st)
	for {
		m, err := next(st, frames)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		atomic.AddUint64(&x.stats.MessagesRecvd, 1)
		x.events.OnMessage(from)
		x.tell(from, false, m.BitSwapMessage)
		for _, r := range x.receivers {
			r.ReceiveMessage(x.ctx, from, m.BitSwapMessage)
		}
		asked := len(m.Wantlist())
		m.release()
		if err := pause(x.ctx, x.wants.Reserve(from, time.Now(), asked)); err != nil {
			return err
		}
	}
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	host.Pause(ctx, d)
	return ctx.Err()
}

// received is a message and the memory that is reserved for it.
type received struct {
	message.BitSwapMessage
	release func()
}

// next reads one message. Its size is checked, and memory reserved, before there is room made for it.
func next(st network.Stream, frames *bufio.Reader) (m received, err error) {
	if err := st.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
		return m, err
	}
	if _, err := frames.Peek(1); err != nil {
		return m, err
	}
	if err := st.SetReadDeadline(time.Now().Add(readTimeout)); err != nil {
		return m, err
	}
	size, err := binary.ReadUvarint(frames)
	switch {
	case err != nil:
		return m, fmt.Errorf("length of message: %w", err)
	case size > maxMessage:
		return m, errTooLong
	}
	// The bytes as they come, and what is made of them.
	memory := 2 * int(size)
	if err := st.Scope().ReserveMemory(memory, network.ReservationPriorityMedium); err != nil {
		return m, fmt.Errorf("%w: %w", errMemory, err)
	}
	m.release = func() { st.Scope().ReleaseMemory(memory) }
	buf := pool.Get(int(size))
	defer pool.Put(buf)
	if _, err = io.ReadFull(frames, buf); err == nil {
		m.BitSwapMessage, _, err = message.FromMsgReader(one(buf))
	}
	if err != nil {
		m.release()
		return m, fmt.Errorf("read message: %w", unexpected(err))
	}
	return m, nil
}

// unexpected is the end of a stream within a message.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// one hands a message that has been read to its decoder.
type one []byte

func (o one) Read(p []byte) (int, error) { return copy(p, o), nil }
func (o one) ReadMsg() ([]byte, error)   { return o, nil }
func (o one) ReleaseMsg([]byte)          {}
func (o one) NextMsgLen() (int, error)   { return len(o), nil }
