package commands

import (
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/term"
)

// Stdio is what a run of dibber reads, writes and looks up, so that tests can stand in for the process.
type Stdio struct {
	In        io.Reader                   // nil means empty
	Out, Err  io.Writer                   // nil means discarded
	LookupEnv func(string) (string, bool) // nil means os.LookupEnv
}

// env is what every command is built with. One env serves one call of Main.
type env struct {
	stdio     Stdio
	start     time.Time
	shared    sharedOptions
	root      []spec    // every command, for those that describe the others
	args      []string  // this run's command line
	given     []given   // the flags of this run's command line
	mentioned []mention // peers that this run names
	lent      *lending  // the node to run on in place of one of its own; nil means the latter
	line      []string  // the flags of this run's command line other than its format, for those that show settings
}

// newEnv fills the defaults of stdio and declares every command.
func newEnv(stdio Stdio) *env {
	if stdio.In == nil {
		stdio.In = eofReader{}
	}
	if stdio.Out == nil {
		stdio.Out = io.Discard
	}
	if stdio.Err == nil {
		stdio.Err = io.Discard
	}
	if stdio.LookupEnv == nil {
		stdio.LookupEnv = os.LookupEnv
	}
	e := &env{stdio: stdio, start: time.Now()}
	e.shared.LogLevel, e.shared.LogFormat = "error", "text"
	e.root = commandList(e)
	return e
}

// lookup returns an environment variable; a variable set to nothing counts as unset.
func (e *env) lookup(name string) (string, bool) {
	v, ok := e.stdio.LookupEnv(name)
	return v, ok && v != ""
}

// named reports whether one of these flags stands on the command line.
func (e *env) named(flags ...string) bool {
	return slices.ContainsFunc(e.given, func(g given) bool { return slices.Contains(flags, g.name) })
}

// isTerminal reports whether w is a terminal that understands cursor movement.
func (e *env) isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false
	}
	kind, _ := e.lookup("TERM")
	return kind != "dumb"
}

// colour reports whether text on stdout may be styled (https://no-color.org).
func (e *env) colour() bool {
	_, off := e.lookup("NO_COLOR")
	return !off && e.isTerminal(e.stdio.Out)
}

// eofReader is a standard input that has nothing to say.
type eofReader struct{}

func (eofReader) Read([]byte) (int, error) { return 0, io.EOF }
