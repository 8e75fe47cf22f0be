package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// copied is a copy of what a file system holds under some folder.
func copied(t T, from vfs.FS, to *vfs.MemFS, dir string) {
	t.Helper()
	if err := to.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := vfs.Clone(from, to, dir, dir, vfs.CloneSync); err != nil {
		t.Fatal(err)
	}
}

// without is a copy of a file system without one of the two folders of a store.
func without(t T, from vfs.FS, dir string) *vfs.MemFS {
	t.Helper()
	to := vfs.NewMem()
	for _, one := range []string{"store", "guard"} {
		if one != dir {
			copied(t, from, to, one)
		}
	}
	return to
}

func append1(t T, s *Store, log uint64, payloads ...[]byte) []Record {
	t.Helper()
	var all []Payload
	for _, p := range payloads {
		all = append(all, PayloadOf(p))
	}
	out, err := s.Append(keyN(1), log, all...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAppend(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, config(fs))
	h, err := s.CreateLog(authorN(1), "notes")
	if err != nil || h.Log != 0 || h.Name != "notes" || !h.Mine {
		t.Fatalf("%+v, %v", h, err)
	}
	if _, err := s.CreateLog(authorN(1), "notes"); !errors.Is(err, ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	if h, err := s.CreateLog(authorN(1), "more"); err != nil || h.Log != 1 {
		t.Errorf("%+v, %v", h, err)
	}
	var want []Record
	for i := range 30 { // with skiplinks into this batch and into former ones
		want = append(want, append1(t, s, 0, text(3*i), text(3*i+1), text(3*i+2))...)
	}
	holds(t, s, want)
	closed(t, s)
	s = open(t, config(fs))
	defer closed(t, s)
	if h, err := s.CreateLog(authorN(1), "third"); err != nil || h.Log != 2 {
		t.Errorf("%+v, %v", h, err)
	}
	want = append(want, append1(t, s, 0, nil)...)
	holds(t, s, want)
	// Somebody else proves it all from the entries alone.
	other := open(t, config(vfs.NewMem()))
	defer closed(t, other)
	put(t, other, want)
	holds(t, other, want)
}

// TestAppendsShareSyncs: appends that come at once are in one order and far fewer batches.
func TestAppendsShareSyncs(t *testing.T) {
	s := open(t, config(vfs.NewMem()))
	defer closed(t, s)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if _, err := s.Append(keyN(1), 0, PayloadOf(text(i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var run []Record
	view(t, s, func(v *View) {
		if err := v.Run(authorN(1), 0, 1, 100, func(r Record) error { run = append(run, r); return nil }); err != nil {
			t.Fatal(err)
		}
	})
	if len(run) != 50 {
		t.Fatalf("%d entries", len(run))
	}
	holds(t, s, run)
}

// TestRestoredBackup puts an old copy of the store back: nothing is signed until the log has come back from a peer.
func TestRestoredBackup(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, config(fs))
	if _, err := s.CreateLog(authorN(1), "notes"); err != nil {
		t.Fatal(err)
	}
	run := append1(t, s, 0, text(0), text(1))
	closed(t, s)
	backup := without(t, fs, "guard")
	s = open(t, config(fs))
	run = append(run, append1(t, s, 0, text(2), text(3))...)
	closed(t, s)

	copied(t, without(t, fs, "store"), backup, "guard")
	cfg := config(backup)
	var lost *LostError
	if _, err := Open(cfg); !errors.As(err, &lost) || lost.Held != 2 || lost.Acknowledged != 4 {
		t.Fatalf("opened an old copy: %v", err)
	}
	cfg.AcceptLoss = true
	s = open(t, cfg)
	cfg.AcceptLoss = false
	holds(t, s, run[:2])
	var behind *GuardError
	if _, err := s.Append(keyN(1), 0, PayloadOf(nil)); !errors.As(err, &behind) || behind.Published != 4 || behind.Held != 2 {
		t.Fatalf("signed below what was published: %v", err)
	}
	if err := s.Recover(); !errors.Is(err, ErrGuard) {
		t.Errorf("recovered without the entries: %v", err)
	}
	if h, err := s.CreateLog(authorN(1), "other"); err != nil || h.Log != 1 {
		t.Errorf("another log: %+v, %v", h, err)
	}
	closed(t, s)
	s = open(t, cfg) // the loss was accepted once, the guard stays
	if err := s.Guarded(); !errors.Is(err, ErrGuard) {
		t.Errorf("after opening again: %v", err)
	}
	put(t, s, run)
	if err := s.Recover(); err != nil {
		t.Fatal(err)
	}
	run = append(run, append1(t, s, 0, text(4))...)
	closed(t, s)
	s = open(t, cfg)
	defer closed(t, s)
	holds(t, s, run)
}

// TestGuardGone removes the guard: nothing is known of what was published, so nothing is signed until Recover.
func TestGuardGone(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, config(fs))
	run := append1(t, s, 0, text(0), text(1))
	closed(t, s)
	s = open(t, config(without(t, fs, "guard")))
	defer closed(t, s)
	var gone *GuardError
	if _, err := s.Append(keyN(1), 0, PayloadOf(nil)); !errors.As(err, &gone) || !gone.Missing {
		t.Errorf("appended: %v", err)
	}
	if _, err := s.CreateLog(authorN(1), "x"); !errors.Is(err, ErrGuard) {
		t.Errorf("created: %v", err)
	}
	put(t, s, runOf(t, keyN(2), 0, 3, 0)) // logs of others are not concerned
	if err := s.Recover(); err != nil {
		t.Fatal(err)
	}
	append1(t, s, 0, text(2))
	view(t, s, func(v *View) {
		if r, err := v.Entry(authorN(1), 0, 2); err != nil || r.ID != run[1].ID {
			t.Errorf("%v", err)
		}
	})
}

// TestStoreGone removes the store and keeps the guard.
func TestStoreGone(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, config(fs))
	run := append1(t, s, 0, text(0), text(1))
	closed(t, s)
	cfg := config(without(t, fs, "store"))
	var lost *LostError
	if _, err := Open(cfg); !errors.As(err, &lost) || lost.Held != 0 || lost.Acknowledged != 2 {
		t.Fatalf("opened: %v", err)
	}
	cfg.AcceptLoss = true
	s = open(t, cfg)
	defer closed(t, s)
	if _, err := s.Append(keyN(1), 0, PayloadOf(nil)); !errors.Is(err, ErrGuard) {
		t.Errorf("appended: %v", err)
	}
	if err := s.Recover(); !errors.Is(err, ErrGuard) {
		t.Errorf("recovered: %v", err)
	}
	put(t, s, run)
	if err := s.Recover(); err != nil {
		t.Fatal(err)
	}
	if err := s.NameLog(authorN(1), 0, "notes"); err != nil {
		t.Fatal(err)
	}
	run = append(run, append1(t, s, 0, text(2))...)
	holds(t, s, run)
}

// TestGuardFilesDamaged flips every bit of the newer file of heads, and cuts it everywhere: the older one takes over, or the guard is
// missing; what it says is never something else.
func TestGuardFilesDamaged(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, config(fs))
	append1(t, s, 0, text(0))
	append1(t, s, 0, text(1))
	closed(t, s)
	g, err := openGuard(fs, "guard/own-heads")
	if err != nil || g.missing || g.heads[keyOf(authorN(1), 0)].seq != 2 {
		t.Fatalf("%+v, %v", g, err)
	}
	newest := g.slot(g.generation)
	whole, err := readFile(fs, newest, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 9 * len(whole) {
		data := bytes.Clone(whole)
		if i < 8*len(whole) {
			data[i/8] ^= 1 << (i % 8)
		} else {
			data = data[:i-8*len(whole)]
		}
		if err := writeFile(fs, newest, data); err != nil {
			t.Fatal(err)
		}
		g, err := openGuard(fs, "guard/own-heads")
		if err != nil || g.missing || g.heads[keyOf(authorN(1), 0)].seq != 1 {
			t.Fatalf("change %d: %+v, %v", i, g, err)
		}
		_ = g.close()
	}
}

// TestGuardCreatedFirst: a process that ends between making the guard and making the store leaves a pair that works.
func TestGuardCreatedFirst(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, config(fs))
	closed(t, s)
	s = open(t, config(without(t, fs, "store")))
	defer closed(t, s)
	append1(t, s, 0, text(0))
}

func TestCursor(t *testing.T) {
	s := open(t, config(vfs.NewMem()))
	defer closed(t, s)
	want := Cursor{Epoch: 1, Received: 2, Acked: 3, Synced: 4, Converged: true}
	if err := s.SetCursor("peer", want); err != nil {
		t.Fatal(err)
	}
	view(t, s, func(v *View) {
		if got, err := v.Cursor("peer"); err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := v.Cursor("other"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
		later := *v
		later.state.epoch++
		if got, err := later.Cursor("peer"); err != nil || got.Acked != 0 || got.Received != 2 {
			t.Errorf("after the epoch: %+v, %v", got, err)
		}
	})
}

// TestViewStays: a view shows what was there, whatever is written meanwhile.
func TestViewStays(t *testing.T) {
	s := open(t, config(vfs.NewMem()))
	defer closed(t, s)
	run := append1(t, s, 0, text(0))
	view(t, s, func(v *View) {
		root := v.Root()
		append1(t, s, 0, text(1))
		if v.Len() != 1 || v.Root() != root {
			t.Error("the view has changed")
		}
		if _, err := v.Entry(authorN(1), 0, 2); !errors.Is(err, ErrNotFound) {
			t.Errorf("a later entry: %v", err)
		}
		if h, err := v.Head(authorN(1), 0); err != nil || h.ID != run[0].ID {
			t.Errorf("%+v, %v", h, err)
		}
	})
	stop := errors.New("stop")
	view(t, s, func(v *View) {
		for name, err := range map[string]error{
			"heads": v.Heads(func(Head) error { return stop }), "run": v.Run(authorN(1), 0, 1, 9, func(Record) error { return stop }),
			"since": v.Since(1, func(a Arrival) error { return fmt.Errorf("%w at %d", stop, a.Seq) }),
		} {
			if !errors.Is(err, stop) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
