package logstore

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// disk is a file system that is synced as a whole.
type disk struct{ folder *os.File }

// openDisk returns the disk that a folder is on, nil if it cannot be told whether it was synced: before Linux 5.8 syncfs(2) said nothing
// of what could not be written. Errors of what is written from now on are those that sync returns.
func openDisk(dir string) *disk {
	var name unix.Utsname
	if unix.Uname(&name) != nil || !tells(unix.ByteSliceToString(name.Release[:])) {
		return nil
	}
	folder, err := os.Open(dir)
	if err != nil {
		return nil // files are synced one by one
	}
	return &disk{folder}
}

// tells reports whether syncfs of a release of Linux returns errors of writing.
func tells(release string) bool {
	major, rest, _ := strings.Cut(release, ".")
	minor, _, _ := strings.Cut(rest, ".")
	minor, _, _ = strings.Cut(minor, "-")
	x, err := strconv.Atoi(major)
	y, other := strconv.Atoi(minor)
	return errors.Join(err, other) == nil && (x > 5 || x == 5 && y >= 8)
}

// sync returns when all that was written to the disk is on it.
func (d *disk) sync() error {
	if err := unix.Syncfs(int(d.folder.Fd())); err != nil {
		return fmt.Errorf("sync the disk of %s: %w", d.folder.Name(), err)
	}
	return nil
}

func (d *disk) close() error {
	if d == nil {
		return nil
	}
	return d.folder.Close()
}
