package commands

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"dibber/netkit/replicate"
)

// stdioStream makes a stream of stdin and stdout. Both are served by goroutines that are not waited for: nothing can wake who reads a
// terminal or writes to a pipe that is full.
type stdioStream struct {
	in      *io.PipeReader
	out     *io.PipeWriter
	written chan struct{} // closed when all that was written is out

	mu     sync.Mutex // guards timers
	timers [2]*time.Timer
}

func newStdioStream(in io.Reader, out io.Writer) *stdioStream {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	s := &stdioStream{in: inR, out: outW, written: make(chan struct{})}
	go func() {
		_, err := io.Copy(inW, in)
		_ = inW.CloseWithError(err) // returns nil always; nil is io.EOF
	}()
	go func() {
		defer close(s.written)
		_, err := io.Copy(out, outR)
		_ = outR.CloseWithError(err) // returns nil always
	}()
	return s
}

func (s *stdioStream) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *stdioStream) Write(p []byte) (int, error) { return s.out.Write(p) }

// CloseWrite returns when all that was written is out.
func (s *stdioStream) CloseWrite() error {
	err := s.out.Close()
	<-s.written
	return err
}

func (s *stdioStream) Reset() error {
	return errors.Join(s.in.CloseWithError(io.ErrUnexpectedEOF), s.out.CloseWithError(io.ErrUnexpectedEOF))
}

func (s *stdioStream) SetReadDeadline(t time.Time) error {
	s.deadline(0, t, func() { _ = s.in.CloseWithError(os.ErrDeadlineExceeded) })
	return nil
}

func (s *stdioStream) SetWriteDeadline(t time.Time) error {
	s.deadline(1, t, func() { _ = s.out.CloseWithError(os.ErrDeadlineExceeded) })
	return nil
}

func (s *stdioStream) deadline(i int, t time.Time, end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timers[i] != nil {
		s.timers[i].Stop()
	}
	s.timers[i] = time.AfterFunc(time.Until(t), end)
}

// stop ends the deadlines.
func (s *stdioStream) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.timers {
		if t != nil {
			t.Stop()
		}
	}
}

// overStdio is a session with the same command at the other end of stdin and stdout. The receipt goes to stderr.
func (o *syncOptions) overStdio(ctx context.Context, out *output) (doc any, err error) {
	stdout, err := out.stdout()
	if err != nil {
		return nil, err
	}
	r, closeStore, err := o.Admit.replica(ctx, out, &o.Store, false)
	if err != nil {
		return nil, err
	}
	defer closing(&err, closeStore)
	started := time.Now()
	st := newStdioStream(out.stdin(), stdout)
	defer st.stop()
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() }) // returns nil always
	defer stop()
	cfg := o.session(out, func() string { return "" })
	if cfg.Dialled, err = replicate.Toss(st); err != nil {
		return nil, cutShort(err)
	}
	var d syncDoc
	d.told = o.mode()
	d.Result, err = r.Run(ctx, st, cfg)
	d.TookMS = millis(time.Since(started))
	if err != nil {
		return nil, cutShort(err)
	}
	t := newText(out.e)
	d.renderText(t)
	out.notice("%s", oneLine(string(t.bytes())))
	return nil, o.verdict(&d.Result)
}
