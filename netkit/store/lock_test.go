package store

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestMain lets the test binary be the other process: with DIBBER_TEST_LOCK it
// takes the lock of that folder and holds it until it is killed.
func TestMain(m *testing.M) {
	dir := os.Getenv("DIBBER_TEST_LOCK")
	if dir == "" {
		os.Exit(m.Run())
	}
	if _, err := Lock(dir); err != nil {
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString("locked\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// TestLockOfKilledProcess: a lock ends with its process, and the process id
// left in the file does not matter.
func TestLockOfKilledProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	other := exec.CommandContext(t.Context(), os.Args[0])
	other.Env = append(os.Environ(), "DIBBER_TEST_LOCK="+dir)
	stdin, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "locked\n" {
		t.Fatalf("the other process said %q, %v", line, err)
	}
	var locked *LockedError
	if _, err := Lock(dir); !errors.As(err, &locked) || locked.PID != other.Process.Pid || locked.Dir != dir {
		t.Errorf("got %v, want the folder held by %d", err, other.Process.Pid)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()
	lock, err := Lock(dir)
	if err != nil {
		t.Fatalf("after the other process was killed: %v", err)
	}
	if _, err := Lock(dir); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("got %v, want the folder held by this process", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if lock, err = Lock(dir); err != nil {
		t.Fatalf("after Close: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLockedErrorWithoutPID holds the lock of a file that says nonsense.
func TestLockedErrorWithoutPID(t *testing.T) {
	dir := t.TempDir()
	lock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := os.WriteFile(filepath.Join(dir, "lock"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	var locked *LockedError
	if _, err := Lock(dir); !errors.As(err, &locked) || locked.PID != 0 {
		t.Errorf("got %v", err)
	}
	if want := dir + " is in use by another process"; locked.Error() != want {
		t.Errorf("message %q, want %q", locked, want)
	}
}

func TestLockWithoutFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(filepath.Join(file, "state")); err == nil {
		t.Error("locked a folder that cannot be made")
	}
}
