package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"dibber/netkit/wire"
)

// paths are the flags whose values are paths, which a lent command may have.
func paths() []string { return []string{"state-dir", "store", "peers"} }

// anywhere is the command line as it can be run in another folder.
func (in *invocation) anywhere() ([]string, error) {
	line := slices.Clone(in.spec.path)
	for _, g := range in.flags {
		value := g.value
		if slices.Contains(paths(), g.name) {
			path, err := filepath.Abs(strings.TrimPrefix(value, "@"))
			if err != nil {
				return nil, err
			}
			value = path
		}
		line = append(line, "--"+g.name+"="+value)
	}
	return append(append(line, "--"), in.args...), nil
}

// environment is what of this process's environment concerns dibber.
func (e *env) environment() map[string]string {
	out := make(map[string]string)
	names := []string{"HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "NO_COLOR"}
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "DIBBER_") {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if v, ok := e.stdio.LookupEnv(name); ok {
			out[name] = v
		}
	}
	return out
}

// lentFrames sends frames, those of several goroutines one after the other.
type lentFrames struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *lentFrames) send(kind byte, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return wire.WriteFrame(f.w, append([]byte{kind}, data...), maxLentFrame)
}

// lentWriter sends what is written in frames of a kind.
type lentWriter struct {
	to   *lentFrames
	kind byte
}

func (l lentWriter) Write(p []byte) (n int, err error) {
	for part := range slices.Chunk(p, maxLentFrame-1) {
		if err := l.to.send(l.kind, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// readCommand reads the first frame of a lent command.
func readCommand(frames *wire.Reader) (c lentCommand, err error) {
	frame, err := frames.Next()
	if err != nil {
		return c, fmt.Errorf("read the command: %w", err)
	}
	if len(frame) == 0 || frame[0] != lentStart {
		return c, usagef("it does not begin with a command")
	}
	dec := json.NewDecoder(bytes.NewReader(frame[1:]))
	if err := dec.Decode(&c); err != nil {
		return c, usagef("read the command: %w", err)
	}
	return c, nil
}

// lentChunk is how much of stdin goes along at once, in bytes.
const lentChunk = 64 << 10

// readFor reads from stdin each time that the node wants it, until wants is closed. What stdin has is not read before somebody wants it.
func (e *env) readFor(node *lentFrames, wants <-chan struct{}) {
	buf := make([]byte, lentChunk)
	for range wants {
		var n int
		var err error
		for n == 0 && err == nil {
			n, err = e.stdio.In.Read(buf)
		}
		if node.send(lentIn, buf[:n]) != nil {
			return
		}
	}
}

// lentReader is the stdin of a command that runs on a node of another process.
type lentReader struct {
	ctx  context.Context // of the command
	node *lentFrames
	came chan []byte // room for one
	rest []byte
	over bool
}

// Read implements io.Reader. It fails with ctx's error when the command is over: nothing else would wake who copies from it.
func (r *lentReader) Read(p []byte) (int, error) {
	if r.over {
		return 0, io.EOF
	}
	if len(r.rest) == 0 {
		if err := r.node.send(lentWant, nil); err != nil {
			return 0, fmt.Errorf("ask for stdin: %w", err)
		}
		select {
		case r.rest = <-r.came:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
		if len(r.rest) == 0 {
			r.over = true
			return 0, io.EOF
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// take takes what came from stdin; false if nobody asked for it.
func (r *lentReader) take(data []byte) bool {
	select {
	case r.came <- slices.Clone(data):
		return true
	default:
		return false
	}
}
