package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func openDB(t testing.TB, fs vfs.FS) *DB {
	t.Helper()
	db, err := Open("db", Config{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func contents(t testing.TB, db *DB, prefix string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	last := ""
	err := db.Scan([]byte(prefix), func(key, value []byte) error {
		if string(key) < last {
			t.Errorf("key %q after %q", key, last)
		}
		last = string(key)
		out[last] = string(value)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWriteGetScan(t *testing.T) {
	db, err := Open(t.TempDir(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, changes := range []map[string][]byte{
		{"a/1": []byte("x"), "a/2": {}, "b": []byte("y"), "\xff\xff": []byte("z")},
		{"a/1": nil, "a/3": []byte("w"), "absent": nil},
	} {
		if err := db.Write(changes); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := db.Get([]byte("b")); err != nil || string(got) != "y" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := db.Get([]byte("a/1")); !errors.Is(err, ErrNotFound) {
		t.Errorf("a deleted key is %q, %v", got, err)
	}
	for prefix, want := range map[string]map[string]string{
		"a/":   {"a/2": "", "a/3": "w"},
		"\xff": {"\xff\xff": "z"},
		"":     {"a/2": "", "a/3": "w", "b": "y", "\xff\xff": "z"},
	} {
		if diff := cmp.Diff(want, contents(t, db, prefix)); diff != "" {
			t.Errorf("prefix %q: %s", prefix, diff)
		}
	}
	stop := errors.New("stop")
	if err := db.Scan(nil, func(_, _ []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("scan returned %v", err)
	}
}

// TestCrash writes batches, crashes the file system at any of them, and opens
// what is left, which needs no repair: all that was acknowledged is there, and
// of a batch all or nothing.
func TestCrash(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		fs := vfs.NewCrashableMem()
		db := openDB(t, fs)
		want := make(map[string]string)
		for i := range rapid.IntRange(1, 10).Draw(rt, "batches") {
			changes := make(map[string][]byte)
			for range rapid.IntRange(1, 5).Draw(rt, "changes") {
				key := fmt.Sprint(rapid.IntRange(0, 9).Draw(rt, "key"))
				if rapid.Bool().Draw(rt, "delete") {
					changes[key] = nil
					delete(want, key)
					continue
				}
				changes[key] = fmt.Append(nil, i)
				want[key] = fmt.Sprint(i)
			}
			if err := db.Write(changes); err != nil {
				rt.Fatal(err)
			}
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{})
		if err := db.Close(); err != nil {
			rt.Fatal(err)
		}
		survivor := openDB(t, crashed)
		defer survivor.Close()
		if diff := cmp.Diff(want, contents(t, survivor, "")); diff != "" {
			rt.Fatal(diff)
		}
	})
}

// TestDiskError fails the sync of the log: the write is refused, and so are
// all later ones, while the process lives on.
func TestDiskError(t *testing.T) {
	toggle := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.HasSuffix(op.Path, ".log") && op.Kind != errorfs.OpFileClose {
			return errorfs.ErrInjected
		}
		return nil
	})}
	db := openDB(t, errorfs.Wrap(vfs.NewMem(), toggle))
	if err := db.Write(map[string][]byte{"a": []byte("1")}); err != nil {
		t.Fatal(err)
	}
	toggle.On()
	if err := db.Write(map[string][]byte{"b": []byte("2")}); !errors.Is(err, ErrBroken) {
		t.Errorf("a write the disk refused: %v", err)
	}
	toggle.Off()
	if err := db.Write(map[string][]byte{"c": []byte("3")}); !errors.Is(err, ErrBroken) {
		t.Errorf("a later write: %v", err)
	}
	if got, err := db.Get([]byte("a")); err != nil || string(got) != "1" {
		t.Errorf("what was there before is %q, %v", got, err)
	}
	if err := db.Close(); err == nil {
		t.Error("closing said nothing of the failed write")
	}
}

func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	db, err := Open(dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if second, err := Open(dir, Config{}); err == nil {
		_ = second.Close()
		t.Error("opened twice")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = Open(dir, Config{}); err != nil {
		t.Fatalf("after closing: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
