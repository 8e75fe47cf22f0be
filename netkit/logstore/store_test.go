package logstore

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"dibber/netkit/bamboo"
	"dibber/netkit/negentropy"
	"dibber/netkit/store"
)

func TestPutAndRead(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, config(fs))
	a, b := runOf(t, keyN(1), 0, 1500, 1000), runOf(t, keyN(2), 7, 20, 1200)
	if res, err := s.Put(a[:900]); err != nil || res.Added != 900 || res.Known != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	if res, err := s.Put(a[800:]); err != nil || res.Added != 600 || res.Known != 100 {
		t.Fatalf("%+v, %v", res, err)
	}
	if res, err := s.Put(a); err != nil || res.Added != 0 || res.Known != 1500 {
		t.Fatalf("%+v, %v", res, err)
	}
	put(t, s, b)
	holds(t, s, a, b)
	closed(t, s)
	s = open(t, config(fs))
	defer closed(t, s)
	holds(t, s, a, b)
}

func TestPutRefuses(t *testing.T) {
	s := open(t, config(vfs.NewMem()))
	defer closed(t, s)
	a := runOf(t, keyN(1), 0, 20, 0)
	put(t, s, a[:10])
	var gap *GapError
	if _, err := s.Put(a[11:]); !errors.As(err, &gap) || gap.Height != 10 || gap.Got != 12 {
		t.Errorf("a gap: %v", err)
	}
	var link *bamboo.LinkError
	if _, err := s.Put([]Record{a[10], a[12]}); !errors.As(err, &link) {
		t.Errorf("a gap inside: %v", err)
	}
	if _, err := s.Put([]Record{a[10], runOf(t, keyN(2), 0, 12, 0)[11]}); !errors.As(err, &link) {
		t.Errorf("two logs: %v", err)
	}
	bad := slices.Clone(a[10:12])
	bad[1].Payload = []byte("another")
	if _, err := s.Put(bad); !errors.Is(err, bamboo.ErrPayload) {
		t.Errorf("another payload: %v", err)
	}
	raw := slices.Clone(a[11].Raw)
	raw[len(raw)-1] ^= 1
	forged, err := bamboo.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put([]Record{a[10], {Signed: forged, Payload: a[11].Payload}}); !errors.Is(err, bamboo.ErrSignature) {
		t.Errorf("a bad signature: %v", err)
	}
	late := slices.Clone(a[10:11])
	late[0].Time = negentropy.Forever
	if _, err := s.Put(late); err == nil {
		t.Error("a time behind all times was taken")
	}
	big := grow(t, keyN(1), 0, a[:10], 1, 0, func(int) []byte { return make([]byte, InlineMax+1) })
	big[10].Payload = nil
	if _, err := s.Put(big[10:]); !errors.Is(err, ErrPayloadMissing) {
		t.Errorf("no file: %v", err)
	}
	holds(t, s, a[:10])
}

// TestEnd: nothing follows the entry with which a log ends.
func TestEnd(t *testing.T) {
	s := open(t, config(vfs.NewMem()))
	defer closed(t, s)
	a := runOf(t, keyN(1), 0, 3, 0)
	last := a[1].Entry
	last.End = true
	copy(last.Signature[:], ed25519.Sign(keyN(1), last.Append(nil)[:len(a[1].Raw)-ed25519.SignatureSize]))
	var err error
	if a[1].Signed, err = bamboo.Parse(last.Append(nil)); err != nil {
		t.Fatal(err)
	}
	put(t, s, a[:2])
	if _, err := s.Put(a[2:]); !errors.Is(err, ErrEnded) {
		t.Errorf("put: %v", err)
	}
	if _, err := s.Append(keyN(1), 0, PayloadOf(nil)); !errors.Is(err, ErrEnded) {
		t.Errorf("append: %v", err)
	}
	holds(t, s, a[:2])
}

