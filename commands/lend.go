package commands

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
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
	lentIn     = 'i' // to the node: what came from stdin, once for each lentWant; nothing at its end
	lentOut    = 'o' // from the node: what goes to stdout
	lentErr    = 'e' // from the node: what goes to stderr
	lentWant   = 'w' // from the node: that the command reads stdin
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

func (c lentCommand) lookup(name string) (string, bool) { v, ok := c.Env[name]; return v, ok }

// lends says that a command can run on the node of another process.
type lends struct {
	// own is where --own-host is kept.
	own *bool
	// flags are those with which it can, besides those of output. The others make the host what this command needs.
	flags []string
	// stdin says that the command may read its standard input there.
	stdin bool
	// fits says why the node is none for the command with the options that it got; nil says that every one is.
	fits func(l *lending) error
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

// lendable reports whether this run may take place on another's node: files are read where the command was given, and stdin is sent
// along to a command that may read it there.
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
	return !slices.ContainsFunc(in.args, func(arg string) bool { return arg == "-" && !l.stdin || strings.HasPrefix(arg, "@") })
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
	tell := &lentFrames{w: to}
	wants := make(chan struct{}, 1)
	defer close(wants)
	go e.readFor(tell, wants) // not waited for: stdin may never end, and nothing can wake its reader
	stopped := make(chan struct{})
	var telling sync.WaitGroup
	defer telling.Wait()
	defer close(stopped)
	telling.Go(func() {
		defer to.Close()
		tellNode(ctx, tell, first, stopped)
	})
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
		case frame[0] == lentWant:
			wants <- struct{}{} // there is room: a node asks again when it has got what it asked for
		case frame[0] == lentExit && len(data) == 1:
			return exitCode(data[0]), true, nil
		}
		if err != nil {
			return 0, true, err
		}
	}
}

// tellNode sends the command, and then what happens to it here, until the run is over.
func tellNode(ctx context.Context, to *lentFrames, command []byte, stopped <-chan struct{}) {
	if to.send(lentStart, command) != nil {
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
			if to.send(lentAlive, nil) != nil {
				return
			}
		case <-ended:
			ended = nil
			name := "SIGINT"
			if s, ok := errors.AsType[*signalError](context.Cause(ctx)); ok && s.signal == syscall.SIGTERM {
				name = "SIGTERM"
			}
			if to.send(lentSignal, []byte(name)) != nil {
				return
			}
		}
	}
}
