package commands

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// stubborn is a program that tells how its context ended and then does not end.
func stubborn() {
	ctx := Interruptible(context.Background())
	fmt.Println("ready")
	<-ctx.Done()
	fmt.Println(interruption(context.Cause(ctx)))
	select {}
}

// TestSecondSignal holds that the first signal ends the context and is told apart, and that the second ends the process at once.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "stubborn")
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	for _, first := range []struct {
		signal syscall.Signal
		code   exitCode
	}{{syscall.SIGINT, exitInterrupted}, {syscall.SIGTERM, exitTerminated}} {
		for _, second := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			cmd := exec.CommandContext(t.Context(), program)
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(stdout)
			says := func(want string) {
				t.Helper()
				if !lines.Scan() || lines.Text() != want {
					t.Errorf("it says %q, want %q", lines.Text(), want)
				}
			}
			says("ready")
			err = cmd.Process.Signal(first.signal)
			says(fmt.Sprint(int(first.code)))
			err = errors.Join(err, cmd.Process.Signal(second))
			if err != nil {
				t.Error(err)
			}
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != second {
				t.Errorf("%v then %v: %v, want an end by the second signal", first.signal, second, err)
			}
		}
	}
}

// TestParentEndsFirst holds that the end of the parent context is passed on with its cause.
func TestParentEndsFirst(t *testing.T) {
	t.Parallel()
	reason := errors.New("enough")
	parent, cancel := context.WithCancelCause(t.Context())
	ctx := Interruptible(parent)
	cancel(reason)
	<-ctx.Done()
	if got := context.Cause(ctx); !errors.Is(got, reason) {
		t.Errorf("cause %v, want %v", got, reason)
	}
}