// TestFork shows two branches to a store, which keeps the first, stops it, and knows the proof of the other.
func TestFork(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, config(fs))
	other := func(i int) []byte { return fmt.Append(nil, "other ", i) }
	a := runOf(t, keyN(1), 0, 20, 0)
	b := grow(t, keyN(1), 0, a[:5], 10, 0, other)
	put(t, s, a[:15])
	res, err := s.Put(b)
	if !errors.Is(err, ErrForked) || res.Fork == nil || res.Fork.Seq != 6 || res.Known != 5 || res.Added != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	if _, err := s.Put(a); !errors.Is(err, ErrForked) {
		t.Errorf("extended: %v", err)
	}
	var link *bamboo.LinkError
	if _, err := s.Put(b[10:]); !errors.Is(err, ErrForked) || errors.As(err, &link) {
		t.Errorf("the other branch further up: %v", err)
	}
	closed(t, s)
	s = open(t, config(fs))
	defer closed(t, s)
	view(t, s, func(v *View) {
		var forks []Fork
		if err := v.Forks(func(f Fork) error { forks = append(forks, f); return nil }); err != nil {
			t.Fatal(err)
		}
		want := []Fork{{Author: authorN(1), Seq: 6, Kept: a[5], Other: b[5]}}
		if diff := cmp.Diff(want, forks[:1]); diff != "" {
			t.Error(diff)
		}
		if h, err := v.Head(authorN(1), 0); err != nil || h.Fork != 6 || h.Height != 15 {
			t.Errorf("head %+v, %v", h, err)
		}
		if r, err := v.Entry(authorN(1), 0, 15); err != nil || r.ID != a[14].ID {
			t.Errorf("the branch that was kept: %v", err)
		}
	})
}

// TestForkedRootsAgree: two stores that saw the branches in turns, and one that was only told, have one root when all know the fork.
func TestForkedRootsAgree(t *testing.T) {
	a := runOf(t, keyN(1), 0, 9, 0)
	b := grow(t, keyN(1), 0, a[:5], 3, 0, func(i int) []byte { return fmt.Append(nil, "other ", i) })
	var roots [][32]byte
	for i, first := range [][]Record{a, b, a[:5]} {
		s := open(t, config(vfs.NewMem()))
		put(t, s, first)
		switch i {
		case 2:
			if added, err := s.PutFork(b[5].Signed, a[5].Signed); !added || err != nil {
				t.Fatal(added, err)
			}
			if added, err := s.PutFork(a[5].Signed, b[5].Signed); added || err != nil {
				t.Fatal(added, err)
			}
		default:
			if _, err := s.Put([][]Record{b, a}[i]); !errors.Is(err, ErrForked) {
				t.Fatal(err)
			}
		}
		view(t, s, func(v *View) { roots = append(roots, v.Root()) })
		closed(t, s)
	}
	if roots[0] != roots[1] || roots[0] != roots[2] {
		t.Errorf("roots %x", roots)
	}
}

func TestPutForkRefuses(t *testing.T) {
	s := open(t, config(vfs.NewMem()))
	defer closed(t, s)
	a, b, c := runOf(t, keyN(1), 0, 2, 0), runOf(t, keyN(1), 1, 2, 0), runOf(t, keyN(2), 0, 2, 0)
	forged := a[0].Entry
	forged.PayloadSize++
	signed, err := bamboo.Parse(forged.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]bamboo.Signed{
		"the same": a[0].Signed, "another number": a[1].Signed, "another log": b[0].Signed, "another author": c[0].Signed, "not signed": signed,
	} {
		if added, err := s.PutFork(a[0].Signed, other); err == nil || added {
			t.Errorf("%s was taken for a fork", name)
		}
	}
}

