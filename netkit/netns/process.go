//go:build linux

package netns

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds how long a test waits for a program.
const patience = 60 * time.Second

// Process is a program that runs inside a namespace.
type Process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has ended and its output is read

	mu     sync.Mutex // guards following
	out    bytes.Buffer
	errs   bytes.Buffer
	more   chan struct{} // closed and replaced when there is more output
	ended  error
	parsed int // bytes of out that Event has looked at
}

// Start runs a program inside the namespace. It is killed after the test, and its
// output is printed if the test has failed.
func (h *Host) Start(command string, args ...string) *Process {
	h.t.Helper()
	p := &Process{
		t: h.t, name: h.name + ": " + strings.Join(append([]string{command}, args...), " "),
		cmd: exec.CommandContext(h.t.Context(), command, args...), done: make(chan struct{}), more: make(chan struct{}),
	}
	p.cmd.Stdout, p.cmd.Stderr = stream{p, &p.out}, stream{p, &p.errs}
	// The signal is sent when the thread that started the program ends; that
	// thread waits for it below, so this is when the test's process dies.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		err := h.Do(func() error {
			if err := p.cmd.Start(); err != nil {
				return err
			}
			started <- nil
			p.ended = p.cmd.Wait()
			return nil
		})
		if err != nil {
			started <- err
		}
	}()
	h.must("start of "+command, <-started)
	h.t.Cleanup(p.end)
	return p
}

// stream collects what a program prints.
type stream struct {
	p  *Process
	to *bytes.Buffer
}

// Write implements io.Writer.
func (s stream) Write(b []byte) (int, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	n, err := s.to.Write(b)
	close(s.p.more)
	s.p.more = make(chan struct{})
	return n, err
}

func (p *Process) end() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
	if p.t.Failed() {
		p.t.Logf("%s\nstdout:\n%s\nstderr:\n%s", p.name, p.out.String(), p.errs.String())
	}
}

// Event waits for the next line of the program's stdout that is a JSON object
// with that "event", after the lines that earlier calls have read, and returns
// the object. The test fails when the program ends before, or after a minute.
func (p *Process) Event(name string) map[string]any {
	p.t.Helper()
	var event map[string]any
	p.until(name, func() bool {
		for {
			rest := p.out.Bytes()[p.parsed:]
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				return false
			}
			p.parsed += i + 1
			event = nil
			if json.Unmarshal(rest[:i], &event) == nil && event["event"] == name {
				return true
			}
		}
	})
	return event
}

// Says waits until the program has printed a text on stderr, under the conditions
// of Event.
func (p *Process) Says(text string) {
	p.t.Helper()
	p.until(text, func() bool { return bytes.Contains(p.errs.Bytes(), []byte(text)) })
}

// until looks at the output, with p.mu held, whenever there is more of it.
func (p *Process) until(what string, done func() bool) {
	p.t.Helper()
	limit := time.After(patience)
	for ended := false; ; {
		p.mu.Lock()
		found, more := done(), p.more
		p.mu.Unlock()
		switch {
		case found:
			return
		case ended:
			p.t.Fatalf("netns: %s: ended (%v) without %s", p.name, p.ended, what)
		}
		select {
		case <-more:
		case <-p.done:
			ended = true
		case <-limit:
			p.t.Fatalf("netns: %s: no %s within %s", p.name, what, patience)
		}
	}
}

// Signal sends a signal to the program.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("netns: signal to %s: %v", p.name, err)
	}
}

// Wait waits for the program's end and returns its exit code, or -1 when a signal
// killed it. The test fails after a minute.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("netns: %s did not end within %s", p.name, patience)
	}
	var exit *exec.ExitError
	if p.ended != nil && !errors.As(p.ended, &exit) {
		p.t.Fatalf("netns: %s: %v", p.name, p.ended)
	}
	return p.cmd.ProcessState.ExitCode()
}
