package logstore

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"math"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"lukechampine.com/blake3"
	"lukechampine.com/blake3/bao"

	"dibber/netkit/bamboo"
)

// Payload is what an entry is to carry.
type Payload struct {
	Size uint64
	Hash bamboo.Hash
	// Inline is the payload itself, nil for one that is a file.
	Inline []byte
}

// PayloadOf returns data as a payload of at most [InlineMax] bytes; larger ones come from [Store.NewPayload].
func PayloadOf(data []byte) Payload {
	if data == nil {
		data = []byte{}
	}
	return Payload{Size: uint64(len(data)), Hash: bamboo.HashOf(data), Inline: data}
}

// group is the size, as a power of two of BLAKE3's chunks of 1 KiB, of what is verified at once: 16 KiB. Slices are encoded by
// it (https://github.com/oconnor663/bao).
const (
	group     = 4
	groupSize = 1024 << group
)

// Files of payloads lie in folders by the first byte of their hash, each with its tree of hashes beside it; those that are on their
// way in a folder of their own.
func (s *Store) file(hash bamboo.Hash) string {
	name := hex.EncodeToString(hash[:])
	return s.fs.PathJoin(s.files, name[:2], name)
}

func (s *Store) partFile(name string) string { return s.fs.PathJoin(s.files, "part", name) }

func treeOf(path string) string { return path + ".bao" }

func (s *Store) hasFile(hash bamboo.Hash, size uint64) bool {
	info, err := s.fs.Stat(s.file(hash))
	return err == nil && info.Size() == int64(size)
}

// NewPayload reads a payload to its end. One above [InlineMax] is written to a file, which is on disk when NewPayload returns.
func (s *Store) NewPayload(r io.Reader) (p Payload, err error) {
	start, err := io.ReadAll(io.LimitReader(r, InlineMax+1))
	if err != nil {
		return p, fmt.Errorf("read payload: %w", err)
	}
	if len(start) <= InlineMax {
		return PayloadOf(start), nil
	}
	if err := s.checkSpace(); err != nil {
		return p, err
	}
	path := s.partFile(fmt.Sprintf("%s%d", newFile, s.newFiles.Add(1)))
	f, err := s.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return p, fmt.Errorf("write payload: %w", err)
	}
	hasher := blake3.New(len(p.Hash), nil)
	size, err := io.Copy(f, io.TeeReader(io.MultiReader(bytes.NewReader(start), r), hasher))
	if err = errors.Join(err, f.Close()); err != nil {
		return p, fmt.Errorf("write payload: %w", errors.Join(err, s.fs.Remove(path)))
	}
	p.Size = uint64(size)
	copy(p.Hash[:], hasher.Sum(nil))
	return p, s.adopt(path, p.Hash, p.Size)
}

// newFile begins the names of files whose hash is not known yet; those left over are removed by Open.
const newFile = "new-"

// adopt gives a file its final name, after it has compared it with its hash, made its tree and synced both. A file that is something
// else is removed.
func (s *Store) adopt(path string, hash bamboo.Hash, size uint64) error {
	err := s.plantTree(path, hash, size)
	if errors.Is(err, bamboo.ErrPayload) {
		return errors.Join(err, s.fs.Remove(path))
	}
	if err != nil {
		return err
	}
	final := s.file(hash)
	dir := s.fs.PathDir(final)
	err = errors.Join(s.fs.MkdirAll(dir, 0o700), s.fs.Rename(treeOf(path), treeOf(final)), s.fs.Rename(path, final), syncDir(s.fs, dir), syncDir(s.fs, s.files))
	if err != nil {
		return fmt.Errorf("name payload: %w", err)
	}
	return nil
}

// plantTree reads a file through, writes its tree, and syncs both.
func (s *Store) plantTree(path string, hash bamboo.Hash, size uint64) (err error) {
	f, err := s.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("read payload: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	tree, err := s.fs.Create(treeOf(path), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("write tree of payload: %w", err)
	}
	root, err := bao.Encode(tree, f, int64(size), group, true)
	if err == nil && root != hash {
		err = fmt.Errorf("file of %d bytes: %w", size, bamboo.ErrPayload)
	}
	if err == nil {
		err = errors.Join(f.Sync(), tree.Sync())
	}
	return errors.Join(err, tree.Close())
}

// HeldPayload returns how many bytes of a payload are held from its start: all of them, or what [Store.ReceivePayload] got before it
// was interrupted, from which it goes on.
func (s *Store) HeldPayload(hash bamboo.Hash, size uint64) uint64 {
	if s.hasFile(hash, size) {
		return size
	}
	info, err := s.fs.Stat(s.partFile(hex.EncodeToString(hash[:])))
	if err != nil {
		return 0
	}
	return min(uint64(info.Size()), size-1) / groupSize * groupSize
}

