package commands

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"dibber/netkit/serve"

	"github.com/urfave/cli/v2"
)

// commandList declares every command, in the order in which help shows them.
func commandList(e *env) []spec {
	return withPaths(nil, []spec{
		newServe(e),
		newCtl(e),
		newDial(e),
		newDiscover(e),
		newHolepunch(e),
		newPipe(e),
		newPing(e),
		newPerf(e),
		newNatcheck(e),
		newDHT(e),
		newReplicate(e),
		newBlock(e),
		newPubsub(e),
		newExplain(e),
		newID(e),
		newKey(e),
		newRestore(e),
		newPSK(e),
		newConfig(e),
		newSchema(e),
		newCompletion(e),
		newMan(e),
		newVersion(e),
	})
}

// Main runs dibber with args, which do not include the program's name, and returns the exit code of the process. The end of ctx
// interrupts the run; see Interruptible.
func Main(ctx context.Context, args []string, stdio Stdio) int {
	return newEnv(stdio).main(ctx, args)
}

func (e *env) main(ctx context.Context, args []string) int {
	if len(args) > 0 && args[0] == completeWord {
		return e.printCandidates(args[1:])
	}
	in, err := parse(e, args)
	if err != nil {
		return e.usageError(err)
	}
	if in.help {
		return e.printHelp(in.spec)
	}
	e.args, e.line, e.given = args, in.sharedLine(), in.flags
	code := exitInternal
	app := e.app(in, func(c *cli.Context) error {
		code = e.runCommand(c, in)
		return nil
	})
	if err := app.RunContext(ctx, in.canonical()); err != nil {
		return e.usageError(err)
	}
	return int(code)
}

// reread takes the command line of this run apart once more, with the environment
// and the configuration file as they are now, and returns the command's options.
func (e *env) reread() (options any, err error) {
	in, err := newEnv(e.stdio).read(e.args)
	if err != nil {
		return nil, err
	}
	return in.spec.options, nil
}

// read takes a command line apart, and fills in the command's options, without running it.
func (e *env) read(args []string) (*invocation, error) {
	in, err := parse(e, args)
	if err != nil || in.help {
		return in, err
	}
	e.line, e.given = in.sharedLine(), in.flags
	app := e.app(in, func(c *cli.Context) error { return e.prepare(c, in) })
	return in, app.Run(in.canonical())
}

// app builds the urfave/cli application for one invocation. It holds only the commands on the path of that invocation: parse has
// already found them, and so no positional argument can be mistaken for a command.
func (e *env) app(in *invocation, action cli.ActionFunc) *cli.App {
	onUsageError := func(_ *cli.Context, err error, _ bool) error { return err }
	var command *cli.Command
	for _, v := range slices.Backward(in.spec.path) {
		next := &cli.Command{Name: v, HideHelp: true, OnUsageError: onUsageError}
		if command == nil {
			next.Flags, next.Action = in.spec.allFlags(e), action
		} else {
			next.Subcommands = []*cli.Command{command}
		}
		command = next
	}
	return &cli.App{
		Name: "dibber", HideHelp: true, HideVersion: true, Commands: []*cli.Command{command},
		Reader: e.stdio.In, Writer: e.stdio.Err, ErrWriter: e.stdio.Err,
		OnUsageError:   onUsageError,
		ExitErrHandler: func(*cli.Context, error) {}, // only main exits
	}
}

// usageError prints one line on stderr and returns exit code 2.
func (e *env) usageError(err error) int {
	message := oneLine(err.Error())
	if f := (*failure)(nil); errors.As(err, &f) && f.Hint != "" {
		message += "; " + oneLine(f.Hint)
	}
	fmt.Fprintf(e.stdio.Err, "dibber: %s\n", message)
	return int(exitUsage)
}

