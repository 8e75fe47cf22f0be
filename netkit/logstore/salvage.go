package logstore

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// salvage cuts the write-ahead log of a database at the first record that cannot be read, so that the database opens with all before.
func salvage(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	slices.Sort(names) // numbers of one width: by age
	cut := false
	for _, name := range names {
		digits, isLog := strings.CutSuffix(name, ".log")
		number, err := strconv.ParseUint(digits, 10, 64)
		if !isLog || err != nil {
			continue
		}
		path := fs.PathJoin(dir, name)
		if cut {
			// What is behind a lost record must not come back without it.
			if err := fs.Remove(path); err != nil {
				return err
			}
			continue
		}
		data, err := readFile(fs, path, 1<<40)
		if err != nil {
			return err
		}
		end := readable(data, number)
		if cut = end < int64(len(data)); cut {
			if err := writeFile(fs, path+".cut", data[:end]); err != nil {
				return err
			}
			if err := fs.Rename(path+".cut", path); err != nil {
				return err
			}
		}
	}
	return syncDir(fs, dir)
}

// readable returns where the last whole record of a log ends.
func readable(data []byte, number uint64) (end int64) {
	r := reader(record.NewReader, strings.NewReader(string(data)), number)
	for {
		one, err := r.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, one)
		}
		if errors.Is(err, io.EOF) {
			return int64(len(data))
		}
		if err != nil {
			return end
		}
		end = r.Offset()
	}
}

// reader calls a constructor whose type of number has no name outside of Pebble.
func reader[N ~uint64](open func(io.Reader, N) *record.Reader, r io.Reader, number uint64) *record.Reader {
	return open(r, N(number))
}
