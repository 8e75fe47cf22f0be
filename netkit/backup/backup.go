// Package backup puts the state folder of a node into one stream while the node runs, and takes it out again: a tar archive (POSIX.1-2001)
// whose last file lists the others with their hashes, so that whatever was cut or altered shows before anything is put in place.
package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dibber/netkit/store"
)

const (
	// manifestName is the last file of an archive.
	manifestName = "MANIFEST.json"
	// format is the version of what an archive is.
	format = 1
	// maxManifest bounds a manifest that is read, in bytes; mostFiles the files of an archive.
	maxManifest = 256 << 20
	mostFiles   = 1_000_000
	// copies is where databases are copied to before they are read, in the state folder.
	copies = ".backup-"
)

// Source is a state folder whose databases are in use.
type Source struct {
	// Dir is the folder.
	Dir string
	// Open are the databases that this process has open, by their folders below Dir with slashes. Each is called with a folder that does
	// not exist, and puts a copy of the database there.
	Open map[string]func(dir string) error
	// Skip are files and folders below Dir, with slashes, that are left out.
	Skip []string
	// Node names whose folder it is, for those who read the manifest.
	Node string
	// Elsewhere says what belongs to the node and is not in the folder, for them.
	Elsewhere []string
}

// File is one file of an archive.
type File struct {
	Path   string `json:"path"` // with slashes
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Manifest says what an archive holds.
type Manifest struct {
	Format int       `json:"format"`
	Node   string    `json:"node"`
	Made   time.Time `json:"made"`
	Files  []File    `json:"files"`
	// Elsewhere is what the node keeps that is not in the archive.
	Elsewhere []string `json:"elsewhere,omitempty"`
}

// Bytes is the size of all files.
func (m Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// Write puts the folder into w. Databases are as they were at one moment each, other files as they are when they are read. A store below the
// folder that another process has open is a [store.LockedError].
func Write(ctx context.Context, w io.Writer, src Source, now time.Time) (m Manifest, err error) {
	m = Manifest{Format: format, Node: src.Node, Made: now.UTC(), Elsewhere: src.Elsewhere}
	tmp, err := os.MkdirTemp(src.Dir, copies)
	if err != nil {
		return m, fmt.Errorf("make room for copies: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	a := &archive{Source: src, tmp: tmp, tar: tar.NewWriter(w), manifest: &m}
	defer func() { err = errors.Join(err, a.unlock()) }()
	if err := a.walk(ctx, "."); err != nil {
		return m, err
	}
	list, err := json.Marshal(m)
	if err != nil {
		return m, fmt.Errorf("write manifest: %w", err)
	}
	if err := a.header(manifestName, int64(len(list)), now); err != nil {
		return m, err
	}
	if _, err := a.tar.Write(list); err != nil {
		return m, fmt.Errorf("write manifest: %w", err)
	}
	if err := a.tar.Close(); err != nil {
		return m, fmt.Errorf("end archive: %w", err)
	}
	return m, nil
}

// archive is one that is being written.
type archive struct {
	Source
	tmp      string
	tar      *tar.Writer
	manifest *Manifest
	locks    []*store.FolderLock
}

func (a *archive) unlock() (err error) {
	for _, l := range a.locks {
		err = errors.Join(err, l.Close())
	}
	return err
}

// walk adds a folder below Dir.
func (a *archive) walk(ctx context.Context, rel string) error {
	if open := a.Open[rel]; open != nil {
		at := filepath.Join(a.tmp, fmt.Sprint(len(a.manifest.Files)))
		if err := open(at); err != nil {
			return fmt.Errorf("back up %s: %w", rel, err)
		}
		return a.tree(ctx, at, rel)
	}
	return a.entries(ctx, filepath.Join(a.Dir, filepath.FromSlash(rel)), rel, a.walk)
}

// tree adds a folder with all that is in it, wherever it lies.
func (a *archive) tree(ctx context.Context, dir, rel string) error {
	return a.entries(ctx, dir, rel, func(ctx context.Context, below string) error {
		return a.tree(ctx, filepath.Join(dir, path.Base(below)), below)
	})
}

// entries adds the files of one folder, and has folder do the folders.
func (a *archive) entries(ctx context.Context, dir, rel string, folder func(ctx context.Context, rel string) error) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("back up %s: %w", rel, err)
	}
	if err := a.own(dir, rel, list); err != nil {
		return err
	}
	for _, e := range list {
		below := path.Join(rel, e.Name())
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case slices.Contains(a.Skip, below), slices.Contains(ofProcesses(), e.Name()), strings.HasPrefix(below, copies):
		case e.IsDir():
			if err := folder(ctx, below); err != nil {
				return err
			}
		case e.Type().IsRegular():
			if err := a.file(filepath.Join(dir, e.Name()), below); err != nil {
				return err
			}
		}
	}
	return nil
}

// ofProcesses are files that say something of the processes that run, not of what they keep.
func ofProcesses() []string { return []string{"lock", "control.path"} }

// own takes the lock of a store's folder of which nothing is open here, until the archive is written.
func (a *archive) own(dir, rel string, list []os.DirEntry) error {
	if rel == "." || !slices.ContainsFunc(list, func(e os.DirEntry) bool { return e.Name() == "lock" }) {
		return nil
	}
	for open := range a.Open {
		if strings.HasPrefix(open, rel+"/") {
			return nil
		}
	}
	l, err := store.Lock(dir)
	if err != nil {
		return fmt.Errorf("back up %s: %w", rel, err)
	}
	a.locks = append(a.locks, l)
	return nil
}

func (a *archive) header(name string, size int64, made time.Time) error {
	h := tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: made, Format: tar.FormatPAX}
	if err := a.tar.WriteHeader(&h); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

// file adds one file. One that is gone by now was not needed any more.
func (a *archive) file(name, rel string) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("back up %s: %w", rel, err)
	}
	defer f.Close() // it was only read
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("back up %s: %w", rel, err)
	}
	if err := a.header(rel, info.Size(), info.ModTime()); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(a.tar, sum), f, info.Size()); err != nil {
		return fmt.Errorf("back up %s: %w", rel, err)
	}
	a.manifest.Files = append(a.manifest.Files, File{rel, info.Size(), hex.EncodeToString(sum.Sum(nil))})
	return nil
}

// Clean removes what a process left in a state folder that was killed while it wrote a backup.
func Clean(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, copies+"*"))
	for _, name := range left {
		err = errors.Join(err, os.RemoveAll(name))
	}
	if err != nil {
		return fmt.Errorf("remove copies of a backup: %w", err)
	}
	return nil
}
