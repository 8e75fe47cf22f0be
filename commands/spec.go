package commands

import (
	"context"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// spec declares one command. A constructor newX(e *env) spec owns the options struct that the flags write to; there are no
// package-level variables, so two runs never share state.
type spec struct {
	name     string
	usage    string   // one line, lower case, no full stop
	args     string   // the positional arguments, as in "<target>..."
	about    string   // what a person must know before using it, in paragraphs
	examples []string // exactly three command lines that parse, each beginning with "dibber"
	hidden   bool     // left out of help, completion and the manual

	flags   []cli.Flag    // the command's own flags; each writes into options through its Destination
	options any           // pointer to the options struct; nil for a command without flags of its own
	timeout time.Duration // the default of --timeout; zero means none
	// extra is what the run was told to take besides, added to the default of
	// --timeout; negative lifts that default, nil adds nothing.
	extra func() time.Duration

	doc     any     // zero result document, for the JSON schema
	manyDoc any     // the same for several targets; nil if that looks no different
	events  []event // what --ndjson may carry before the summary

	longLived func() bool // whether SIGINT or SIGTERM is this run's proper end; nil means never

	data bool // the output of a long-lived run is data: a slow reader slows it down, and one that leaves ends it

	validate func(args []string) error // finds usage errors before any I/O; nil means no arguments are taken
	run      func(ctx context.Context, out *output) (doc any, err error)

	complete func(prior []string) []string // the words that the next argument may be, for completion; nil means any

	lends *lends // how the command can run on the node of another process; nil means it cannot

	subcommands []spec

	path []string // set by the framework: the names from the root down to this command
}

// event names one kind of line of --ndjson and gives the zero value of its payload.
type event struct {
	name    string
	payload any
}

// always is the longLived of a command that runs until it is told to stop.
func always() bool { return true }

// fullName returns the command as it is typed, without the program's name.
func (s *spec) fullName() string { return strings.Join(s.path, " ") }

// schemaName returns the value of "schema" in the command's documents.
func (s *spec) schemaName() string { return strings.Join(s.path, ".") + "/1" }

// allFlags returns the command's own flags followed by those that every command has.
func (s *spec) allFlags(e *env) []cli.Flag {
	if s.run == nil {
		return nil
	}
	return append(append([]cli.Flag{}, s.flags...), outputFlags(&e.shared, s.timeout)...)
}

// withPaths fills in the paths of a command tree.
func withPaths(parent []string, specs []spec) []spec {
	for i := range specs {
		s := &specs[i]
		s.path = append(append([]string{}, parent...), s.name)
		s.subcommands = withPaths(s.path, s.subcommands)
	}
	return specs
}

// walk calls f for every command of a tree that can be run, parents before children.
func walk(specs []spec, f func(*spec)) {
	for i := range specs {
		if specs[i].run != nil {
			f(&specs[i])
		}
		walk(specs[i].subcommands, f)
	}
}

// child returns the command called name among specs, nil if there is none.
func child(specs []spec, name string) *spec {
	for i := range specs {
		if specs[i].name == name {
			return &specs[i]
		}
	}
	return nil
}

// names lists the commands that help shows.
func names(specs []spec) []string {
	var list []string
	for i := range specs {
		if !specs[i].hidden {
			list = append(list, specs[i].name)
		}
	}
	return list
}
