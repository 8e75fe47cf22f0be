// Package ping measures round trips to a connected peer with the libp2p ping
// protocol /ipfs/ping/1.0.0 (libp2p/specs ping/ping.md) and says by which path
// each of them went.
package ping

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	libp2pping "github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

var (
	// ErrUnsupported means that the peer does not speak the ping protocol.
	ErrUnsupported = errors.New("peer does not speak " + libp2pping.ID)
	// ErrNotConnected means that no connection to the peer is open.
	ErrNotConnected = errors.New("no open connection")
	// ErrWrongEcho means that the peer sent back other bytes than it was sent.
	ErrWrongEcho = errors.New("peer echoed other bytes than were sent")
)

// Config says how often to ping. The zero value pings once.
type Config struct {
	// Count is how many pings to send; 0 means 1, negative means until the
	// context ends.
	Count int
	// Interval is the time from one ping to the next; 0 means one second.
	Interval time.Duration
	// Timeout is how long to wait for one echo; 0 means 10 s.
	Timeout time.Duration
	// UntilLost ends with ErrNotConnected once no connection is open any more. Without it
	// such pings count as lost, and later ones may find another connection.
	UntilLost bool
	// On is told of each ping as its echo arrives or is given up; nil tells nobody.
	On func(Pong)
}

// Pong is the outcome of one ping.
type Pong struct {
	Seq   int      `json:"seq"`    // from 1
	Path  string   `json:"path"`   // direct or relayed; empty when no connection was open
	Addr  string   `json:"addr"`   // the peer's address on that path
	RTTms *float64 `json:"rtt_ms"` // null: no echo
	Error string   `json:"error,omitempty"`
}

// Result sums up the pings sent.
type Result struct {
	Sent     int       `json:"sent"`
	Received int       `json:"received"`
	RTTs     []float64 `json:"rtts_ms"` // in order of sending, those that came back
	Min      *float64  `json:"min_ms"`  // null: no echo
	Avg      *float64  `json:"avg_ms"`
	Max      *float64  `json:"max_ms"`
	P95      *float64  `json:"p95_ms"`
}

// Do pings p over its best open connection, a direct one before a relayed one,
// and picks anew for each ping. It returns what was measured together with the
// error that ended it: ctx's, the first ping's when it could not be sent at all, or
// that of Config.UntilLost. A single lost echo is no error.
func Do(ctx context.Context, n *host.Node, p peer.ID, cfg Config) (r Result, err error) {
	count, interval, timeout := cfg.Count, cfg.Interval, cfg.Timeout
	if count == 0 {
		count = 1
	}
	if interval == 0 {
		interval = time.Second
	}
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	r.RTTs = []float64{}
	defer func() { r.sum() }()
	next := time.NewTimer(0)
	defer next.Stop()
	for count < 0 || r.Sent < count {
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-next.C:
		}
		next.Reset(interval)
		pong, err := once(ctx, n, p, timeout)
		if ctx.Err() != nil {
			return r, ctx.Err() // cut off, neither answered nor lost
		}
		if cfg.UntilLost && r.Sent > 0 && errors.Is(err, ErrNotConnected) {
			return r, err // it was not sent
		}
		r.Sent++
		pong.Seq = r.Sent
		if pong.RTTms != nil {
			r.RTTs = append(r.RTTs, *pong.RTTms)
		}
		if cfg.On != nil {
			cfg.On(pong)
		}
		if r.Sent == 1 && (errors.Is(err, ErrUnsupported) || errors.Is(err, ErrNotConnected)) {
			return r, err
		}
	}
	return r, nil
}

// once sends one ping.
func once(ctx context.Context, n *host.Node, p peer.ID, timeout time.Duration) (Pong, error) {
	conns := n.Conns(p)
	if len(conns) == 0 {
		return Pong{Error: ErrNotConnected.Error()}, ErrNotConnected
	}
	remote := conns[0].RemoteMultiaddr()
	pong := Pong{Path: addr.Path(remote), Addr: remote.String()}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	rtt, err := echo(ctx, n, conns[0])
	if err != nil {
		pong.Error = err.Error()
		return pong, err
	}
	ms := Milliseconds(rtt)
	pong.RTTms = &ms
	return pong, nil
}

// echo sends 32 random bytes on a stream of its own and waits for them. A stream
// a ping costs no round trip, since the protocol is proposed together with the
// bytes, and none of libp2p's limits on the age of a ping stream apply.
func echo(ctx context.Context, n *host.Node, c network.Conn) (time.Duration, error) {
	s, err := n.OpenStream(ctx, c, libp2pping.ID)
	if err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() }) // unblocks Read and Write
	defer stop()
	sent, got := make([]byte, libp2pping.PingSize), make([]byte, libp2pping.PingSize)
	if _, err := rand.Read(sent); err != nil {
		return 0, fmt.Errorf("random bytes: %w", err)
	}
	start := time.Now()
	if _, err = s.Write(sent); err == nil {
		_, err = io.ReadFull(s, got)
	}
	took := time.Since(start)
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err != nil:
		_ = s.Reset()
		if ok, asked := n.Supports(ctx, c, libp2pping.ID); asked == nil && !ok {
			return 0, ErrUnsupported
		}
		return 0, fmt.Errorf("ping: %w", err)
	case !bytes.Equal(sent, got):
		_ = s.Reset()
		return 0, ErrWrongEcho
	}
	return took, s.Close()
}

// sum fills in the statistics.
func (r *Result) sum() {
	r.Received = len(r.RTTs)
	if r.Received == 0 {
		return
	}
	sorted := slices.Sorted(slices.Values(r.RTTs))
	total := 0.0
	for _, v := range sorted {
		total += v
	}
	avg := total / float64(len(sorted))
	p95 := sorted[int(math.Ceil(0.95*float64(len(sorted))))-1] // nearest rank
	r.Min, r.Avg, r.Max, r.P95 = &sorted[0], &avg, &sorted[len(sorted)-1], &p95
}

// Milliseconds is d in milliseconds with microsecond precision.
func Milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
