package commands

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/control"

	"github.com/urfave/cli/v2"
)

// ctlOptions are the flags and arguments of the ctl commands.
type ctlOptions struct {
	Host hostOptions // of which only where the node is

	Watch    bool
	Interval time.Duration

	Namespace string
	Limit     int

	For    time.Duration
	Reason string

	Within time.Duration
	args   []string
}

func newCtl(e *env) spec {
	return spec{
		name: "ctl", usage: "look at a running serve, and steer it",
		about: `It speaks with the node that keeps its state in --state-dir, over that node's control socket, which only the user who
runs it may open. The socket takes HTTP with JSON: curl --unix-socket SOCKET http://dibber/circuits shows the same.`,
		examples: []string{"dibber ctl status", "dibber ctl circuits --watch", "dibber ctl limits set relay-circuits=8 relay-bytes=1048576"},
		subcommands: []spec{
			newCtlStatus(e), newCtlPeers(e), newCtlReservations(e), newCtlCircuits(e), newCtlRegistrations(e), newCtlTopics(e), newCtlSessions(e),
			newCtlBans(e), newCtlLimits(e), newCtlLogLevel(e), newCtlKick(e), newCtlBan(e), newCtlUnban(e), newCtlEnd(e), newCtlBackup(e), newCtlDrain(e),
		},
	}
}

// controlFlags say which node is meant.
func controlFlags(o *ctlOptions) []cli.Flag {
	return []cli.Flag{stateDirFlag(&o.Host), adminFlag(&o.Host)}
}

// ctlTimeout is how long a node has to answer.
const ctlTimeout = 10 * time.Second

// socket is the node's control socket.
func (o *ctlOptions) socket(out *output) (string, error) {
	if o.Host.Admin != "" {
		return o.Host.Admin, nil
	}
	dir, err := o.Host.checkedState(out.e)
	if err != nil {
		return "", err
	}
	socket, err := control.Find(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", control.ErrNotRunning
	}
	return socket, err
}

// ask sends a request to the node's control socket.
func (o *ctlOptions) ask(ctx context.Context, out *output, method, path string, body, answer any) error {
	socket, err := o.socket(out)
	if err != nil {
		return err
	}
	return control.Client{Socket: socket}.Do(ctx, method, path, body, answer)
}

// controlFailure gives the errors of asking a node their class, and those of its
// socket.
func controlFailure(err error) (failure, bool) {
	var refused *control.Error
	var used *control.InUseError
	switch {
	case errors.As(err, &refused):
		return failure{Exit: exitOf(refused), Code: refused.Code, Phase: "control", Hint: refused.Hint}, true
	case errors.Is(err, control.ErrNotRunning):
		return failure{
			Exit: exitUnreachable, Code: "not_running", Phase: "control", Retryable: true,
			Hint: "start one with dibber serve, or name its --state-dir or --admin socket",
		}, true
	case errors.As(err, &used):
		return failure{Code: "locked", Phase: "start", Hint: "end the other process, or choose another socket with --admin"}, true
	}
	return failure{}, false
}

// exitOf is the exit code of a node's refusal.
func exitOf(e *control.Error) exitCode {
	switch {
	case e.Code == "unknown_verb": // of a node of another version
		return exitProtocol
	case e.Status == http.StatusBadRequest, e.Status == http.StatusRequestEntityTooLarge:
		return exitUsage
	case e.Status == http.StatusNotFound:
		return exitNotFound
	case e.Status == http.StatusConflict:
		return exitProtocol
	case e.Status == http.StatusForbidden, e.Status == http.StatusServiceUnavailable:
		return exitRefused
	case e.Status == http.StatusPreconditionFailed:
		return exitFalse
	case e.Status == http.StatusUnprocessableEntity:
		return exitIdentity
	default:
		return exitInternal
	}
}

// lister is the document of a list, by pointer.
type lister interface {
	texter
	liner
	// end keeps the list from being shown again at the end of a watch.
	end()
}

// shownAlready is the part of a list that knows whether to show itself at the end.
type shownAlready struct{ yes bool }

func (s *shownAlready) end() { s.yes = true }

