package logstore

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// small makes a store of a few entries, signed here or by another, which are in the write-ahead log only if flushed is false.
func small(t *testing.T, flushed, own bool) (fs *vfs.MemFS, run []Record) {
	t.Helper()
	fs = vfs.NewMem()
	s := open(t, config(fs))
	if own {
		run = append1(t, s, 0, text(0), text(1))
		run = append(run, append1(t, s, 0, text(2))...)
	} else {
		run = runOf(t, keyN(1), 0, 3, 0)
		put(t, s, run[:2])
		put(t, s, run)
	}
	if flushed {
		if err := s.db.Pebble().Flush(); err != nil {
			t.Fatal(err)
		}
	}
	closed(t, s)
	return fs, run
}

// kinds are the ways in which the entries of a small store can be on disk.
func kinds(t *testing.T, test func(t *testing.T, fs *vfs.MemFS, run []Record)) {
	for name, kind := range map[string]struct{ flushed, own bool }{
		"own in the log": {false, true}, "own in tables": {true, true}, "others in the log": {false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs, run := small(t, kind.flushed, kind.own)
			test(t, fs, run)
		})
	}
}

// honest opens a store and reads it: whatever was done to it, it says so or holds every entry. What was done is described for the
// message.
func honest(t *testing.T, fs vfs.FS, run []Record, what string, args ...any) (noticed bool) {
	t.Helper()
	s, err := Open(config(fs))
	if err != nil {
		return true
	}
	defer func() { _ = s.Close() }() // a damaged database says so once more
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	i := 0
	err = v.Run(authorN(1), 0, 1, 100, func(r Record) error {
		if r.ID != run[i].ID || !bytes.Equal(r.Payload, run[i].Payload) {
			t.Errorf(what+": entry %d is another", append(args, r.Seq)...)
		}
		i++
		return nil
	})
	if err != nil {
		return true
	}
	if i != len(run) {
		t.Errorf(what+": %d entries of %d, and nobody said so", append(args, i, len(run))...)
	}
	return false
}

// files are those in a folder that hold data. The options of the database are text about how it was set up.
func files(t *testing.T, fs vfs.FS, dir string) []string {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		if info, err := fs.Stat(path); err == nil && !info.IsDir() && info.Size() > 0 && !strings.HasPrefix(name, "OPTIONS") {
			out = append(out, path)
		}
	}
	return out
}

// TestBitRot turns a bit in every byte of every file of a small store that holds data.
func TestBitRot(t *testing.T) {
	kinds(t, func(t *testing.T, fs *vfs.MemFS, run []Record) {
		offsets, noticed := 0, 0
		for _, path := range files(t, fs, "store/db") {
			data, err := readFile(fs, path, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			for i := range data {
				if i%stride != 0 {
					continue
				}
				turned := bytes.Clone(data)
				turned[i] ^= 1 << (i % 8)
				clone := without(t, fs, "")
				if err := writeFile(clone, path, turned); err != nil {
					t.Fatal(err)
				}
				offsets++
				if honest(t, clone, run, "%s: bit %d of byte %d turned", path, i%8, i) {
					noticed++
				}
			}
		}
		if noticed == 0 {
			t.Errorf("none of %d turned bits was noticed", offsets)
		}
		t.Logf("%d of %d turned bits matter and were noticed", noticed, offsets)
	})
}

// TestTruncation cuts every file of a small store that holds data everywhere, and removes it.
func TestTruncation(t *testing.T) {
	kinds(t, func(t *testing.T, fs *vfs.MemFS, run []Record) {
		for _, path := range files(t, fs, "store/db") {
			data, err := readFile(fs, path, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			for i := range data {
				if i%stride != 0 {
					continue
				}
				clone := without(t, fs, "")
				if err := writeFile(clone, path, data[:i]); err != nil {
					t.Fatal(err)
				}
				honest(t, clone, run, "%s: cut after %d of %d bytes", path, i, len(data))
			}
			clone := without(t, fs, "")
			if err := clone.Remove(path); err != nil {
				t.Fatal(err)
			}
			honest(t, clone, run, "%s: removed", path)
		}
	})
}

// TestDamagedLogIsCut: what is before the damage is opened when the loss is accepted, under another epoch, and can be filled up.
func TestDamagedLogIsCut(t *testing.T) {
	fs, run := small(t, false, true)
	var log string
	for _, path := range files(t, fs, "store/db") {
		if strings.HasSuffix(path, ".log") {
			log = path
		}
	}
	data, err := readFile(fs, log, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for i := 0; i < len(data); i += 97 {
		clone := without(t, fs, "")
		turned := bytes.Clone(data)
		turned[i] ^= 1
		if err := writeFile(clone, log, turned); err != nil {
			t.Fatal(err)
		}
		cfg := config(clone)
		if s, err := Open(cfg); err == nil {
			closed(t, s)
			continue
		} else if _, ok := errors.AsType[*LostError](err); !ok {
			t.Fatalf("byte %d: %v", i, err)
		}
		cfg.AcceptLoss = true
		s := open(t, cfg)
		if report, err := s.Verify(t.Context(), VerifyConfig{}); err != nil || report.Found > 0 {
			t.Fatalf("byte %d: %+v, %v", i, report, err)
		}
		if _, err := s.Append(keyN(1), 0, PayloadOf(nil)); !errors.Is(err, ErrGuard) {
			t.Fatalf("byte %d: signed: %v", i, err)
		}
		put(t, s, run)
		if err := s.Recover(); err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
		holds(t, s, append(slices.Clip(run), append1(t, s, 0, text(3))...))
		closed(t, s)
		accepted++
	}
	if accepted == 0 {
		t.Error("no bit made a difference")
	}
}

// TestFullWhileOpening: a disk that is full is an error before anything is written, and the store opens when there is room again.
func TestFullWhileOpening(t *testing.T) {
	fs, run := small(t, false, true)
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 100})
	if _, err := Open(config(fs)); !errors.Is(err, ErrDiskFull) {
		t.Fatalf("opened: %v", err)
	}
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30})
	s := open(t, config(fs))
	defer closed(t, s)
	holds(t, s, run)
}
