package commands

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"dibber/netkit/control"
	"dibber/netkit/host"
	"dibber/netkit/wire"

	"github.com/urfave/cli/v2"
)

// A command may run in the process of a node that is running already, on the connections that this has. It is sent over the control
// socket in frames, each a kind and what belongs to it, and its output comes back the same way.
const (
	lentStart  = 'a' // to the node: a lentCommand
	lentSignal = 'c' // to the node: "SIGINT" or "SIGTERM"
	lentAlive  = 'k' // to the node: nothing; the control socket does not let a stream rest for long
	lentOut    = 'o' // from the node: what goes to stdout
	lentErr    = 'e' // from the node: what goes to stderr
	lentExit   = 'q' // from the node: the exit code, one byte; the last frame
)

const (
	// maxLentFrame is the longest of these frames in bytes.
	maxLentFrame = 256 << 10
	// lentPulse is how often a command tells that it still waits.
	lentPulse = time.Minute
)

// lentCommand is a command to run.
type lentCommand struct {
	Args []string          `json:"args"`
	Env  map[string]string `json:"env"` // what of the environment concerns dibber
}

// lends says that a command can run on the node of another process.
type lends struct {
	// own is where --own-host is kept.
	own *bool
	// flags are those with which it can, besides those of output. The others make the host what this command needs.
	flags []string
	// dirs are the folders of which the owners may lend their node.
	dirs func(e *env) []string
}

// used returns how the use of a node that open returned is ended: by its end, unless it is lent. Relayed connections become direct
// until then; a node that is lent sees to that itself.
func (o *hostOptions) used(out *output, n *host.Node) (end func() error) {
	if out.e.lent != nil {
		return func() error { return nil }
	}
	stop := o.punching(n)
	return func() error {
		stop()
		return n.Close()
	}
}

// lends says that a command with a host can run on the node of the state folder, with these flags.
func (o *hostOptions) lends(flags ...string) *lends {
	return &lends{own: &o.OwnHost, flags: append(flags, "state-dir"), dirs: func(e *env) []string { return []string{o.stateDir(e)} }}
}

// ownHostFlag keeps a command from running on another's node.
func ownHostFlag(dest *bool) cli.Flag {
	return &cli.BoolFlag{Category: groupHost, Name: "own-host", Usage: "do not use the connections of a running node", Destination: dest}
}

// lendable reports whether this run may take place on another's node: files are read where the command was given, and stdin is not
// sent along.
func (e *env) lendable(in *invocation) bool {
	l := in.spec.lends
	if l == nil || *l.own || e.lent != nil {
		return false
	}
	output := outputFlags(&sharedOptions{}, 0)
	for _, g := range e.given {
		if g.name == "config" || !slices.Contains(l.flags, g.name) && findFlag(output, "--"+g.name) == nil {
			return false
		}
	}
	return !slices.ContainsFunc(in.args, func(arg string) bool { return arg == "-" || strings.HasPrefix(arg, "@") })
}

// borrow runs the command on the node that owns one of its folders, if there is one that lends it.
func (e *env) borrow(ctx context.Context, in *invocation) (code exitCode, done bool) {
	if !e.lendable(in) {
		return 0, false
	}
	for _, dir := range in.spec.lends.dirs(e) {
		socket, err := control.Find(dir)
		if err != nil {
			continue
		}
		if _, err := os.Stat(socket); err != nil {
			continue
		}
		code, begun, err := e.runAt(ctx, in, socket)
		if err == nil {
			return code, true
		}
		if begun {
			fmt.Fprintf(e.stdio.Err, "dibber: %s\n", oneLine(err.Error()))
			return exitUnreachable, true
		}
	}
	return 0, false
}

// runAt runs the command at the node behind a socket. An error before it has begun means that this does not lend its node for it.
func (e *env) runAt(ctx context.Context, in *invocation, socket string) (code exitCode, begun bool, err error) {
	args, err := in.anywhere()
	if err != nil {
		return 0, false, err
	}
	first, err := json.Marshal(lentCommand{Args: args, Env: e.environment()})
	if err != nil {
		return 0, false, err
	}
	body, to := io.Pipe()
	stopped := make(chan struct{})
	var telling sync.WaitGroup
	defer telling.Wait()
	defer close(stopped)
	telling.Go(func() { tellNode(ctx, to, first, stopped) })
	got, err := control.Client{Socket: socket}.Stream(context.WithoutCancel(ctx), "POST", "/commands", body)
	if err != nil {
		_ = body.CloseWithError(err) // returns nil always
		return 0, false, err
	}
	defer got.Close()
	frames := wire.NewReader(bufio.NewReader(got), maxLentFrame)
	for {
		frame, err := frames.Next()
		if err != nil || len(frame) == 0 {
			return 0, true, fmt.Errorf("the node on which the command ran has ended: %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
		switch data := frame[1:]; {
		case frame[0] == lentOut:
			_, err = e.stdio.Out.Write(data)
		case frame[0] == lentErr:
			_, err = e.stdio.Err.Write(data)
		case frame[0] == lentExit && len(data) == 1:
			return exitCode(data[0]), true, nil
		}
		if err != nil {
			return 0, true, err
		}
	}
}

// tellNode sends the command, and then what happens to it here, until the run is over.
func tellNode(ctx context.Context, to *io.PipeWriter, command []byte, stopped <-chan struct{}) {
	defer to.Close()
	send := func(kind byte, data []byte) bool {
		return wire.WriteFrame(to, append([]byte{kind}, data...), maxLentFrame) == nil
	}
	if !send(lentStart, command) {
		return
	}
	pulse := time.NewTicker(lentPulse)
	defer pulse.Stop()
	ended := ctx.Done()
	for {
		select {
		case <-stopped:
			return
		case <-pulse.C:
			if !send(lentAlive, nil) {
				return
			}
		case <-ended:
			ended = nil
			name := "SIGINT"
			if s, ok := errors.AsType[*signalError](context.Cause(ctx)); ok && s.signal == syscall.SIGTERM {
				name = "SIGTERM"
			}
			if !send(lentSignal, []byte(name)) {
				return
			}
		}
	}
}

// folders are the flags whose values are paths, which a lent command may have.
func folders() []string { return []string{"state-dir", "store"} }

// anywhere is the command line as it can be run in another folder.
func (in *invocation) anywhere() ([]string, error) {
	line := slices.Clone(in.spec.path)
	for _, g := range in.flags {
		value := g.value
		if slices.Contains(folders(), g.name) {
			var err error
			if value, err = filepath.Abs(value); err != nil {
				return nil, err
			}
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

// lentWriter sends what is written in frames of a kind.
type lentWriter struct {
	mu   *sync.Mutex // of all that write to w
	w    io.Writer
	kind byte
}

func (l lentWriter) Write(p []byte) (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for part := range slices.Chunk(p, maxLentFrame-1) {
		if err := wire.WriteFrame(l.w, append([]byte{l.kind}, part...), maxLentFrame); err != nil {
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
