package identity

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// PermissionError says that a file with a secret is open to others than its owner.
type PermissionError struct {
	Path string
	Mode fs.FileMode // its permission bits; 0600 is what they should be
}

func (e *PermissionError) Error() string {
	return fmt.Sprintf("%s: mode %04o gives access to others than its owner", e.Path, e.Mode)
}

// Load reads the private key in the file path, in any format that Parse knows. A file that
// its group or others may touch is refused with a *PermissionError.
func Load(path string) (crypto.PrivKey, error) {
	data, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	key, _, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func readSecret(path string) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// The open file is asked, not the path, which may be another file by now.
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// Windows has no such bits: Go makes them up.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, &PermissionError{Path: path, Mode: mode}
	}
	return io.ReadAll(io.LimitReader(f, MaxKeyLen+1))
}

// LoadOrCreate reads the private key in the file path as Load does. If there is no such file it makes
// an Ed25519 key and writes it there as Write does. When several processes do so at once, all
// return the same key and one of them reports created.
func LoadOrCreate(path string) (key crypto.PrivKey, created bool, err error) {
	key, err = Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	if key, err = Generate(Ed25519, 0); err != nil {
		return nil, false, err
	}
	data, err := Encode(key, FormatProtobuf)
	if err != nil {
		return nil, false, err
	}
	err = Write(path, data)
	if errors.Is(err, fs.ErrExist) { // another process was faster
		key, err = Load(path)
		return key, false, err
	}
	if err != nil {
		return nil, false, err
	}
	return key, true, nil
}

// Write writes data into a new file at path with mode 0600, and makes missing parent folders with
// mode 0700. The file appears whole or not at all, and is on disk when Write returns. A file that is already
// there is left alone; the error then wraps fs.ErrExist.
func Write(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp, err := writeTemp(dir, filepath.Base(path), data)
	if err != nil {
		return err
	}
	// Unlike a rename, a link never replaces what is there.
	err = os.Link(temp, path)
	if errRemove := os.Remove(temp); err == nil {
		err = errRemove
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// writeTemp writes data into a new file, readable by its owner only, and returns its name.
func writeTemp(dir, base string, data []byte) (string, error) {
	f, err := os.CreateTemp(dir, "."+base+".*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// syncDir makes the entries of a folder durable, where the system can do that.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
