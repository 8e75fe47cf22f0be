package commands

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"

	"dibber/netkit/control"
	"dibber/netkit/host"
	"dibber/netkit/replicate"
	"dibber/netkit/wire"
)

// lending is the node of this process, on which commands of others may run.
type lending struct {
	n *host.Node
	// replica is the store of logs that is open here, in folder logs; nil if none is.
	replica *replicate.Replica
	logs    string
}

// errNotLent refuses a command that has to run on a host of its own.
var errNotLent = errors.New("this node is not lent for that")

// verb runs a command.
func (l *lending) verb() control.Verb {
	return control.Verb{Pattern: "POST /commands", Stream: func(ctx context.Context, _ control.Call, body io.Reader, w io.Writer) error {
		frames := wire.NewReader(bufio.NewReader(body), maxLentFrame)
		c, err := readCommand(frames)
		if err != nil {
			return refusalOf(err)
		}
		if err := l.admits(c); err != nil {
			return refusalOf(err)
		}
		var mu sync.Mutex
		e := newEnv(Stdio{
			Out: lentWriter{&mu, w, lentOut}, Err: lentWriter{&mu, w, lentErr},
			LookupEnv: func(name string) (string, bool) { v, ok := c.Env[name]; return v, ok },
		})
		e.lent = l
		run, end := context.WithCancelCause(ctx)
		defer end(nil)
		var listening sync.WaitGroup
		defer listening.Wait() // the other side ends its request once it knows the exit code
		listening.Go(func() { hear(frames, end) })
		code := e.main(run, c.Args)
		_, err = lentWriter{&mu, w, lentExit}.Write([]byte{byte(code)})
		return err
	}}
}

// admits refuses what cannot run here: commands that need a host of their own, and those that have to do with this very node, as no
// node connects with itself.
func (l *lending) admits(c lentCommand) error {
	in, err := parse(newEnv(Stdio{}), c.Args)
	if err != nil {
		return usagef("%w", err)
	}
	own := l.n.ID().String()
	if in.spec.lends == nil || in.help {
		return &failure{Exit: exitProtocol, Code: "not_lent", Err: fmt.Errorf("%w: %s", errNotLent, in.spec.fullName())}
	}
	for _, arg := range c.Args {
		if strings.Contains(arg, own) {
			return &failure{Exit: exitProtocol, Code: "not_lent", Err: fmt.Errorf("%w: %s is this node itself", errNotLent, own)}
		}
	}
	return nil
}

// hear ends a command when the other side has gone, or tells of a signal.
func hear(frames *wire.Reader, end context.CancelCauseFunc) {
	for {
		frame, err := frames.Next()
		switch {
		case err != nil:
			end(&signalError{os.Interrupt})
			return
		case len(frame) > 0 && frame[0] == lentSignal:
			var s os.Signal = os.Interrupt
			if string(frame[1:]) == "SIGTERM" {
				s = syscall.SIGTERM
			}
			end(&signalError{s})
		}
	}
}

// logsOf returns the store of logs that is open here, if it is the one in a folder.
func (l *lending) logsOf(dir string) (*replicate.Replica, error) {
	if l.replica != nil {
		own, err := os.Stat(l.logs)
		if err != nil {
			return nil, err
		}
		if other, err := os.Stat(dir); err == nil && os.SameFile(own, other) {
			return l.replica, nil
		}
	}
	return nil, &failure{Exit: exitProtocol, Code: "missing_role", Err: fmt.Errorf("the node has not the store of logs in %s open", dir), Hint: "dibber serve --replicate, or --own-host"}
}
