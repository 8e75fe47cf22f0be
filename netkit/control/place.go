package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	socketName  = "control.sock"
	pointerName = "control.path"
	// longest is the longest path that a socket is made at. The system's limit is 104
	// bytes or more, and the socket has a somewhat longer path at first.
	longest = 100
	// maxPointer bounds what is read as a path.
	maxPointer = 4096
)

// InUseError is returned by [New] when another process answers at the socket.
type InUseError struct {
	// Socket is its path.
	Socket string
}

// Error names the socket.
func (e *InUseError) Error() string {
	return fmt.Sprintf("another process answers at the control socket %s", e.Socket)
}

// place is where a socket is.
type place struct {
	socket  string
	pointer string      // file with the path; empty: the path is known
	folder  string      // made for the socket alone; empty: none was
	made    fs.FileInfo // the socket; nil: not made yet
}

// choose finds a path that is short enough.
func choose(ctx context.Context, cfg Config) (place, error) {
	if cfg.Socket != "" {
		path, err := filepath.Abs(cfg.Socket)
		if err == nil && len(path) > longest {
			err = fmt.Errorf("control socket %s: the path is longer than %d bytes", path, longest)
		}
		return place{socket: path}, err
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return place{}, fmt.Errorf("control socket: %w", err)
	}
	pointer := filepath.Join(dir, pointerName)
	if err := clear(ctx, pointer); err != nil {
		return place{}, err
	}
	if path := filepath.Join(dir, socketName); len(path) <= longest {
		return place{socket: path}, nil
	}
	folder, err := os.MkdirTemp(cfg.Runtime, "dibber-")
	if err != nil {
		return place{}, fmt.Errorf("control socket: %w", err)
	}
	p := place{socket: filepath.Join(folder, socketName), pointer: pointer, folder: folder}
	if len(p.socket) > longest {
		return place{}, errors.Join(fmt.Errorf("control socket: %s and %s are both longer than %d bytes", filepath.Join(dir, socketName), p.socket, longest), p.leave())
	}
	if err := os.WriteFile(pointer, []byte(p.socket+"\n"), 0o600); err != nil {
		return place{}, errors.Join(fmt.Errorf("control socket: %w", err), p.leave())
	}
	return p, nil
}

// clear removes a pointer that a killed process left, and the socket that it made
// elsewhere. One at which somebody answers is another folder's, of which this one is a copy.
func clear(ctx context.Context, pointer string) error {
	old, err := follow(pointer)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// Nothing but what choose makes is removed, whatever the file says.
	if folder := filepath.Dir(old); filepath.Base(old) == socketName && strings.HasPrefix(filepath.Base(folder), "dibber-") && vacant(ctx, old) == nil {
		_ = os.Remove(old) // it may be gone, with its folder
		_ = os.Remove(folder)
	}
	if err := os.Remove(pointer); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// follow reads a pointer.
func follow(pointer string) (string, error) {
	data, err := os.ReadFile(pointer)
	if err != nil {
		return "", fmt.Errorf("control socket: %w", err)
	}
	path := strings.TrimSpace(string(data))
	if len(data) > maxPointer || !filepath.IsAbs(path) {
		return "", fmt.Errorf("control socket: %s holds no path", pointer)
	}
	return path, nil
}

// listen makes the socket. It gets its mode in a folder of its own and is then moved
// to its place, so that at no moment anybody else can open it there.
func (p *place) listen(ctx context.Context) (net.Listener, error) {
	if err := vacant(ctx, p.socket); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(filepath.Dir(p.socket), ".c")
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer func() { _ = os.Remove(private) }() // empty by then
	made := filepath.Join(private, "s")
	l, err := new(net.ListenConfig).Listen(ctx, "unix", made)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it will be elsewhere
	if err = os.Chmod(made, 0o600); err == nil {
		err = os.Rename(made, p.socket)
	}
	if err == nil {
		p.made, err = os.Lstat(p.socket)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), l.Close(), os.RemoveAll(private))
	}
	return l, nil
}

// vacant returns an error unless a socket can be made at path: nothing is there, or
// one at which nobody answers.
func vacant(ctx context.Context, path string) error {
	at, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if at.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control socket: %s is there and is no socket", path)
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil //nolint:nilerr // that nobody answers is the point
	}
	return errors.Join(&InUseError{path}, conn.Close())
}

// leave removes what was made.
func (p *place) leave() error {
	var errs []error
	remove := func(path string) {
		if path == "" {
			return
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("control socket: %w", err))
		}
	}
	if now, err := os.Lstat(p.socket); err == nil && p.made != nil && os.SameFile(now, p.made) {
		remove(p.socket) // another process may have put its own there
	}
	remove(p.folder)
	remove(p.pointer)
	return errors.Join(errs...)
}

// Find returns the path of the socket of the node that keeps its state in dir,
// whether it runs or not; fs.ErrNotExist means that it does not.
func Find(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("control socket: %w", err)
	}
	if path := filepath.Join(dir, socketName); len(path) <= longest {
		return path, nil
	}
	return follow(filepath.Join(dir, pointerName))
}