// ReceivePayload reads a payload of more than [InlineMax] bytes from where [Store.HeldPayload] ends, as [Store.SendPayload] writes it.
// Each 16 KiB are compared with the hash before they are written. When all are there the file gets its name and is on disk.
// An interruption keeps what was verified; [bamboo.ErrPayload] means that the sender sent something else.
func (s *Store) ReceivePayload(hash bamboo.Hash, size uint64, r io.Reader) (err error) {
	if size <= InlineMax || size > math.MaxInt64 {
		return fmt.Errorf("receive payload: a payload of %d bytes is no file", size)
	}
	if _, busy := s.receiving.LoadOrStore(hash, true); busy {
		return errors.New("receive payload: it is being received already")
	}
	defer s.receiving.Delete(hash)
	from := s.HeldPayload(hash, size)
	if from == size {
		return nil
	}
	if err := s.checkSpace(); err != nil {
		return err
	}
	path := s.partFile(hex.EncodeToString(hash[:]))
	if err := s.receive(path, hash, from, size, r); err != nil {
		return fmt.Errorf("receive payload from byte %d of %d: %w", from, size, err)
	}
	return s.adopt(path, hash, size)
}

func (s *Store) receive(path string, hash bamboo.Hash, from, size uint64, r io.Reader) (err error) {
	var announced [8]byte
	if _, err := io.ReadFull(r, announced[:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint64(announced[:]) != size {
		return fmt.Errorf("%w: %d bytes announced", bamboo.ErrPayload, binary.LittleEndian.Uint64(announced[:]))
	}
	f, err := s.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	dst := &offsetWriter{f: f, at: int64(from)}
	ok, err := bao.DecodeSlice(dst, io.MultiReader(bytes.NewReader(announced[:]), r), group, from, size-from, hash)
	if err != nil {
		return err
	}
	if !ok {
		return bamboo.ErrPayload
	}
	return nil
}

// offsetWriter writes a file from some byte on.
type offsetWriter struct {
	f  vfs.File
	at int64
}

func (w *offsetWriter) Write(p []byte) (int, error) {
	n, err := w.f.WriteAt(p, w.at)
	w.at += int64(n)
	return n, err
}

// SendPayload writes the part of a payload from one byte on as a slice (bao, groups of 16 KiB) that the receiver can verify as it comes.
func (s *Store) SendPayload(w io.Writer, hash bamboo.Hash, from uint64) (err error) {
	f, tree, err := s.openFile(hash)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), tree.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := uint64(info.Size())
	if from >= size {
		return fmt.Errorf("send payload from byte %d of %d: nothing left", from, size)
	}
	// The library reads over the groups before the slice; it gets the file from there on.
	skipped := from / groupSize * groupSize
	return bao.ExtractSlice(w, &fileFrom{f: f, at: int64(skipped)}, tree, group, from, size-from)
}

// fileFrom reads a file from some byte on.
type fileFrom struct {
	f  vfs.File
	at int64
}

func (r *fileFrom) Read(p []byte) (int, error) {
	n, err := r.f.ReadAt(p, r.at)
	r.at += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// ReadPayload writes a payload that is a file; nothing is written that was not compared with the hash. A file that is not what it
// was is a [CorruptError], one that is not there [ErrNotFound].
func (s *Store) ReadPayload(w io.Writer, hash bamboo.Hash) (err error) {
	f, tree, err := s.openFile(hash)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), tree.Close()) }()
	dst := &errWriter{w: w}
	ok, err := bao.Decode(dst, f, tree, group, hash)
	if dst.err != nil {
		return dst.err
	}
	if err == nil && !ok {
		err = bamboo.ErrPayload
	}
	if err != nil {
		return &CorruptError{What: "payload " + hash.String(), Cause: err}
	}
	return nil
}

// errWriter tells errors of writing from those of reading.
type errWriter struct {
	w   io.Writer
	err error
}

func (w *errWriter) Write(p []byte) (n int, err error) {
	n, w.err = w.w.Write(p)
	return n, w.err
}

func (s *Store) openFile(hash bamboo.Hash) (f, tree vfs.File, err error) {
	path := s.file(hash)
	if f, err = s.fs.Open(path); err == nil {
		if tree, err = s.fs.Open(treeOf(path)); err != nil {
			err = errors.Join(err, f.Close())
		}
	}
	if errors.Is(err, iofs.ErrNotExist) {
		err = fmt.Errorf("payload %s: %w", hash, ErrNotFound)
	}
	return f, tree, err
}

// removeLeftovers removes the files that were being made when the process ended.
func (s *Store) removeLeftovers() error {
	names, err := s.fs.List(s.fs.PathJoin(s.files, "part"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, newFile) {
			err = errors.Join(err, s.fs.Remove(s.partFile(name)))
		}
	}
	return err
}
