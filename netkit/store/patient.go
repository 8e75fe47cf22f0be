package store

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	// ErrFull means that a write was refused since the disk is full, or nearly so. Later ones succeed by themselves when there is space.
	ErrFull = errors.New("too little space on disk")
	// ErrReadOnly means that a write was refused since the file system takes none. Later ones succeed when it does again.
	ErrReadOnly = errors.New("the file system is read-only")
)

// Unwritable returns [ErrFull] or [ErrReadOnly] for an error of the operating system that says so, and nil for all others.
func Unwritable(err error) error {
	switch {
	case errors.Is(err, ErrFull), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return ErrFull
	case errors.Is(err, ErrReadOnly), errors.Is(err, syscall.EROFS):
		return ErrReadOnly
	}
	return nil
}

// pollEvery is how often a file is tried again that could not be written.
const pollEvery = 200 * time.Millisecond

// patientFS has Pebble wait for a disk that takes no writes. Pebble gives up for good when its log or its manifest cannot be written;
// here that is tried again until it succeeds or the database is closed. Whoever begins a write meanwhile is refused.
type patientFS struct {
	vfs.FS
	stalled atomic.Pointer[error] // why something waits; nil: nothing does
	closing chan struct{}
	close   sync.Once

	readOnly bool // nothing is to be written
}

func newPatientFS(fs vfs.FS) *patientFS {
	return &patientFS{FS: fs, closing: make(chan struct{})}
}

// giveUp ends all waiting, with the errors of the disk.
func (fs *patientFS) giveUp() { fs.close.Do(func() { close(fs.closing) }) }

// why is the reason for which new writes are refused, nil if there is none.
func (fs *patientFS) why() error {
	if err := fs.stalled.Load(); err != nil {
		return fmt.Errorf("write database: %w", *err)
	}
	return nil
}

// insist calls try until it succeeds or fails for another reason than that the disk takes no writes.
func (fs *patientFS) insist(try func() error) error {
	var tick *time.Ticker
	for {
		err := try()
		why := Unwritable(err)
		if why == nil {
			if tick != nil {
				fs.stalled.Store(nil) // if something else waits, it says so again
			}
			return err
		}
		fs.stalled.Store(&why)
		if tick == nil {
			tick = time.NewTicker(pollEvery)
			defer tick.Stop()
		}
		select {
		case <-tick.C:
		case <-fs.closing:
			return err
		}
	}
}

// precious reports whether Pebble gives up when a file cannot be written. Of tables it writes another one.
func precious(name string) bool {
	base := filepath.Base(name)
	return strings.HasSuffix(base, ".log") || strings.HasPrefix(base, "MANIFEST")
}

// Create implements vfs.FS.
func (fs *patientFS) Create(name string, kind vfs.DiskWriteCategory) (f vfs.File, err error) {
	if !precious(name) {
		return fs.FS.Create(name, kind)
	}
	err = fs.insist(func() (err error) {
		f, err = fs.FS.Create(name, kind)
		return err
	})
	return fs.patient(f, err)
}

// ReuseForWrite implements vfs.FS.
func (fs *patientFS) ReuseForWrite(old, name string, kind vfs.DiskWriteCategory) (f vfs.File, err error) {
	if !precious(name) {
		return fs.FS.ReuseForWrite(old, name, kind)
	}
	err = fs.insist(func() (err error) {
		f, err = fs.FS.ReuseForWrite(old, name, kind)
		return err
	})
	return fs.patient(f, err)
}

func (fs *patientFS) patient(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &patientFile{File: f, fs: fs}, nil
}

// Lock implements vfs.FS. Where nothing can be written nobody has to be kept from it.
func (fs *patientFS) Lock(name string) (io.Closer, error) {
	l, err := fs.FS.Lock(name)
	if fs.readOnly && Unwritable(err) != nil {
		return io.NopCloser(nil), nil
	}
	return l, err
}

// Unwrap implements vfs.FS.
func (fs *patientFS) Unwrap() vfs.FS { return fs.FS }

// patientFile is a file that Pebble cannot do without.
type patientFile struct {
	vfs.File
	fs *patientFS
}

// Write implements vfs.File. What a full disk has taken of p is not written again.
func (f *patientFile) Write(p []byte) (n int, err error) {
	err = f.fs.insist(func() error {
		m, err := f.File.Write(p[n:])
		n += m
		return err
	})
	return n, err
}

// Preallocate implements vfs.File. It only makes writes faster: where there is no space for it they show whether there is for them.
func (f *patientFile) Preallocate(offset, length int64) error {
	err := f.File.Preallocate(offset, length)
	if Unwritable(err) != nil {
		return nil
	}
	return err
}
