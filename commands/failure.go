package commands

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"dibber/netkit/identity"
)

// failure is an error with its place in the contract: an exit code, a stable word, and what a person or a script can do about it.
// Commands return one where they know the class of what went wrong; classify makes one of every other error.
type failure struct {
	Exit      exitCode // zero means exitInternal
	Code      string   // stable word for scripts; empty means the word of Exit
	Phase     string   // what was being done: resolve, dial, reserve, …; empty means unknown
	Addr      string   // the address concerned; empty if none
	Hint      string   // what to do about it; empty if there is nothing to advise
	Retryable bool     // whether the same command may succeed later
	Err       error    // the message and the chain
}

func (f *failure) Error() string { return f.Err.Error() }

func (f *failure) Unwrap() error { return f.Err }

// usagef returns a usage error: exit 2, nothing on stdout, one line on stderr.
func usagef(format string, args ...any) error {
	return &failure{Exit: exitUsage, Err: fmt.Errorf(format, args...)}
}

// definite reports whether a failure of this class stays true when the run was cut short: a peer's answer does, "nobody could be
// reached" does not.
func (f *failure) definite() bool {
	switch f.Exit {
	case exitUsage, exitIdentity, exitProtocol, exitRefused, exitRelayedOnly, exitFalse:
		return true
	default:
		return false
	}
}

// classify turns the error of a run into a failure with its exit code and word filled in. It is the only place where errors of
// netkit are given a class, by errors.Is and errors.As. cut is why the run was cut short, nil if it was not: the failure is then a
// time-out or an interruption, unless it is definite. classify returns nil for a nil error.
func classify(err, cut error) *failure {
	if err == nil {
		return nil
	}
	f := netkitFailure(err)
	if known := (*failure)(nil); errors.As(err, &known) {
		f = *known
	}
	f.Err = err
	if cut != nil && !f.definite() {
		f.Exit, f.Code, f.Retryable = interruption(cut), "", true
		f.Err = cut
		if !endOfContext(err) && !errors.Is(err, cut) {
			f.Err = fmt.Errorf("%w: %w", cut, err)
		}
	}
	if f.Exit == exitOK {
		f.Exit = exitInternal
	}
	if f.Code == "" {
		f.Code = f.Exit.word()
	}
	return &f
}

// endOfContext reports whether an error says no more than that a context ended.
func endOfContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// netkitFailure gives the errors of the libraries their class.
func netkitFailure(err error) failure {
	for _, class := range []func(error) (failure, bool){
		chainFailure, routeFailure, punchFailure, pipeFailure, discoverFailure, dialFailure, pingFailure, perfFailure, natcheckFailure, explainFailure, gossipFailure, blockFailure, replicateFailure, pandaFailure, syncFailure, joinFailure, hostFailure, registryFailure, controlFailure, roleFailure, backupFailure, stateFailure,
	} {
		if f, ok := class(err); ok {
			return f
		}
	}
	var open *identity.PermissionError
	var path *fs.PathError
	switch {
	case errors.As(err, &open):
		return failure{Exit: exitUsage, Hint: "chmod 600 " + open.Path}
	case errors.Is(err, identity.ErrFormat), errors.Is(err, identity.ErrKey), errors.Is(err, identity.ErrEncrypted),
		errors.Is(err, identity.ErrType), errors.Is(err, identity.ErrPSK):
		return failure{Exit: exitUsage}
	case errors.As(err, &path) &&
		(errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrPermission)):
		return failure{Exit: exitUsage}
	default:
		return failure{}
	}
}

// errorDoc is the error object of a JSON document.
type errorDoc struct {
	Code      string  `json:"code"`
	Phase     *string `json:"phase"`
	Addr      *string `json:"addr"`
	Message   string  `json:"message"`
	Hint      *string `json:"hint"`
	Retryable bool    `json:"retryable"`
}

// doc returns the failure as it appears in JSON, nil for nil.
func (f *failure) doc() *errorDoc {
	if f == nil {
		return nil
	}
	return &errorDoc{
		Code: f.Code, Phase: known(f.Phase), Addr: known(f.Addr),
		Message: f.Error(), Hint: known(f.Hint), Retryable: f.Retryable,
	}
}

// known returns nil for the empty string: unknown is null in JSON.
func known(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// oneLine joins the lines of a message: an error takes one line on stderr.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
