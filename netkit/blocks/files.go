package blocks

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"
)

// Files of blocks lie in folders by the last byte of their hash; those that are on their way in a folder of their own.
func (s *Store) file(c cid.Cid) string { return s.fileOf(rowKey(c)) }

func (s *Store) fileOf(key []byte) string {
	name := hex.EncodeToString(key[1:])
	return s.fs.PathJoin(s.files, name[len(name)-2:], name)
}

// writeFile writes the file of a block and gives it its name. It is durable after syncFiles.
func (s *Store) writeFile(c cid.Cid, data []byte) error {
	path := s.fs.PathJoin(s.files, "part", fmt.Sprint(s.parts.Add(1)))
	f, err := s.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, s.fs.Remove(path))
	}
	final := s.file(c)
	if err := s.fs.MkdirAll(s.fs.PathDir(final), 0o700); err != nil {
		return err
	}
	return s.fs.Rename(path, final)
}

// readFile reads the file of a block, which is not compared with its hash yet.
func (s *Store) readFile(c cid.Cid, size int) (data []byte, err error) {
	f, err := s.fs.Open(s.file(c))
	if err != nil {
		return nil, fmt.Errorf("read block %s: %w", c, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read block %s: %w", c, err)
	}
	if info.Size() != int64(size) {
		return nil, &CorruptError{CID: c, Cause: fmt.Errorf("file of %d bytes instead of %d: %w", info.Size(), size, ErrHash)}
	}
	data = make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("read block %s: %w", c, err)
	}
	return data, nil
}

// syncsAtOnce is how many files become durable at once; the file system makes one journal entry of many.
const syncsAtOnce = 8

// syncFiles makes the files of rows durable, with their names.
func (s *Store) syncFiles(rows map[string]int) error {
	if len(rows) == 0 {
		return nil
	}
	var all errgroup.Group
	all.SetLimit(syncsAtOnce)
	dirs := make(map[string]bool)
	for key := range rows {
		path := s.fileOf([]byte(key))
		dirs[s.fs.PathDir(path)] = true
		all.Go(func() error {
			f, err := s.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
			if err != nil {
				return err
			}
			return errors.Join(f.Sync(), f.Close())
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	return s.syncDirs(append(slices.Collect(maps.Keys(dirs)), s.files)...)
}

// syncDirs makes the names in folders durable.
func (s *Store) syncDirs(dirs ...string) error {
	for _, dir := range dirs {
		d, err := s.fs.OpenDir(cmp.Or(dir, "."))
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	return nil
}

// removeParts removes the files that were being written when the process ended.
func (s *Store) removeParts() error {
	dir := s.fs.PathJoin(s.files, "part")
	names, err := s.fs.List(dir)
	for _, name := range names {
		err = errors.Join(err, s.fs.Remove(s.fs.PathJoin(dir, name)))
	}
	return err
}
