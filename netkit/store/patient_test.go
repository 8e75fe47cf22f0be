package store

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// brokenDisk fails writes to the log of a database while it is told to.
type brokenDisk struct {
	on     atomic.Bool
	failed chan struct{} // gets one for the first write that failed
	why    error
}

func (b *brokenDisk) fs() vfs.FS {
	return errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !b.on.Load() || !strings.HasSuffix(op.Path, ".log") || op.Kind != errorfs.OpFileWrite && op.Kind != errorfs.OpCreate {
			return nil
		}
		select {
		case b.failed <- struct{}{}:
		default:
		}
		return b.why
	}))
}

// TestDiskTakesNoWrites: a write that is under way when the disk is full, or read-only, waits; later ones are refused; reads go on; and all goes
// on by itself when the disk takes writes again.
func TestDiskTakesNoWrites(t *testing.T) {
	for why, want := range map[syscall.Errno]error{syscall.ENOSPC: ErrFull, syscall.EDQUOT: ErrFull, syscall.EROFS: ErrReadOnly} {
		disk := &brokenDisk{failed: make(chan struct{}, 1), why: why}
		db := openDB(t, disk.fs())
		if err := db.Write(map[string][]byte{"a": []byte("1")}); err != nil {
			t.Fatal(err)
		}
		disk.on.Store(true)
		waiting := make(chan error, 1)
		go func() { waiting <- db.Write(map[string][]byte{"b": []byte("2")}) }()
		<-disk.failed
		for db.fs.why() == nil { // the write that failed says so next
		}
		if err := db.Write(map[string][]byte{"c": []byte("3")}); !errors.Is(err, want) || errors.Is(err, ErrBroken) {
			t.Errorf("%v: a write is answered %v", why, err)
		}
		if got, err := db.Get([]byte("a")); err != nil || string(got) != "1" {
			t.Errorf("%v: what was there is %q, %v", why, got, err)
		}
		disk.on.Store(false)
		if err := <-waiting; err != nil {
			t.Errorf("%v: the write that waited: %v", why, err)
		}
		if err := db.Write(map[string][]byte{"c": []byte("3")}); err != nil {
			t.Errorf("%v: a write afterwards: %v", why, err)
		}
		if got := contents(t, db, ""); len(got) != 3 {
			t.Errorf("%v: it has %v", why, got)
		}
		if err := db.Close(); err != nil {
			t.Errorf("%v: close: %v", why, err)
		}
	}
}

// TestCloseDoesNotWaitForTheDisk: what waits fails then.
func TestCloseDoesNotWaitForTheDisk(t *testing.T) {
	disk := &brokenDisk{failed: make(chan struct{}, 1), why: syscall.ENOSPC}
	db := openDB(t, disk.fs())
	disk.on.Store(true)
	waiting := make(chan error, 1)
	go func() { waiting <- db.Write(map[string][]byte{"b": []byte("2")}) }()
	<-disk.failed
	db.fs.giveUp()
	if err := <-waiting; !errors.Is(err, ErrBroken) {
		t.Errorf("the write that waited: %v", err)
	}
	if err := db.Close(); err == nil {
		t.Error("closing said nothing of the failed write")
	}
}

// scarce is a file system that says how much is free.
type scarce struct {
	vfs.FS
	free atomic.Uint64
}

func (s *scarce) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: s.free.Load()}, nil
}

// TestReserve: writes are refused before the disk is full, and go on when there is space.
func TestReserve(t *testing.T) {
	fs := &scarce{FS: vfs.NewMem()}
	fs.free.Store(8 << 20)
	db := openDB(t, fs)
	if err := db.Write(map[string][]byte{"a": []byte("1")}); err != nil {
		t.Fatal(err)
	}
	fs.free.Store(8<<20 - 1)
	if err := db.Write(map[string][]byte{"a": []byte("2")}); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	if _, err := Open("other", Config{FS: fs}); !errors.Is(err, ErrFull) {
		t.Errorf("another one was opened: %v", err)
	}
	if got, err := db.Get([]byte("a")); err != nil || string(got) != "1" {
		t.Errorf("it has %q, %v", got, err)
	}
	fs.free.Store(8 << 20)
	if err := db.Write(map[string][]byte{"a": []byte("3")}); err != nil {
		t.Errorf("with space again: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// TestReadOnly: what is there is read where nothing can be written, not even a lock.
func TestReadOnly(t *testing.T) {
	mem, disk := vfs.NewMem(), atomic.Bool{}
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if disk.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.EROFS
		}
		return nil
	}))
	db := openDB(t, fs)
	if err := db.Write(map[string][]byte{"a": []byte("1")}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	disk.Store(true)
	db, err := Open("db", Config{FS: fs, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := db.Get([]byte("a")); err != nil || string(got) != "1" {
		t.Errorf("it has %q, %v", got, err)
	}
	if err := db.Write(map[string][]byte{"a": []byte("2")}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a write: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
