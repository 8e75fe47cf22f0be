// Package commands is dibber's command line: the only importer of urfave/cli and tablewriter, and the only one that prints.
//
// # The life of a command
//
// Main declares all commands afresh (commandList), so that two runs share nothing. parse takes the command line apart: which
// command, which flags, which positional arguments; flags may stand anywhere up to "--". urfave/cli then gets the line in the one
// order it understands and writes the flags through their Destination into the command's options struct. What the command line
// left open comes from the environment and then from the configuration file (settings.go). The command's validate turns the
// positional arguments into options and finds every usage error before any I/O happens. Then run does the work, with a context
// that ends at --timeout, SIGINT or SIGTERM, and returns a document and an error; both may be set, as when some of several
// targets failed. The framework prints the document in the format that was asked for (output.go), gives the error its class
// (classify) and returns the exit code.
//
// # Adding a command
//
// Write a file named like the command with an options struct, a document, a constructor, and a run; add the constructor to
// commandList. A document is a struct with JSON tags that starts with the command's own fields: the framework puts schema, time
// and elapsed_ms before them and ok and error behind. It shows itself to people by renderText and to scripts that use -q by quiet.
//
//	// pingOptions are the flags and arguments of ping.
//	type pingOptions struct {
//		Host   hostOptions
//		Count  int
//		Target string
//	}
//
//	func newPing(e *env) spec {
//		var o pingOptions
//		return spec{
//			name: "ping", usage: "measure round trips to a peer", args: "<target>",
//			examples: []string{"dibber ping @home", …},
//			flags: append([]cli.Flag{
//				&cli.IntFlag{Name: "count", Aliases: []string{"c"}, Usage: "send `N` pings", Value: 4, Destination: &o.Count},
//			}, hostFlags(&o.Host)...),
//			options: &o, timeout: 30 * time.Second, doc: pingDoc{}, events: []event{{"pong", pong{}}},
//			validate: func(args []string) error { return o.validate(args) },
//			run:      func(ctx context.Context, out *output) (any, error) { return runPing(ctx, out, o) },
//		}
//	}
//
// While it runs, a command reports by out.event (stdout, --ndjson), out.status (a line on the terminal), and out.notice and
// out.warn (stderr). A run that fails returns a *failure where it knows the class of the error, else the error as it is;
// errors of netkit get their class in netkitFailure. A long-lived command returns nil or the context's error when its context
// ends. A command whose result is bytes asks out.stdout for the stream before it does any work.
//
// Tests walk all commands: each has three examples that parse, its wrong usage exits 2 with nothing on stdout, each of its flags
// has a row in flagRows (flagrows_test.go) that names the option field and the test that shows the effect, and what it prints fits
// its schema, in every script too. A document has a golden file under testdata/golden; UPDATE_GOLDEN=1 writes it.
package commands