// ctlList completes the spec of a command that shows a list of the node. fresh makes
// an empty document, path says what to ask for.
func ctlList(o *ctlOptions, s spec, fresh func() lister, path func() string) spec {
	s.flags = slices.Concat(s.flags, []cli.Flag{
		&cli.BoolFlag{Name: "watch", Usage: "show the list again and again until interrupted", Destination: &o.Watch},
		&cli.DurationFlag{Name: "interval", Aliases: []string{"i"}, Value: time.Second, Usage: "with --watch, wait `DURATION` from list to list", Destination: &o.Interval},
	}, controlFlags(o))
	s.options, s.timeout = o, ctlTimeout
	s.events = []event{{s.name, s.doc}}
	s.longLived = func() bool { return o.Watch }
	s.extra = func() time.Duration {
		if o.Watch {
			return -1
		}
		return 0
	}
	s.validate = func(args []string) error {
		switch {
		case len(args) > 0:
			return usagef("ctl %s takes no arguments, but got %q", s.name, args[0])
		case o.Interval < 100*time.Millisecond:
			return usagef("--interval: %s is less than 100ms", o.Interval)
		case o.Limit < 0 || o.Limit > maxRegistrations:
			return usagef("--limit: %d is not a number from 1 to %d", o.Limit, maxRegistrations)
		}
		return nil
	}
	s.run = func(ctx context.Context, out *output) (any, error) {
		doc := fresh()
		if !o.Watch {
			err := o.ask(ctx, out, http.MethodGet, path(), nil, doc)
			return doc, err
		}
		tick := time.NewTicker(o.Interval)
		defer tick.Stop()
		for {
			next := fresh()
			if err := o.ask(ctx, out, http.MethodGet, path(), nil, next); err != nil {
				doc.end()
				return doc, err
			}
			doc = next
			out.event(s.name, doc)
			doc.end()
			select {
			case <-ctx.Done():
				return doc, ctx.Err()
			case <-tick.C:
			}
		}
	}
	return s
}

// listLines is a list as it is shown while it is watched, with a gap before the next.
func listLines(l lister) string {
	t := &text{}
	l.renderText(t)
	return string(t.bytes())
}

// ctlAct completes the spec of a command that has the node do something.
func ctlAct(o *ctlOptions, s spec, validate func(args []string) error, do func(ctx context.Context, out *output) (any, error)) spec {
	s.flags = slices.Concat(s.flags, controlFlags(o))
	s.options = o
	if s.timeout == 0 {
		s.timeout = ctlTimeout
	}
	s.validate = func(args []string) error {
		o.args = args
		return validate(args)
	}
	s.run = do
	return s
}

func newCtlKick(*env) spec {
	o := new(ctlOptions)
	return ctlAct(o, spec{
		name: "kick", usage: "disconnect a peer", args: "<peer>", doc: kickDoc{},
		about: `All its connections are closed, and its reservation and circuits on this node's relay end. What it has registered
stays, and it may come back at once: dibber ctl ban keeps it out.`,
		examples: []string{
			"dibber ctl kick 12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm",
			"dibber ctl kick 12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm --state-dir /var/lib/dibber",
			"dibber ctl kick 12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm --json",
		},
	}, func(args []string) error {
		if len(args) != 1 {
			return usagef("ctl kick takes one peer id, but got %d", len(args))
		}
		if _, err := addr.ParseID(args[0]); err != nil {
			return usagef("%w", err)
		}
		return nil
	}, func(ctx context.Context, out *output) (any, error) {
		var doc kickDoc
		err := o.ask(ctx, out, http.MethodDelete, "/peers/"+url.PathEscape(o.args[0]), nil, &doc)
		return doc, err
	})
}

func newCtlEnd(*env) spec {
	o := new(ctlOptions)
	return ctlAct(o, spec{
		name: "end", usage: "end a circuit that the node relays", args: "<circuit>", doc: endDoc{},
		about:    `Circuits are named by the numbers that dibber ctl circuits shows. Both ends are told that the relay cut it.`,
		examples: []string{"dibber ctl end 7", "dibber ctl end 7 --state-dir /var/lib/dibber", "dibber ctl end 7 --json"},
	}, func(args []string) error {
		if len(args) != 1 {
			return usagef("ctl end takes the number of one circuit, but got %d", len(args))
		}
		_, err := circuitID(args[0])
		return err
	}, func(ctx context.Context, out *output) (any, error) {
		var doc endDoc
		err := o.ask(ctx, out, http.MethodDelete, "/circuits/"+o.args[0], nil, &doc)
		return doc, err
	})
}

func newCtlDrain(*env) spec {
	o := new(ctlOptions)
	return ctlAct(o, spec{
		name: "drain", usage: "end the node once its circuits have ended", doc: drainDoc{},
		about: `It ends as after SIGTERM: the relay takes no new reservation or circuit, those that stand go on, and when the last has
ended or the time is over, so does the node. The command does not wait for that. SIGTERM shortens the time to --drain.`,
		examples: []string{"dibber ctl drain", "dibber ctl drain --within 10m", "dibber ctl drain --within 1h --json"},
		flags: []cli.Flag{
			&cli.DurationFlag{Name: "within", Usage: "cut what lasts longer than `DURATION`; 0 means the node's --drain", Destination: &o.Within},
		},
	}, func(args []string) error {
		switch {
		case len(args) > 0:
			return usagef("ctl drain takes no arguments, but got %q", args[0])
		case o.Within < 0:
			return usagef("--within: %s is negative", o.Within)
		}
		return nil
	}, func(ctx context.Context, out *output) (any, error) {
		var doc drainDoc
		path := "/drain"
		if o.Within > 0 {
			path += "?within=" + o.Within.String()
		}
		err := o.ask(ctx, out, http.MethodPost, path, nil, &doc)
		return doc, err
	})
}
