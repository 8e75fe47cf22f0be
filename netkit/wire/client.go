package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// Stream is what a request needs of a stream. Those of the host's network are
// such, and those of connections outside it.
type Stream interface {
	io.ReadWriter
	Close() error
	CloseWrite() error
	Reset() error
	SetDeadline(t time.Time) error
}

// Exchange sends request as one frame on st and returns the one frame the peer
// answers with. A reply above maxReply bytes is [ErrTooLarge]. It ends with ctx
// and leaves st closed, or reset on error.
//
// It half-closes the stream only after the reply: there are servers that reset
// a stream when its input ends, and take a reply under way back with it (waku's
// rendezvous).
func Exchange(ctx context.Context, st Stream, request []byte, maxReply int) ([]byte, error) {
	var reply []byte
	err := ask(ctx, st, request, func() (err error) {
		reply, err = NewReader(st, maxReply).Next()
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	})
	return reply, err
}

// Send sends request as one frame on st, half-closes it, and waits for the
// peer to close the stream too, so that the request is known to have arrived.
// A reset without an error code counts as closed: implementations that never
// answer a message drop its stream. It ends with ctx and leaves st closed, or
// reset on error.
func Send(ctx context.Context, st Stream, request []byte) error {
	return ask(ctx, st, request, func() error {
		// The peer may be quicker than the half-close; what it said is read.
		_ = st.CloseWrite()
		_, err := io.Copy(io.Discard, io.LimitReader(st, 1))
		var reset *network.StreamError
		if errors.As(err, &reset) && reset.Remote && reset.ErrorCode == network.StreamNoError {
			return nil
		}
		return err
	})
}

func ask(ctx context.Context, st Stream, request []byte, await func() error) (err error) {
	if deadline, ok := ctx.Deadline(); ok {
		// A little later than the context, which is to be the one that ends it.
		_ = st.SetDeadline(deadline.Add(time.Second))
	}
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer func() {
		stop()
		if ctx.Err() != nil && err != nil {
			err = ctx.Err()
		}
		if err != nil {
			_ = st.Reset()
			return
		}
		_ = st.Close()
	}()
	if err := WriteFrame(st, request, len(request)); err != nil {
		return fmt.Errorf("send request: %w", err)
	}
	if err := await(); err != nil {
		return fmt.Errorf("read reply: %w", err)
	}
	return nil
}
