package backup_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dibber/netkit/backup"
	"dibber/netkit/store"

	"github.com/google/go-cmp/cmp"
)

var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		at := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o700), os.WriteFile(at, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// contents are the files below a folder.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		rel, _ := filepath.Rel(dir, name)
		out[filepath.ToSlash(rel)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func write(t *testing.T, src backup.Source) []byte {
	t.Helper()
	var out bytes.Buffer
	m, err := backup.Write(t.Context(), &out, src, now)
	if err != nil {
		t.Fatal(err)
	}
	if m.Node != src.Node || !m.Made.Equal(now) {
		t.Errorf("%+v", m)
	}
	return out.Bytes()
}

func TestFilesComeBack(t *testing.T) {
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "new", "state")
	files := map[string]string{"identity.key": "secret", "empty": "", "a/b/c": "deep"}
	put(t, dir, files)
	put(t, dir, map[string]string{"lock": "1", "guard/own-heads.0": "x", ".backup-1/db": "left"})
	data := write(t, backup.Source{Dir: dir, Skip: []string{"guard"}, Node: "me"})
	m, err := backup.Restore(bytes.NewReader(data), to)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(files, contents(t, to)); diff != "" {
		t.Error(diff)
	}
	if seen, err := backup.Verify(bytes.NewReader(data)); err != nil || !cmp.Equal(seen, m) {
		t.Errorf("%+v, %v", seen, err)
	}
	if len(m.Files) != 3 || m.Bytes() != 10 {
		t.Errorf("%+v", m)
	}
	if info, err := os.Stat(filepath.Join(to, "identity.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := backup.Clean(dir); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".backup-*")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestDatabaseInUse: a database is backed up as it is at one moment, while others write to it.
func TestDatabaseInUse(t *testing.T) {
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "state")
	db, err := store.Open(filepath.Join(dir, "registry"), store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	pair := func(i int) map[string][]byte {
		n := []byte(fmt.Sprint(i))
		return map[string][]byte{"a": n, "b": n}
	}
	if err := db.Write(pair(0)); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
				if err := db.Write(pair(i)); err != nil {
					done <- err
					return
				}
			}
		}
	}()
	data := write(t, backup.Source{Dir: dir, Open: map[string]func(string) error{"registry": db.Checkpoint}})
	close(stop)
	if err := errors.Join(<-done, db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Restore(bytes.NewReader(data), to); err != nil {
		t.Fatal(err)
	}
	again, err := store.Open(filepath.Join(to, "registry"), store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	a, errA := again.Get([]byte("a"))
	b, errB := again.Get([]byte("b"))
	if err := errors.Join(errA, errB, again.Close()); err != nil || !bytes.Equal(a, b) {
		t.Errorf("%s and %s: %v", a, b, err)
	}
}

// TestStoreOfAnotherProcess: what another process may be writing is not copied behind its back.
func TestStoreOfAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	l, err := store.Lock(filepath.Join(dir, "replicate"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = backup.Write(t.Context(), new(bytes.Buffer), backup.Source{Dir: dir}, now)
	if _, locked := errors.AsType[*store.LockedError](err); !locked {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, backup.Source{Dir: dir})
	if l, err = store.Lock(filepath.Join(dir, "replicate")); err != nil {
		t.Fatalf("it stays locked: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSpoiltArchives: an archive that was cut or altered anywhere is found out, and leaves nothing behind.
func TestSpoiltArchives(t *testing.T) {
	dir, parent := t.TempDir(), t.TempDir()
	put(t, dir, map[string]string{"identity.key": "secret", "bans.json": "{}"})
	data := write(t, backup.Source{Dir: dir})
	nothing := func(what string, data []byte, want error) {
		t.Helper()
		_, err := backup.Restore(bytes.NewReader(data), filepath.Join(parent, "state"))
		_, seen := backup.Verify(bytes.NewReader(data))
		if !errors.Is(err, want) || !errors.Is(seen, want) {
			t.Errorf("%s: %v, %v", what, err, seen)
		}
		if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
			t.Fatalf("%s: left %v, %v", what, left, err)
		}
	}
	end := bytes.LastIndex(data, []byte("}]}")) + 3
	for n := 0; n < end; n += 97 {
		nothing(fmt.Sprint("cut at ", n), data[:n], backup.ErrArchive)
	}
	nothing("altered", bytes.Replace(data, []byte("secret"), []byte("secreT"), 1), backup.ErrArchive)
	nothing("newer", bytes.Replace(data, []byte(`{"format":1`), []byte(`{"format":2`), 1), backup.ErrNewer)
	for _, name := range []string{"../out", "/out", "a/../../out"} {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		if err := errors.Join(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600}), w.Close()); err != nil {
			t.Fatal(err)
		}
		nothing(name, out.Bytes(), backup.ErrArchive)
	}
	full := t.TempDir()
	put(t, full, map[string]string{"x": "y"})
	if _, err := backup.Restore(bytes.NewReader(data), full); !errors.Is(err, backup.ErrNotEmpty) {
		t.Error(err)
	}
	if diff := cmp.Diff(map[string]string{"x": "y"}, contents(t, full)); diff != "" {
		t.Error(diff)
	}
}

// TestFolderOfALaterVersion: what only a newer dibber can read is not put in place.
func TestFolderOfALaterVersion(t *testing.T) {
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "state")
	put(t, dir, map[string]string{"format": "7\n", "identity.key": "x"})
	_, err := backup.Restore(bytes.NewReader(write(t, backup.Source{Dir: dir})), to)
	if newer, ok := errors.AsType[*store.NewerError](err); !ok || newer.Dir != to {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is there: %v", err)
	}
}
