package perf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// job is one exchange to be done.
type job struct {
	direction Direction
	// up and down are how many bytes go each way at most.
	up, down uint64
	// most ends the upload, or what is taken of the download, after so long; 0 does not.
	most time.Duration
	raw  bool
	// moved is told of bytes as they go.
	moved func(way Direction, n int)
}

// endless is how much is asked for where time ends a download; servers count in signed
// numbers, some of them.
const endless = math.MaxInt64

// plan is the job of one way where no relay limits it.
func (m *meter) plan(d Direction) job {
	j := job{direction: d}
	bytes := m.cfg.Bytes
	if bytes == 0 {
		bytes, j.most = endless, m.cfg.Duration
	}
	if d == Upload {
		j.up = bytes
	} else {
		j.down = bytes
	}
	return j
}

const (
	// spareBytes and spareTime are what a measurement leaves of a relay's limits, beside a
	// tenth of the bytes: frames, acknowledgements, the next stream.
	spareBytes = 4 << 10
	spareTime  = 2 * time.Second
)

// job is the job of one way over c, within what a relay allows.
func (m *meter) job(c network.Conn, d Direction, t *Transfer) (job, error) {
	j := m.plan(d)
	use, limited := m.n.CircuitUse(c)
	if !limited {
		return j, nil
	}
	if use.Bytes > 0 {
		used := use.Sent
		if d == Download {
			used = use.Received
		}
		left := use.Bytes - min(use.Bytes, uint64(max(used, 0))+spareBytes)
		left -= left / 10
		if left < 1<<10 {
			return j, ErrRelayLimit
		}
		if left < max(j.up, j.down) {
			j.up, j.down, t.Limited = min(j.up, left), min(j.down, left), new("bytes")
		}
	}
	if use.Duration > 0 {
		left := use.Duration - use.Age - spareTime
		if left <= 0 {
			return j, ErrRelayLimit
		}
		if j.most == 0 || left < j.most {
			j.most = left
			if t.Limited == nil {
				t.Limited = new("duration")
			}
		}
	}
	return j, nil
}

// exchange is the client's side. It returns how many bytes the peer has read and how many
// have come from it.
func exchange(d duplex, sent, buf []byte, j job) (up, down uint64, err error) {
	begin := time.Now()
	over := func() bool { return j.most > 0 && time.Since(begin) >= j.most }
	if _, err := d.Write(binary.BigEndian.AppendUint64(nil, j.down)); err != nil {
		return up, down, fmt.Errorf("ask: %w", err)
	}
	for up < j.up && !over() {
		n, err := d.Write(sent[:min(j.up-up, chunkSize)])
		up += uint64(n)
		if err != nil {
			return up, down, fmt.Errorf("send: %w", err)
		}
		j.moved(Upload, n)
	}
	if err := d.CloseWrite(); err != nil {
		return up, down, fmt.Errorf("end of sending: %w", err)
	}
	for {
		n, err := d.Read(buf)
		down += uint64(n)
		j.moved(Download, n)
		switch {
		case down > j.down, errors.Is(err, io.EOF) && down < j.down:
			return up, down, ErrWrongCount
		case errors.Is(err, io.EOF):
			return up, down, nil
		case err != nil:
			return up, down, fmt.Errorf("receive: %w", err)
		case j.down > 0 && over():
			return up, down, nil
		}
	}
}

// take does a job and fills in what came of it.
func (t *Transfer) take(d duplex, m *meter, j job) error {
	begin, second, told := time.Now(), uint64(0), time.Duration(0)
	tell := func(now time.Duration) {
		if m.cfg.On != nil && second > 0 {
			m.cfg.On(Progress{
				Direction: j.direction, Raw: j.raw, AtMS: milliseconds(now), Bytes: second,
				Rate: float64(second) / (now - told).Seconds(), Path: t.Path,
			})
		}
		second, told = 0, now
	}
	j.moved = func(way Direction, n int) {
		if way == j.direction {
			second += uint64(n)
		}
		if now := time.Since(begin); now-told >= time.Second {
			tell(now)
		}
	}
	up, down, err := exchange(d, m.sent, m.buf, j)
	took := time.Since(begin)
	if err != nil {
		return err
	}
	if took-told >= 100*time.Millisecond || told == 0 {
		tell(took)
	}
	t.Bytes, t.MS = up, milliseconds(took)
	if j.direction == Download {
		t.Bytes = down
	}
	t.Rate = float64(t.Bytes) / took.Seconds()
	return nil
}

// milliseconds is d in milliseconds with microsecond precision.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
