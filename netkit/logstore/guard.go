package logstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"lukechampine.com/blake3"

	"dibber/netkit/bamboo"
)

// guard is what is known of a store outside of it. Two files hold the heads of own logs that were let out and are written in turns,
// each synced, so that one of them is whole whenever the process or the machine ends. A third, the mark, holds the number of
// arrivals acknowledged; it is written with every batch and synced with the heads and at the end only, so that after a loss of power
// it may be behind, never ahead.
type guard struct {
	fs   vfs.FS
	path string

	epoch uint64
	heads map[logKey]published
	mark  uint64
	// missing says that no file of heads was there, or whole, or this store's.
	missing bool

	generation uint64
	markFile   vfs.File
}

// published is the highest entry of a log that was let out.
type published struct {
	seq uint64
	id  bamboo.Hash
}

const (
	guardMagic    = "dibberH1"
	guardFixed    = len(guardMagic) + 4*8
	guardRow      = 40 + 8 + 32
	checksumSize  = 16
	markSize      = 2*8 + checksumSize
	guardMaxBytes = 64 << 20
)

func checksum(data []byte) []byte {
	sum := blake3.Sum256(data)
	return sum[:checksumSize]
}

func (g *guard) slot(generation uint64) string { return fmt.Sprintf("%s.%d", g.path, generation%2) }

// openGuard reads what is there.
func openGuard(fs vfs.FS, path string) (*guard, error) {
	g := &guard{fs: fs, path: path, heads: make(map[logKey]published), missing: true}
	for i := range uint64(2) {
		data, err := readFile(fs, g.slot(i), guardMaxBytes)
		if errors.Is(err, iofs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read guard: %w", err)
		}
		g.decode(data)
	}
	data, err := readFile(fs, path+".mark", markSize+1)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return nil, fmt.Errorf("read guard: %w", err)
	}
	if len(data) == markSize && bytes.Equal(checksum(data[:16]), data[16:]) && binary.BigEndian.Uint64(data) == g.epoch {
		g.mark = max(g.mark, binary.BigEndian.Uint64(data[8:]))
	}
	return g, nil
}

// Acknowledged returns how many arrivals a store has acknowledged, by its guard, whichever process has it open. It is false for a guard
// that is missing; one that is being written may tell an earlier number.
func Acknowledged(cfg Config) (arrivals uint64, ok bool) {
	fs := cfg.FS
	if fs == nil {
		fs = vfs.Default
	}
	g, err := openGuard(fs, cfg.Guard)
	if err != nil {
		return 0, false
	}
	return g.mark, !g.missing
}

// decode takes over what a file holds, if it is whole and newer than what was read before.
func (g *guard) decode(data []byte) {
	if len(data) < guardFixed+checksumSize || string(data[:len(guardMagic)]) != guardMagic {
		return
	}
	body := data[:len(data)-checksumSize]
	n := func(i int) uint64 { return binary.BigEndian.Uint64(body[len(guardMagic)+8*i:]) }
	rows := body[guardFixed:]
	if !bytes.Equal(checksum(body), data[len(body):]) || n(3) != uint64(len(rows)/guardRow) || len(rows)%guardRow != 0 {
		return
	}
	if !g.missing && n(0) < g.generation {
		return
	}
	g.missing, g.generation, g.epoch, g.mark = false, n(0), n(1), n(2)
	clear(g.heads)
	for r := range slices.Chunk(rows, guardRow) {
		g.heads[logKey(r[:40])] = published{seq: binary.BigEndian.Uint64(r[40:]), id: bamboo.Hash(r[48:])}
	}
}

func (g *guard) encode() []byte {
	out := []byte(guardMagic)
	for _, n := range []uint64{g.generation, g.epoch, g.mark, uint64(len(g.heads))} {
		out = binary.BigEndian.AppendUint64(out, n)
	}
	for k, p := range g.heads {
		out = append(out, k[:]...)
		out = binary.BigEndian.AppendUint64(out, p.seq)
		out = append(out, p.id[:]...)
	}
	return append(out, checksum(out)...)
}

// save writes the heads to the file that is not the newest, and returns when they are on disk.
func (g *guard) save() error {
	g.generation++
	if err := writeFile(g.fs, g.slot(g.generation), g.encode()); err != nil {
		return fmt.Errorf("write guard: %w", err)
	}
	g.missing = false
	return nil
}

// note writes the mark, without a sync.
func (g *guard) note(arrivals uint64) (err error) {
	g.mark = arrivals
	if g.markFile == nil {
		if g.markFile, err = g.fs.OpenReadWrite(g.path+".mark", vfs.WriteCategoryUnspecified); err != nil {
			return fmt.Errorf("write guard: %w", err)
		}
	}
	out := binary.BigEndian.AppendUint64(nil, g.epoch)
	out = binary.BigEndian.AppendUint64(out, g.mark)
	if _, err := g.markFile.WriteAt(append(out, checksum(out)...), 0); err != nil {
		return fmt.Errorf("write guard: %w", err)
	}
	return nil
}

func (g *guard) close() error {
	if g.markFile == nil {
		return nil
	}
	return errors.Join(g.markFile.Sync(), g.markFile.Close(), syncDir(g.fs, g.fs.PathDir(g.path)))
}

// raise notes that an entry is let out.
func (g *guard) raise(h *Head) {
	k := h.key()
	if h.Height > g.heads[k].seq {
		g.heads[k] = published{seq: h.Height, id: h.ID}
	}
}

// readFile reads a file of at most limit bytes.
func readFile(fs vfs.FS, path string, limit int64) (data []byte, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, limit))
}

// writeFile writes a file in place, where a torn one can be told from a whole one; it is on disk when writeFile returns.
func writeFile(fs vfs.FS, path string, data []byte) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), syncDir(fs, fs.PathDir(path)))
}

// syncDir makes the names in a folder durable.
func syncDir(fs vfs.FS, path string) error {
	d, err := fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