// runCommand is the life of a command after its flags were read: settings, validation, run, result.
func (e *env) runCommand(c *cli.Context, in *invocation) exitCode {
	out := &output{e: e, spec: in.spec}
	if err := e.prepare(c, in); err != nil {
		return exitCode(e.usageError(err))
	}
	ctx := c.Context
	if code, done := e.borrow(ctx, in); done {
		return code
	}
	out.log, out.level = e.logger()
	if most := e.patience(in.spec); most > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, most, errTimeout)
		defer cancel()
	}
	if in.spec.longLived != nil && in.spec.longLived() && !in.spec.data && e.lent == nil {
		// A reader that goes away is no reason to end, as it is for a one-shot.
		signal.Ignore(syscall.SIGPIPE)
		out.queue = newQueue(e.stdio.Out)
		out.logsEvents = true
	}
	defer e.tuneGC(in.spec)()
	doc, err := in.spec.run(ctx, out)
	f := in.spec.failure(context.Cause(ctx), err)
	out.finish(doc, f)
	if f == nil {
		return exitOK
	}
	return f.Exit
}

// tuneGC lets the heap of a one-shot grow to 16 MiB before the first collection: it
// ends before that pays, and would spend a tenth of its time on it. One that holds
// much, and what is long-lived, has its garbage bounded. The returned function puts things back. Who
// set GOGC or GOMEMLIMIT knows better.
func (e *env) tuneGC(s *spec) (restore func()) {
	if e.lent != nil {
		return func() {} // the process is another's
	}
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if _, own := e.lookup(name); own {
			return func() {}
		}
	}
	if s.longLived != nil && s.longLived() {
		return serve.PaceGarbage(100)
	}
	return serve.PaceGarbage(400)
}

// patience is how long a run may take; 0 means as long as it likes. What --timeout
// was set to holds as it is, its default makes room for what the run was told to
// take.
func (e *env) patience(s *spec) time.Duration {
	most := e.shared.Timeout
	if s.extra == nil || most != s.timeout || e.named("timeout") {
		return most
	}
	extra := s.extra()
	if extra < 0 {
		return 0
	}
	return most + extra
}

// prepare fills in what the command line left open and finds usage errors.
func (e *env) prepare(c *cli.Context, in *invocation) error {
	if err := e.configure(c, in); err != nil {
		return err
	}
	switch s := e.shared; {
	case s.JSON && s.NDJSON:
		return usagef("--json and --ndjson exclude each other")
	case s.Quiet && (s.JSON || s.NDJSON):
		return usagef("--quiet excludes --json and --ndjson")
	case s.Timeout < 0:
		return usagef("--timeout: %q is negative", s.Timeout)
	}
	if j, ok := in.spec.options.(joiner); ok {
		j.join()
	}
	e.mentioned = mentions(in.spec, e, in.args)
	if in.spec.validate != nil {
		err := in.spec.validate(in.args)
		if err != nil && len(in.args) > 0 && len(in.spec.subcommands) > 0 {
			full := in.spec.fullName()
			if near := didYouMean(in.args[0], names(in.spec.subcommands), "dibber "+full+" "); near != "" {
				return usagef("unknown command %q%s", full+" "+in.args[0], near)
			}
		}
		return err
	}
	if len(in.args) > 0 {
		return usagef("%s takes no arguments, but got %q", in.spec.fullName(), in.args[0])
	}
	return nil
}

// configure sets the flags that the command line left open from the environment and the configuration file.
func (e *env) configure(c *cli.Context, in *invocation) error {
	if path, ok := e.lookup("DIBBER_CONFIG"); ok && e.shared.Config == "" {
		e.shared.Config = path
	}
	conf, err := e.loadConfig()
	if err != nil {
		return err
	}
	all, err := e.settle(in.spec, in.flags, conf)
	if err != nil {
		return err
	}
	return apply(c, all)
}

// failure gives the error of a run its class. cut is why the run's context ended, nil if it did not. For a long-lived command a
// signal is the proper end, and --timeout never is.
func (s *spec) failure(cut, err error) *failure {
	if cut != nil && s.longLived != nil && s.longLived() {
		if errors.Is(cut, errTimeout) {
			if err == nil {
				err = cut
			}
			return classify(err, cut)
		}
		if errors.Is(err, context.Canceled) {
			return nil
		}
		cut = nil
	}
	return classify(err, cut)
}
