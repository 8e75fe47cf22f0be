package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Format is the version of how folders that [Lock] guards are laid out. A change that an older program would misread adds one, and a
// step to migrate.
const Format = 1

// formatFile has the version, in a folder. One without it is of before versions were written: 0.
const formatFile = "format"

// FormatError is a folder of a later version than this program knows. Nothing in it was touched.
type FormatError struct {
	Dir          string
	Found, Known int
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s has format %d, and this program knows formats up to %d", e.Dir, e.Found, e.Known)
}

// upgrade brings a folder that this process owns to the present format, step by step. It is the same after a crash on the way.
func upgrade(dir string) error {
	found, err := formatOf(dir)
	switch {
	case err != nil:
		return err
	case found > Format:
		return &FormatError{Dir: dir, Found: found, Known: Format}
	}
	for ; found < Format; found++ {
		if err := migrate(dir, found); err != nil {
			return fmt.Errorf("bring %s from format %d to %d: %w", dir, found, found+1, err)
		}
		if err := Replace(filepath.Join(dir, formatFile), []byte(strconv.Itoa(found+1)+"\n")); err != nil {
			return fmt.Errorf("note the format of %s: %w", dir, err)
		}
	}
	return nil
}

// formatOf reads the format of a folder.
func formatOf(dir string) (int, error) {
	text, err := os.ReadFile(filepath.Join(dir, formatFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the format of %s: %w", dir, err)
	}
	found, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || found < 0 {
		return 0, fmt.Errorf("read the format of %s: %q is no version", dir, text)
	}
	return found, nil
}

// migrate takes one step. It may have been taken already, in part or as a whole.
func migrate(_ string, from int) error {
	if from != 0 {
		return errors.New("nobody knows how")
	}
	return nil // format 1 is format 0 with the version written down
}

// Replace puts data in the place of a file, whole or not at all, and on disk. The file is for its owner only.
func Replace(file string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	dir, err := vfs.Default.OpenDir(filepath.Dir(file)) // on every system
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
