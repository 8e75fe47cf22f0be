package commands

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// signalError is the cancellation cause of a context that ended because the process received a signal.
type signalError struct{ signal os.Signal }

func (e *signalError) Error() string {
	if e.signal == syscall.SIGTERM {
		return "ended by SIGTERM"
	}
	return "interrupted by SIGINT"
}

// Interruptible returns a context that ends at the first SIGINT or SIGTERM, with a cause from which Main tells which of them it
// was. The default behaviour is restored at that moment, so that a second signal ends the process at once.
func Interruptible(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	received := make(chan os.Signal, 1)
	signal.Notify(received, os.Interrupt, syscall.SIGTERM)
	go func() {
		var cause error
		select {
		case s := <-received:
			cause = &signalError{s}
		case <-parent.Done():
			cause = context.Cause(parent)
		}
		signal.Stop(received) // first, so that whoever sees the context end can rely on it
		cancel(cause)
	}()
	return ctx
}

// errTimeout is the cancellation cause of a run that reached --timeout.
var errTimeout = errors.New("--timeout reached")

// interruption returns the exit code of a run that was cut short for this cause.
func interruption(cause error) exitCode {
	var s *signalError
	switch {
	case errors.Is(cause, errTimeout):
		return exitTimeout
	case errors.As(cause, &s) && s.signal == syscall.SIGTERM:
		return exitTerminated
	default:
		return exitInterrupted
	}
}
