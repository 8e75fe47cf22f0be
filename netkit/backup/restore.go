package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"dibber/netkit/store"
)

var (
	// ErrArchive means that an archive was cut, altered, or is none.
	ErrArchive = errors.New("not a whole backup")
	// ErrNewer means that an archive is of a later version.
	ErrNewer = errors.New("backup of a newer version")
	// ErrNotEmpty means that there is something where a backup was to go.
	ErrNotEmpty = errors.New("folder is not empty")
)

// Restore takes a folder out of r. dir must not exist, or be empty; it is there as a whole afterwards, or as it was.
func Restore(r io.Reader, dir string) (m Manifest, err error) {
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("restore to %s: %w", dir, err)
	}
	if len(list) > 0 {
		return m, fmt.Errorf("restore to %s: %w", dir, ErrNotEmpty)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return m, fmt.Errorf("restore to %s: %w", dir, err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".restoring-")
	if err != nil {
		return m, fmt.Errorf("restore to %s: %w", dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	if m, err = extract(r, tmp); err != nil {
		return m, fmt.Errorf("restore to %s: %w", dir, err)
	}
	if err := known(tmp, dir); err != nil {
		return m, fmt.Errorf("restore to %s: %w", dir, err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("restore to %s: %w", dir, err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return m, fmt.Errorf("restore to %s: %w", dir, err)
	}
	return m, syncDir(filepath.Dir(dir))
}

// known reports an error if what was taken out is a state folder of a later version than this program knows.
func known(tmp, dir string) error {
	_, err := store.CheckFormat(tmp)
	if newer, ok := errors.AsType[*store.NewerError](err); ok {
		newer.Dir = dir // where it would be, not where it is for now
	}
	return err
}

// extract takes the files out, and compares them with the manifest.
func extract(r io.Reader, dir string) (Manifest, error) {
	folders := map[string]bool{dir: true}
	m, err := read(r, func(in io.Reader, h *tar.Header) (File, error) {
		to := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return File{}, err
		}
		for f := filepath.Dir(to); !folders[f]; f = filepath.Dir(f) {
			folders[f] = true
		}
		return land(in, to, h)
	})
	if err != nil {
		return m, err
	}
	for f := range folders {
		err = errors.Join(err, syncDir(f))
	}
	return m, err
}

// Verify reads an archive to its end, and returns what it holds.
func Verify(r io.Reader) (Manifest, error) {
	seen := make(map[string]bool)
	return read(r, func(in io.Reader, h *tar.Header) (File, error) {
		if seen[h.Name] {
			return File{}, fmt.Errorf("%w: it has %q twice", ErrArchive, h.Name)
		}
		seen[h.Name] = true
		return hashed(in, io.Discard, h)
	})
}

// read hands each file of an archive to take, and compares what it says of them with the manifest.
func read(r io.Reader, take func(in io.Reader, h *tar.Header) (File, error)) (m Manifest, err error) {
	found := make(map[string]File)
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			return m, fmt.Errorf("%w: it has no %s", ErrArchive, manifestName)
		case err != nil:
			return m, fmt.Errorf("%w: %w", ErrArchive, err)
		case h.Typeflag != tar.TypeReg || !filepath.IsLocal(filepath.FromSlash(h.Name)) || len(found) >= mostFiles:
			return m, fmt.Errorf("%w: it has an entry %q", ErrArchive, h.Name)
		case h.Name == manifestName:
			if m, err = readManifest(in, h.Size); err != nil {
				return m, err
			}
			return m, compare(m, found)
		}
		if found[h.Name], err = take(in, h); err != nil {
			return m, err
		}
	}
}

// hashed copies one file.
func hashed(in io.Reader, to io.Writer, h *tar.Header) (File, error) {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, sum), in)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: it ends within %q", ErrArchive, h.Name)
	}
	return File{h.Name, n, hex.EncodeToString(sum.Sum(nil))}, err
}

// land writes one file, and returns when it is on disk.
func land(in io.Reader, to string, h *tar.Header) (File, error) {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return File{}, fmt.Errorf("%w: it has %q twice", ErrArchive, h.Name)
	}
	if err != nil {
		return File{}, err
	}
	out, err := hashed(in, f, h)
	return out, errors.Join(err, f.Sync(), f.Close())
}

func readManifest(in io.Reader, size int64) (m Manifest, err error) {
	if size > maxManifest {
		return m, fmt.Errorf("%w: a manifest of %d bytes", ErrArchive, size)
	}
	data, err := io.ReadAll(in)
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	switch {
	case err != nil:
		return m, fmt.Errorf("%w: %s: %w", ErrArchive, manifestName, err)
	case m.Format > format:
		return m, fmt.Errorf("%w: format %d, this program knows %d", ErrNewer, m.Format, format)
	case m.Format < 1:
		return m, fmt.Errorf("%w: format %d", ErrArchive, m.Format)
	}
	return m, nil
}

// compare holds what was taken out against the manifest.
func compare(m Manifest, found map[string]File) error {
	if len(m.Files) != len(found) {
		return fmt.Errorf("%w: %d files, the manifest has %d", ErrArchive, len(found), len(m.Files))
	}
	for _, want := range m.Files {
		if found[want.Path] != want {
			return fmt.Errorf("%w: %q is not what the manifest says", ErrArchive, want.Path)
		}
	}
	return nil
}

// syncDir makes the names in a folder last.
func syncDir(dir string) error {
	d, err := vfs.Default.OpenDir(dir) // on every system
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
