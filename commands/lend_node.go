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

	"dibber/netkit/blocks"
	"dibber/netkit/control"
	"dibber/netkit/gossip"
	"dibber/netkit/host"
	"dibber/netkit/replicate"
	"dibber/netkit/route"
	"dibber/netkit/wire"
)

// lending is the node of this process, on which commands of others may run.
type lending struct {
	n *host.Node
	// replica is the store of logs that is open here, in folder logs; nil if none is.
	replica *replicate.Replica
	logs    string
	// route, gossip and blocks are the parts that the node has in a hash table, in gossip and in the exchange of blocks; nil without the role.
	route  *route.Service
	gossip *gossip.Service
	blocks *blocks.Service
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
		run, end := context.WithCancelCause(ctx)
		defer end(nil)
		to := &lentFrames{w: w}
		in := &lentReader{ctx: run, node: to, came: make(chan []byte, 1)}
		e := newEnv(Stdio{
			In: in, Out: lentWriter{to, lentOut}, Err: lentWriter{to, lentErr},
			LookupEnv: c.lookup,
		})
		e.lent = l
		var listening sync.WaitGroup
		defer listening.Wait() // the other side ends its request once it knows the exit code
		listening.Go(func() { hear(frames, in, end) })
		code := e.main(run, c.Args)
		end(nil) // who reads stdin still is woken
		return to.send(lentExit, []byte{byte(code)})
	}}
}

// admits refuses what cannot run here: commands that need a host of their own, and those that have to do with this very node, as no
// node connects with itself.
func (l *lending) admits(c lentCommand) error {
	e := newEnv(Stdio{Out: io.Discard, Err: io.Discard, LookupEnv: c.lookup})
	in, err := e.read(c.Args)
	if err != nil {
		return usagef("%w", err)
	}
	own := l.n.ID().String()
	if in.spec.lends == nil || in.help {
		return &failure{Exit: exitProtocol, Code: "not_lent", Err: fmt.Errorf("%w: %s", errNotLent, in.spec.fullName())}
	}
	if fits := in.spec.lends.fits; fits != nil {
		if err := fits(l); err != nil {
			return &failure{Exit: exitProtocol, Code: "not_lent", Err: fmt.Errorf("%w: %w", errNotLent, err)}
		}
	}
	for _, arg := range c.Args {
		if strings.Contains(arg, own) {
			return &failure{Exit: exitProtocol, Code: "not_lent", Err: fmt.Errorf("%w: %s is this node itself", errNotLent, own)}
		}
	}
	return nil
}

// hear gives a command what comes from its stdin, and ends it when the other side has gone, tells of a signal, or sends what nobody
// asked for.
func hear(frames *wire.Reader, in *lentReader, end context.CancelCauseFunc) {
	for {
		frame, err := frames.Next()
		switch {
		case err != nil, len(frame) > 0 && frame[0] == lentIn && !in.take(frame[1:]):
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

// errNoRole says that the node takes no part in what the command is about.
var errNoRole = errors.New("the node takes no part in it")

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
