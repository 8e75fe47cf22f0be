package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// LockedError is returned by [Lock] when another process owns the folder.
type LockedError struct {
	// Dir is the folder.
	Dir string
	// PID is the owner's process id, or 0 when it could not be read.
	PID int
}

// Error names the folder and, when known, its owner.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("%s is in use by process %d", e.Dir, e.PID)
}

// FolderLock is a held lock on a folder.
type FolderLock struct{ file *os.File }

// Lock makes this process the owner of dir, which it creates (0700) if it is
// missing. The lock is flock(2), or LockFileEx, on dir/lock and ends with the process; the
// process id in that file only serves the message of a [LockedError].
func Lock(dir string) (*FolderLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create state folder: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := take(file, dir); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &FolderLock{file: file}, nil
}

func take(file *os.File, dir string) error {
	free, err := lockFile(file)
	if err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	if !free {
		return &LockedError{Dir: dir, PID: readPID(file)}
	}
	if err := file.Truncate(0); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	if _, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	return nil
}

func readPID(file *os.File) int {
	text, err := io.ReadAll(io.LimitReader(file, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// Close gives the folder up. The lock file stays: removing it would let two
// processes hold locks on two files of the same name.
func (l *FolderLock) Close() error {
	// Closing alone is not enough: a child that is just being started has the file open as well, until it runs another program.
	if err := errors.Join(unlockFile(l.file), l.file.Close()); err != nil {
		return fmt.Errorf("release lock: %w", err)
	}
	return nil
}
