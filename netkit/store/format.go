package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

const (
	// Format is the version of what state folders written by this program are. Version 0 is a folder that tells none: it has the
	// same files as version 1, but for the one that tells.
	Format = 1
	// formatFile is where a state folder tells its version: a decimal number and a line feed.
	formatFile = "format"
	// mostFormat bounds what is read of that file, in bytes.
	mostFormat = 32
)

// ErrFormat means that the file which tells the version of a state folder holds no version.
var ErrFormat = errors.New("no version of a format")

// NewerError says that a later version of the program has written a state folder.
type NewerError struct {
	// Dir is the folder.
	Dir string
	// Found is its version, Known the latest that this program knows.
	Found, Known int
}

// Error names the folder and both versions.
func (e *NewerError) Error() string {
	return fmt.Sprintf("state folder %s has format %d, and this program knows none after %d", e.Dir, e.Found, e.Known)
}

// CheckFormat tells the version of a state folder and touches nothing. It is -1 for a folder that is missing, or empty but for the lock
// of its owner and what the file system has there by itself. A folder of a later version is a [NewerError], one that tells
// nonsense wraps [ErrFormat].
func CheckFormat(dir string) (version int, err error) {
	text, err := os.ReadFile(filepath.Join(dir, formatFile))
	if errors.Is(err, fs.ErrNotExist) {
		return unmarked(dir)
	}
	if err != nil {
		return 0, fmt.Errorf("read format of state folder: %w", err)
	}
	version, err = strconv.Atoi(string(bytes.TrimSuffix(text, []byte("\n"))))
	if err != nil || version < 1 || len(text) > mostFormat {
		return 0, fmt.Errorf("state folder %s: %w: %s tells %.*q", dir, ErrFormat, formatFile, mostFormat, text)
	}
	if version > Format {
		return version, &NewerError{Dir: dir, Found: version, Known: Format}
	}
	return version, nil
}

// unmarked is the version of a folder that tells none.
func unmarked(dir string) (int, error) {
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("read state folder: %w", err)
	}
	for _, e := range list {
		if !slices.Contains([]string{"lock", "lost+found"}, e.Name()) {
			return 0, nil
		}
	}
	return -1, nil
}

// Migrate brings a state folder to [Format], and makes one (0700) that is missing. It returns the version that the folder had, as
// [CheckFormat] does; nothing is touched when that is an error or the version is right already. Each step can be repeated, so that a process which is
// ended between two of them leaves nothing to mend; the version is written last, as a whole or not at all.
func Migrate(dir string) (from int, err error) {
	from, err = CheckFormat(dir)
	if err != nil || from == Format {
		return from, err
	}
	// From 0 to 1 nothing changes but that the folder tells its version.
	if err := writeFormat(dir); err != nil {
		return from, fmt.Errorf("write format of state folder: %w", err)
	}
	return from, nil
}

func writeFormat(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return Replace(filepath.Join(dir, formatFile), fmt.Appendln(nil, Format))
}
