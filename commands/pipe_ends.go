package commands

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"dibber/netkit/pipe"

	"github.com/libp2p/go-libp2p/core/peer"
)

// pipes joins sessions to what is near and counts what passes.
type pipes struct {
	out     *output
	peer    *peer.ID // the other side, where there is only one
	running sync.WaitGroup

	sessions       atomic.Int64
	sent, received atomic.Int64

	mu   sync.Mutex // guards last
	last pipe.PathChange
}

// ends are what a session is joined to on this side.
type ends struct {
	in    io.Reader
	out   io.Writer
	done  func() // tells the reader of out that nothing more comes
	close func() // ends both
}

// sessionLine is the beginning or the end of a session.
type sessionLine struct {
	Peer   peer.ID `json:"peer"`
	Detail *string `json:"detail"` // why it broke off; null: it began, or ended in order
}

// pipeEvents are the lines of --ndjson before the summary, where stdout carries no data.
func pipeEvents() []event {
	return []event{{"session.opened", sessionLine{}}, {"session.closed", sessionLine{}}, {"path.changed", pipe.PathChange{}}}
}

// near says how the near ends of a session are made: a TCP connection to at, or stdin
// and stdout when that is empty.
func (t *pipes) near(at string) (func(context.Context) (ends, error), error) {
	if at != "" {
		return func(ctx context.Context) (ends, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, "tcp", at)
			if err != nil {
				return ends{}, &failure{Exit: exitUnreachable, Phase: "tcp", Addr: at, Retryable: true, Err: err, Hint: "is the program behind --tcp running?"}
			}
			return tcpEnds(c), nil
		}, nil
	}
	stdout, err := t.out.stdout()
	if err != nil {
		return nil, err
	}
	return func(context.Context) (ends, error) {
		return ends{in: t.out.stdin(), out: stdout, done: func() {}, close: func() {}}, nil
	}, nil
}

func tcpEnds(c net.Conn) ends {
	return ends{
		in: c, out: c,
		done: func() {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.CloseWrite() // it may be gone
			}
		},
		close: func() { _ = c.Close() }, // it may be gone
	}
}

// join carries a session between the peer and its near ends until both directions are
// over.
func (t *pipes) join(ctx context.Context, p peer.ID, s *pipe.Session, make func(context.Context) (ends, error)) (err error) {
	defer func() {
		_ = s.Close() // returns nil always
		_ = s.Wait()  // the other side is told; what there was to say of the session is said
	}()
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	t.sessions.Add(1)
	t.out.event("session.opened", sessionLine{Peer: p})
	defer func() { t.out.event("session.closed", sessionLine{Peer: p, Detail: errorText(err)}) }()
	near, err := make(ctx)
	if err != nil {
		return err
	}
	defer near.close()
	go func() {
		// Not waited for: stdin may never end, and nothing can wake its reader.
		n, err := io.Copy(s, near.in)
		t.sent.Add(n)
		if err == nil {
			_ = s.CloseWrite() // returns nil always
		}
	}()
	n, err := io.Copy(near.out, s)
	t.received.Add(n)
	near.done()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("pipe with %s: %w", p, err)
	}
	if err := s.Wait(); err != nil {
		return fmt.Errorf("pipe with %s: %w", p, err)
	}
	return ctx.Err()
}

// path notes and tells the path of a session.
func (t *pipes) path(c pipe.PathChange) {
	t.mu.Lock()
	t.last = c
	t.mu.Unlock()
	t.out.event("path.changed", c)
	t.out.status("path %s %s", c.Path, c.Addr)
}

func (t *pipes) doc() pipeDoc {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := pipeDoc{Peer: t.peer, Sessions: int(t.sessions.Load()), Sent: t.sent.Load(), Received: t.received.Load(), Addr: known(t.last.Addr)}
	if t.last.Addr != "" {
		d.Path = known(t.last.Path)
	}
	return d
}
