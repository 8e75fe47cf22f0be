package logstore

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"lukechampine.com/blake3"
	"lukechampine.com/blake3/bao"
	"lukechampine.com/blake3/guts"

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
	groupSize = guts.ChunkSize << group
)

// treeless is up to how long a file has no tree beside it: making the tree anew costs less than a second file.
const treeless = 256 << 10

// Files of payloads lie in folders by the first byte of their hash, each above treeless with its tree of hashes beside it; those that
// are on their way in a folder of their own.
func (s *Store) file(hash bamboo.Hash) string {
	name := hex.EncodeToString(hash[:])
	return s.fs.PathJoin(s.files, name[:2], name)
}

func (s *Store) partFile(name string) string { return s.fs.PathJoin(s.files, "part", name) }

// part is the file of a payload on its way.
func (s *Store) part(hash bamboo.Hash) string { return s.partFile(hex.EncodeToString(hash[:])) }

func treeOf(path string) string { return path + ".bao" }

// hasFile reports whether the file of a payload is on disk, and will be there after a crash.
func (s *Store) hasFile(hash bamboo.Hash, size uint64) bool {
	_, unsettled := s.unsettled.Load(hash)
	return !unsettled && s.named(hash, size)
}

func (s *Store) named(hash bamboo.Hash, size uint64) bool {
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
	l := &landed{path: s.partFile(fmt.Sprintf("%s%d", newFile, s.newFiles.Add(1)))}
	if l.f, err = s.fs.Create(l.path, vfs.WriteCategoryUnspecified); err != nil {
		return p, fmt.Errorf("write payload: %w", err)
	}
	hasher := blake3.New(len(p.Hash), nil)
	all := io.TeeReader(io.MultiReader(bytes.NewReader(start), r), hasher)
	size, err := io.CopyBuffer(struct{ io.Writer }{l.f}, all, make([]byte, pieceSize))
	p.Size = uint64(size)
	hasher.Sum(p.Hash[:0])
	l.hash = p.Hash
	if err == nil && p.Size > treeless {
		err = s.plantTree(l, p.Size)
	}
	if err != nil {
		return p, fmt.Errorf("write payload: %w", errors.Join(err, s.discard(l)))
	}
	folder, err := s.name(l, l.sync())
	if err == nil {
		err = s.settle(folder)
	}
	if err != nil {
		return p, err
	}
	s.unsettled.Delete(p.Hash)
	return p, nil
}

// newFile begins the names of files whose hash is not known yet; those left over are removed by Open.
const newFile = "new-"

// Source is a payload that is a file, opened to be sent.
type Source struct{ f *file }

// OpenPayload opens a payload that is a file. A short one is read and compared with its hash; if it is not what it was the error is a
// [CorruptError], and [ErrNotFound] if it is not there.
func (s *Store) OpenPayload(hash bamboo.Hash) (*Source, error) {
	f, err := s.openFile(hash)
	if err != nil {
		return nil, err
	}
	return &Source{f}, nil
}

// Send writes the part of the payload from one byte on as a slice (bao, groups of 16 KiB) that the receiver can verify as it comes. Of
// a long file that is not what it was the receiver finds it out.
func (o *Source) Send(w io.Writer, from uint64) error {
	f := o.f
	if from >= f.size {
		return fmt.Errorf("send payload from byte %d of %d: nothing left", from, f.size)
	}
	from = from / groupSize * groupSize
	if f.short != nil {
		return f.short.send(w, from)
	}
	// The library reads over the groups before the slice; it gets the file from there on.
	return bao.ExtractSlice(w, f.from(from), f.tree, group, from, f.size-from)
}

// Close ends the use of the file.
func (o *Source) Close() error { return o.f.close() }

// SendPayload opens a payload and sends it.
func (s *Store) SendPayload(w io.Writer, hash bamboo.Hash, from uint64) (err error) {
	o, err := s.OpenPayload(hash)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	return o.Send(w, from)
}

// ReadPayload writes a payload that is a file; nothing is written that was not compared with the hash. A file that is not what it
// was is a [CorruptError], one that is not there [ErrNotFound].
func (s *Store) ReadPayload(w io.Writer, hash bamboo.Hash) (err error) {
	f, err := s.openFile(hash)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if f.short != nil {
		_, err = w.Write(f.short.data)
		return err
	}
	dst := &errWriter{w: w}
	ok, err := bao.Decode(dst, f.from(0), f.tree, group, hash)
	if dst.err != nil {
		return dst.err
	}
	if err == nil && !ok {
		err = bamboo.ErrPayload
	}
	return f.damaged(err)
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

// file is the open file of a payload.
type file struct {
	store  *Store
	hash   bamboo.Hash
	size   uint64
	opened []vfs.File       // the file, and its tree
	piece  *[pieceSize]byte // what was read of it last
	short  *short           // all of one that has no tree beside it
	tree   io.Reader        // of one that has
}

func (s *Store) openFile(hash bamboo.Hash) (*file, error) {
	f := &file{store: s, hash: hash, piece: s.pieces.Get().(*[pieceSize]byte)}
	if err := f.load(s.file(hash)); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// load opens the file and its tree; a short one is read, and its tree made.
func (f *file) load(path string) error {
	if err := f.open(path); err != nil {
		return err
	}
	info, err := f.opened[0].Stat()
	if err != nil {
		return err
	}
	if f.size = uint64(info.Size()); f.size > treeless {
		if err := f.open(treeOf(path)); err != nil {
			return err
		}
		f.tree = bufio.NewReader(f.opened[1])
		return nil
	}
	if _, err := io.ReadFull(f.opened[0], f.piece[:f.size]); err != nil {
		return f.damaged(err)
	}
	short, root := plant(f.piece, int(f.size))
	if root != f.hash {
		return f.damaged(bamboo.ErrPayload)
	}
	f.short = short
	return nil
}

func (f *file) open(path string) error {
	opened, err := f.store.fs.Open(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("payload %s: %w", f.hash, ErrNotFound)
	}
	if err != nil {
		return err
	}
	f.opened = append(f.opened, opened)
	return nil
}

func (f *file) close() (err error) {
	f.store.pieces.Put(f.piece)
	for _, one := range f.opened {
		err = errors.Join(err, one.Close())
	}
	return err
}

func (f *file) damaged(cause error) error {
	if cause == nil {
		return nil
	}
	return &CorruptError{What: "payload " + f.hash.String(), Cause: cause}
}

// from reads a long file from some byte on.
func (f *file) from(at uint64) io.Reader {
	return &pieces{src: io.NewSectionReader(f.opened[0], int64(at), int64(f.size-at)), piece: f.piece}
}

// pieces reads a source in large pieces.
type pieces struct {
	src   io.Reader
	piece *[pieceSize]byte
	rest  []byte // of the piece
}

func (p *pieces) Read(dst []byte) (int, error) {
	if len(p.rest) == 0 {
		n, err := p.src.Read(p.piece[:])
		if n == 0 {
			return 0, err
		}
		p.rest = p.piece[:n]
	}
	n := copy(dst, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// removeLeftovers removes the files that were being made when the process ended, and notes those of which a part has arrived.
func (s *Store) removeLeftovers() error {
	names, err := s.fs.List(s.fs.PathJoin(s.files, "part"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, newFile) {
			err = errors.Join(err, s.fs.Remove(s.partFile(name)))
		}
		if hash, err := hex.DecodeString(name); err == nil && len(hash) == len(bamboo.Hash{}) {
			s.parts.Store(bamboo.Hash(hash), true)
		}
	}
	return err
}
