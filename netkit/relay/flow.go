package relay

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"golang.org/x/time/rate"
)

const (
	// bufferSize is how much is read at once, and the memory that each direction
	// of a circuit takes.
	bufferSize = 32 << 10
	// minBurst is how much a circuit with a rate may carry at once at least, if it is
	// not more than a second's, so that a slow one does not go byte by byte.
	minBurst = 1 << 10
	// stallCheck is how often circuits are looked at for one that moves nothing,
	// which is ended when it was so stallChecks times in a row.
	stallCheck  = 10 * time.Second
	stallChecks = 3
)

// burst is how much of a rate a circuit may use at once: a quarter of a second's. No
// bytes wait longer than a second, in which nothing is read and who leaves is not noticed.
func burst(perSecond int64) int {
	return int(min(max(perSecond/4, min(minBurst, perSecond)), bufferSize))
}

// flow is one direction of a circuit.
type flow struct {
	from, to         network.Stream
	fromGone, toGone Reason        // what an error of either means
	limit            int64         // bytes; negative is none
	rate             *rate.Limiter // nil is none
	moved            atomic.Int64  // bytes
	over             bool          // there was more than the limit; only run writes it

	writing atomic.Bool // bytes wait for the other side to take them
	seen    int64       // moved at the last check; only stalled uses it
	checks  int         // that found nothing moved; only stalled uses it
}

// run moves bytes until the end of the stream, the limit or an error, and tells
// which it was. The end is passed on.
func (f *flow) run(ctx context.Context, buf []byte) Reason {
	if f.rate != nil {
		buf = buf[:f.rate.Burst()]
	}
	for {
		n, err := f.from.Read(buf)
		if n > 0 {
			if why := f.pass(ctx, buf[:n]); why != "" {
				return why
			}
		}
		if errors.Is(err, io.EOF) {
			// Where this fails nobody reads any more, and the other direction may go on.
			_ = f.to.CloseWrite()
			return ReasonFinished
		}
		if err != nil {
			return f.fromGone
		}
	}
}

// pass writes b, or as much of it as the limit lets pass.
func (f *flow) pass(ctx context.Context, b []byte) Reason {
	if left := f.limit - f.moved.Load(); f.limit >= 0 && int64(len(b)) > left {
		b, f.over = b[:left], true
	}
	if f.rate != nil && !f.wait(ctx, len(b)) {
		return f.toGone // the circuit was ended for a reason of its own
	}
	f.writing.Store(true)
	n, err := f.to.Write(b)
	f.writing.Store(false)
	f.moved.Add(int64(n))
	switch {
	case err != nil:
		return f.toGone
	case f.over:
		return ReasonBytes
	default:
		return ""
	}
}

// wait waits until n bytes may pass, or returns false when ctx ends before.
func (f *flow) wait(ctx context.Context, n int) bool {
	timer := time.NewTimer(f.rate.ReserveN(time.Now(), n).Delay())
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// stalled is called at every check and reports whether nothing has moved for too
// long although something waits to.
func (f *flow) stalled() bool {
	moved := f.moved.Load()
	if moved != f.seen || !f.writing.Load() {
		f.seen, f.checks = moved, 0
		return false
	}
	f.checks++
	return f.checks >= stallChecks
}
