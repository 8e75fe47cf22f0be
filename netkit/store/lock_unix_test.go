//go:build unix

package store

import (
	"syscall"
	"testing"
)

// TestLockWhileAChildStarts: a child has what its parent had open until it runs another program; the lock ends without it.
func TestLockWhileAChildStarts(t *testing.T) {
	dir := t.TempDir()
	lock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	child, err := syscall.Dup(int(lock.file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(child)
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
