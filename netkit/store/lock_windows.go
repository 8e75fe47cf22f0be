package store

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// What is locked is a byte far behind the text, for Windows lets nobody else read what is.
func behind() *windows.Overlapped { return &windows.Overlapped{OffsetHigh: 1} }

// lockFile locks a file for this process, and reports whether it was free.
func lockFile(f *os.File) (free bool, err error) {
	const how = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err = windows.LockFileEx(windows.Handle(f.Fd()), how, 0, 1, 0, behind())
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}

func unlockFile(f *os.File) error {
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, behind())
}