// TestTwoRuns: runs of one log that come at once are stored once.
func TestTwoRuns(t *testing.T) {
	s := open(t, config(vfs.NewMem()))
	defer closed(t, s)
	a := runOf(t, keyN(1), 0, 200, 0)
	var wg sync.WaitGroup
	added := make([]int, 8)
	for i := range added {
		wg.Go(func() {
			for end := 20; end <= len(a); end += 20 {
				res, err := s.Put(a[:end])
				if err != nil {
					t.Error(err)
				}
				added[i] += res.Added
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range added {
		sum += n
	}
	if sum != len(a) {
		t.Errorf("%d entries were added, want %d", sum, len(a))
	}
	holds(t, s, a)
}

// TestSummaries puts runs whose times interleave, also all in one batch, and compares every sum with a naive one.
func TestSummaries(t *testing.T) {
	t.Parallel()
	logs := make([][]Record, 4)
	for i := range logs {
		logs[i] = runOf(t, keyN(i), 0, 1300, 0)
	}
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewMem()
		s := open(t, config(fs))
		mine := make([][]Record, len(logs))
		for i := range logs {
			mine[i] = slices.Clone(logs[i])
			step := rapid.Uint64Range(0, 3).Draw(t, "step")
			for j := range mine[i] {
				mine[i][j].Time = uint64(j) * step
			}
		}
		have := make([]int, len(logs))
		for range rapid.IntRange(1, 8).Draw(t, "runs") {
			i := rapid.IntRange(0, len(logs)-1).Draw(t, "log")
			n := min(have[i]+rapid.IntRange(1, 900).Draw(t, "entries"), len(mine[i]))
			put(t, s, mine[i][have[i]:n])
			have[i] = n
		}
		for i := range mine {
			mine[i] = mine[i][:have[i]]
		}
		holds(t, s, mine...)
		for _, b := range s.view.blocks {
			if b.sum.Count > blockMax {
				t.Fatalf("a block of %d", b.sum.Count)
			}
		}
		closed(t, s)
		s = open(t, config(fs))
		defer closed(t, s)
		holds(t, s, mine...)
	})
}

func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir + "/store", Guard: dir + "/own-heads"}
	if _, err := Open(Config{Dir: cfg.Dir, Guard: cfg.Guard, Existing: true}); !errors.Is(err, ErrNoStore) {
		t.Errorf("no store: %v", err)
	}
	s := open(t, cfg)
	var locked *store.LockedError
	if _, err := Open(cfg); !errors.As(err, &locked) || !strings.Contains(err.Error(), "in use by process") {
		t.Errorf("opened twice: %v", err)
	}
	closed(t, s)
	cfg.Existing = true
	s = open(t, cfg)
	closed(t, s)
	if _, err := s.Put(runOf(t, keyN(1), 0, 1, 0)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := s.View(); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	closed(t, s)
}

// TestNearlyFull: what would leave too little is refused, and the store goes on.
func TestNearlyFull(t *testing.T) {
	fs := vfs.NewMem()
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30})
	s := open(t, config(fs))
	defer closed(t, s)
	a := runOf(t, keyN(1), 0, 10, 0)
	put(t, s, a[:5])
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 20})
	if _, err := s.Put(a); !errors.Is(err, ErrDiskFull) {
		t.Errorf("put: %v", err)
	}
	if _, err := s.NewPayload(strings.NewReader(strings.Repeat("x", InlineMax+1))); !errors.Is(err, ErrDiskFull) {
		t.Errorf("payload: %v", err)
	}
	holds(t, s, a[:5])
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30})
	put(t, s, a)
	holds(t, s, a)
}

// TestDiskError: what the disk refused is not there, neither now nor later, and what was acknowledged is.
func TestDiskError(t *testing.T) {
	for _, files := range []string{".log", ".mark"} {
		t.Run(files, func(t *testing.T) {
			toggle := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
				if strings.HasSuffix(op.Path, files) && op.Kind != errorfs.OpFileClose {
					return errorfs.ErrInjected
				}
				return nil
			})}
			mem := vfs.NewCrashableMem()
			s := open(t, config(errorfs.Wrap(mem, toggle)))
			a := runOf(t, keyN(1), 0, 10, 0)
			put(t, s, a[:5])
			toggle.On()
			if _, err := s.Put(a); err == nil {
				t.Error("put, though the disk refused")
			}
			toggle.Off()
			if _, err := s.Put(a); err == nil {
				t.Error("put after the disk had refused")
			}
			holds(t, s, a[:5])
			crashed := mem.CrashClone(vfs.CrashCloneCfg{})
			_ = s.Close() // it says again what failed
			s = open(t, config(crashed))
			defer closed(t, s)
			put(t, s, a)
			holds(t, s, a)
		})
	}
}
