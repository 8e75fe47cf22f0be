package logstore

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"lukechampine.com/blake3/bao"
	"pgregory.net/rapid"

	"dibber/netkit/bamboo"
)

// filedEntries are entries with payloads that are files, short and long ones, and the store that has them.
func filedEntries(t T, n int) (*Store, []Record) {
	t.Helper()
	s := open(t, config(vfs.NewMem()))
	var payloads []Payload
	for i := range n {
		size := InlineMax + 1 + i
		if i%4 == 2 {
			size += treeless
		}
		p, err := s.NewPayload(bytes.NewReader(noise(size)))
		if err != nil {
			t.Fatal(err)
		}
		payloads = append(payloads, p)
	}
	out, err := s.Append(keyN(3), 0, payloads...)
	if err != nil {
		t.Fatal(err)
	}
	return s, out
}

// deliver takes the files of entries.
func deliver(d *Delivery, from *Store, run []Record) error {
	for i := range run {
		var slice bytes.Buffer
		hash, size := run[i].PayloadHash, run[i].PayloadSize
		if err := from.SendPayload(&slice, hash, d.Held(hash, size)); err != nil {
			return err
		}
		if err := d.Receive(hash, size, &slice); err != nil {
			return err
		}
	}
	return nil
}

// TestNothingCountsBeforeItIsSettled: the entries of files that were received are taken once all are settled, not before, and a crash
// takes none of them then.
func TestNothingCountsBeforeItIsSettled(t *testing.T) {
	from, run := filedEntries(t, 8)
	defer closed(t, from)
	fs := vfs.NewCrashableMem()
	s := open(t, config(fs))
	defer closed(t, s)
	d := s.Deliver()
	if err := deliver(d, from, run); err != nil {
		t.Fatal(err)
	}
	d.flush()
	d.running.Wait()
	if _, err := s.Put(run); !errors.Is(err, ErrPayloadMissing) {
		t.Errorf("entries whose files a crash would take: %v", err)
	}
	again := s.Deliver() // finds the files where they are, and settles them too
	if err := deliver(again, from, run[:1]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(again.Settle(), d.Settle()); err != nil {
		t.Fatal(err)
	}
	put(t, s, run)
	crashed := open(t, config(fs.CrashClone(vfs.CrashCloneCfg{})))
	defer closed(t, crashed)
	if report, err := crashed.Verify(t.Context(), VerifyConfig{}); err != nil || report.Found > 0 || report.Files != len(run) {
		t.Errorf("after the crash: %+v, %v", report, err)
	}
}

// TestFileThatCannotBeSynced: nobody knows what of it is on disk, so it is received anew; the others stay.
func TestFileThatCannotBeSynced(t *testing.T) {
	from, run := filedEntries(t, 3)
	defer closed(t, from)
	broken := errors.New("disk is gone")
	for _, folder := range []bool{false, true} {
		var once sync.Once
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) (err error) {
			name := vfs.Default.PathBase(vfs.Default.PathDir(op.Path))
			if bad := op.Kind == errorfs.OpFileSync; bad && (name == "part") == !folder && slices.Contains([]string{"part", "payloads"}, name) {
				once.Do(func() { err = broken })
			}
			return err
		}))
		s := open(t, config(fs))
		d := s.Deliver()
		if err := errors.Join(deliver(d, from, run), d.Settle()); !errors.Is(err, broken) {
			t.Fatalf("settled: %v", err)
		}
		if _, err := s.Put(run); !errors.Is(err, ErrPayloadMissing) {
			t.Errorf("entries of files that nobody synced: %v", err)
		}
		d = s.Deliver()
		if err := errors.Join(deliver(d, from, run), d.Settle()); err != nil {
			t.Fatal(err)
		}
		put(t, s, run)
		closed(t, s)
	}
}

// TestSlicesAreThoseOfTheLibrary compares what is sent of payloads in memory, from any byte on, with the library's encoding.
func TestSlicesAreThoseOfTheLibrary(t *testing.T) {
	s := open(t, config(vfs.NewMem()))
	defer closed(t, s)
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(InlineMax+1, treeless).Draw(t, "size")
		from := rapid.IntRange(0, size-1).Draw(t, "from")
		data := noise(size)
		p, err := s.NewPayload(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		tree, root := bao.EncodeBuf(data, group, true)
		var want, got bytes.Buffer
		skipped := from / groupSize * groupSize
		if err := bao.ExtractSlice(&want, bytes.NewReader(data[skipped:]), bytes.NewReader(tree), group, uint64(from), uint64(size-from)); err != nil {
			t.Fatal(err)
		}
		if err := s.SendPayload(&got, p.Hash, uint64(from)); err != nil || bamboo.Hash(root) != p.Hash {
			t.Fatal(err)
		}
		if !bytes.Equal(want.Bytes(), got.Bytes()) {
			t.Fatal("another slice")
		}
	})
}

// TestShortFileThatRotted is not sent.
func TestShortFileThatRotted(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, config(fs))
	defer closed(t, s)
	p, err := s.NewPayload(bytes.NewReader(noise(3 * InlineMax)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(keyN(1), 0, p); err != nil {
		t.Fatal(err)
	}
	for _, change := range []func([]byte) []byte{flip(InlineMax), func(b []byte) []byte { return b[:len(b)-1] }} {
		whole := noise(3 * InlineMax)
		if err := writeFile(fs, s.file(p.Hash), change(whole)); err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{s.SendPayload(io.Discard, p.Hash, 0), s.ReadPayload(io.Discard, p.Hash)} {
			if _, rotten := errors.AsType[*CorruptError](err); !rotten {
				t.Errorf("sent or read: %v", err)
			}
		}
		report, err := s.Verify(t.Context(), VerifyConfig{Repair: true})
		if err != nil || report.Found != 1 || !report.Repaired {
			t.Errorf("%+v, %v", report, err)
		}
		if held := s.HeldPayload(p.Hash, p.Size); held != 0 {
			t.Errorf("%d bytes of it are held after the repair", held)
		}
	}
}

// TestManyFilesAtOnce: files on a real disk, more than one group of them, are all there once they are settled.
func TestManyFilesAtOnce(t *testing.T) {
	from, run := filedEntries(t, 3*groupFiles/2)
	defer closed(t, from)
	dir := t.TempDir()
	s := open(t, Config{Dir: filepath.Join(dir, "store"), Guard: filepath.Join(dir, "guard", "own-heads")})
	defer closed(t, s)
	d := s.Deliver()
	if err := errors.Join(deliver(d, from, run), d.Settle()); err != nil {
		t.Fatal(err)
	}
	put(t, s, run)
	report, err := s.Verify(t.Context(), VerifyConfig{})
	if err != nil || report.Found > 0 || report.Files != len(run) {
		t.Errorf("%+v, %v", report, err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "store", "payloads", "part")); err != nil || len(left) > 0 {
		t.Errorf("left on their way: %v, %v", left, err)
	}
}
