package logstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"pgregory.net/rapid"
)

// model is what a store has acknowledged.
type model struct {
	own, other []Record
	filed      []Record // with files that were delivered
	forked     bool
	file       Payload
}

// peers are where entries come from.
type peers struct {
	source, branch []Record
	files          *Store
	filed          []Record
}

// step changes the store and then, if that was acknowledged, the model.
func (m *model) step(t *rapid.T, s *Store, p peers) {
	switch rapid.SampledFrom([]string{"append", "put", "put", "fork", "file", "deliver"}).Draw(t, "step") {
	case "append":
		n := rapid.IntRange(1, 3).Draw(t, "entries")
		var payloads []Payload
		for range n {
			payloads = append(payloads, PayloadOf(text(len(m.own))))
		}
		out, err := s.Append(keyN(1), 0, payloads...)
		if err != nil {
			t.Fatal(err)
		}
		m.own = append(m.own, out...)
	case "put":
		if m.forked {
			return
		}
		n := min(len(p.source), len(m.other)+rapid.IntRange(1, 40).Draw(t, "entries"))
		put(t, s, p.source[len(m.other):n])
		m.other = p.source[:n]
	case "fork":
		if len(m.other) > 5 && !m.forked {
			if _, err := s.Put(p.branch); !errors.Is(err, ErrForked) {
				t.Fatal(err)
			}
			m.forked = true
		}
	case "deliver":
		n := min(len(p.filed), len(m.filed)+rapid.IntRange(1, 3).Draw(t, "files"))
		run, d := p.filed[len(m.filed):n], s.Deliver()
		if err := errors.Join(deliver(d, p.files, run), d.Settle()); err != nil {
			t.Fatal(err)
		}
		put(t, s, run)
		m.filed = p.filed[:n]
	case "file":
		p, err := s.NewPayload(strings.NewReader(strings.Repeat("x", InlineMax+len(m.own)+1)))
		if err != nil {
			t.Fatal(err)
		}
		m.file = p
	}
}

// survived checks a store that came back from a crash: it holds at least what was acknowledged, in order, and signs on after it.
func (m *model) survived(t *rapid.T, fs vfs.FS) {
	s, err := Open(config(fs))
	if err != nil {
		t.Fatalf("after the crash: %v", err)
	}
	defer closed(t, s)
	report, err := s.Verify(t.Context(), VerifyConfig{})
	if err != nil || report.Found > 0 {
		t.Fatalf("after the crash: %+v, %v", report, err)
	}
	view(t, s, func(v *View) {
		for _, run := range [][]Record{m.own, m.other, m.filed} {
			for i := range run {
				if r, err := v.Entry(run[i].Author, run[i].Log, run[i].Seq); err != nil || r.ID != run[i].ID {
					t.Fatalf("acknowledged entry %d is gone: %v", run[i].Seq, err)
				}
			}
		}
		if h, err := v.Head(authorN(2), 0); m.forked && (err != nil || h.Fork != 6) {
			t.Fatalf("the fork is gone: %+v, %v", h, err)
		}
	})
	if m.file.Size > 0 && !s.hasFile(m.file.Hash, m.file.Size) {
		t.Fatal("the payload's file is gone")
	}
	if out, err := s.Append(keyN(1), 0, PayloadOf(nil)); err != nil || out[0].Seq <= uint64(len(m.own)) {
		t.Fatalf("signed on: %+v, %v", out, err)
	}
}

func sources(t T) peers {
	source := runOf(t, keyN(2), 0, 400, 0)
	files, filed := filedEntries(t, 8)
	return peers{source, grow(t, keyN(2), 0, source[:5], 1, 0, func(i int) []byte { return fmt.Append(nil, "other ", i) }), files, filed}
}

// TestCrashBetweenBatches crashes the file system after every step, with nothing that was not synced, and with some of it.
func TestCrashBetweenBatches(t *testing.T) {
	t.Parallel()
	from := sources(t)
	defer closed(t, from.files)
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewCrashableMem()
		s := open(t, config(fs))
		defer closed(t, s)
		var m model
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			m.step(t, s, from)
			m.survived(t, fs.CrashClone(vfs.CrashCloneCfg{}))
			rng := rand.New(rand.NewPCG(1, uint64(rapid.IntRange(0, 1000).Draw(t, "seed"))))
			m.survived(t, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng}))
		}
	})
}

// TestCrashWithinBatches crashes it before every single operation that writes while a step is being made.
func TestCrashWithinBatches(t *testing.T) {
	t.Parallel()
	from := sources(t)
	defer closed(t, from.files)
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewCrashableMem()
		var clones []*vfs.MemFS
		var watching atomic.Bool
		var mu sync.Mutex // guards clones: files are synced at the same time
		watched := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if watching.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
				mu.Lock()
				defer mu.Unlock()
				clones = append(clones, fs.CrashClone(vfs.CrashCloneCfg{}))
			}
			return nil
		}))
		cfg := config(watched)
		cfg.MemTableBytes = 64 << 20 // no flush, which would write at the same time
		s := open(t, cfg)
		defer closed(t, s)
		var m model
		for range rapid.IntRange(1, 4).Draw(t, "steps") {
			before := m
			watching.Store(true)
			m.step(t, s, from)
			watching.Store(false)
			for _, clone := range clones {
				before.survived(t, clone)
			}
			clones = nil
		}
	})
}
