//go:build linux

package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// RequiredEnv is the environment variable that, set to 1, makes a test fail where
// it would be skipped for want of support.
const RequiredEnv = "DIBBER_NETNS_REQUIRED"

// Supported says what this machine lacks for the test bed: one error that names
// all of it, or nil.
func Supported() error {
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root")
	} else if err := onThread(func() error { return unix.Unshare(unix.CLONE_NEWNET) }); err != nil {
		missing = append(missing, fmt.Sprintf("the right to make network namespaces (%v)", err))
	}
	for _, err := range []error{Have("ip", "iproute2"), Have("nft", "nftables")} {
		if err != nil {
			missing = append(missing, err.Error())
		}
	}
	if f, err := os.OpenFile(tunPath, os.O_RDWR, 0); err != nil {
		missing = append(missing, fmt.Sprintf("%s (%v)", tunPath, errors.Unwrap(err)))
	} else {
		_ = f.Close() // nothing was done with it
	}
	if len(missing) == 0 {
		return nil
	}
	return errors.New(strings.Join(missing, ", "))
}

// Have says that a command is missing, and which package of Debian brings it.
func Have(command, debian string) error {
	if _, err := exec.LookPath(command); err != nil {
		return fmt.Errorf("%s (Debian: %s)", command, debian)
	}
	return nil
}

// Need skips the test, or fails it under RequiredEnv, when err is not nil.
func Need(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv(RequiredEnv) == "1":
		t.Fatalf("%s=1, but network namespaces lack %v", RequiredEnv, err)
	default:
		t.Skipf("network namespaces lack %v", err)
	}
}

// onThread runs f on a thread of its own, which ends with it: what f does to the
// thread, such as going to another namespace, meets nobody else.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			done <- f()
			return
		}
		// The first thread of a process never ends. Kept here, it cannot be the
		// thread that the next attempt gets.
		defer runtime.UnlockOSThread()
		done <- onThread(f)
	}()
	return <-done
}
