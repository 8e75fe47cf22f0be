package logstore

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"dibber/netkit/bamboo"
	"dibber/netkit/negentropy"
)

// keyN is the n-th of the authors that tests have.
func keyN(n int) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = byte(n)
	return ed25519.NewKeyFromSeed(seed)
}

func authorN(n int) bamboo.Author { return bamboo.Author(keyN(n)[32:]) }

// T is what tests and properties have in common.
type T interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// config is that of a store on a file system of its own, with a clock that stands still.
func config(fs vfs.FS) Config {
	return Config{Dir: "store", Guard: "guard/own-heads", FS: fs, MemTableBytes: 256 << 10, Now: func() time.Time { return time.UnixMilli(1_700_000_000_000) }}
}

func open(t T, cfg Config) *Store {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closed(t T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// view is closed when fn returns.
func view(t T, s *Store, fn func(*View)) {
	t.Helper()
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	fn(v)
}

func text(i int) []byte { return fmt.Append(nil, "payload ", i) }

// runOf signs n entries of a log whose times rise from start.
func runOf(t T, key ed25519.PrivateKey, log uint64, n int, start uint64) []Record {
	t.Helper()
	return grow(t, key, log, nil, n, start, text)
}

// grow signs n more.
func grow(t T, key ed25519.PrivateKey, log uint64, run []Record, n int, start uint64, payload func(int) []byte) []Record {
	t.Helper()
	run = slices.Clone(run)
	for range n {
		i := len(run)
		var previous *bamboo.Signed
		var skip bamboo.Hash
		if i > 0 {
			previous = &run[i-1].Signed
			if bamboo.HasSkiplink(uint64(i + 1)) {
				skip = run[bamboo.Lipmaa(uint64(i+1))-1].ID
			}
		}
		signed, err := bamboo.Sign(key, log, previous, skip, payload(i))
		if err != nil {
			t.Fatal(err)
		}
		run = append(run, Record{Signed: signed, Time: start + uint64(i), Payload: payload(i)})
	}
	return run
}

func put(t T, s *Store, run []Record) {
	t.Helper()
	if _, err := s.Put(run); err != nil {
		t.Fatal(err)
	}
}

// holds checks that a store has exactly these logs, by every way that leads to an entry, and that its sums and its root are what they
// are when computed from nothing.
func holds(t T, s *Store, logs ...[]Record) {
	t.Helper()
	view(t, s, func(v *View) {
		t.Helper()
		var all []Record
		var want ltHash
		var size uint64
		for _, run := range logs {
			if len(run) == 0 {
				continue
			}
			last := run[len(run)-1]
			h, err := v.Head(last.Author, last.Log)
			if err != nil {
				t.Fatalf("head: %v", err)
			}
			if h.Height != last.Seq || h.ID != last.ID {
				t.Fatalf("log %d ends at %d, want %d", last.Log, h.Height, last.Seq)
			}
			want.add(h.element())
			i := 0
			err = v.Run(last.Author, last.Log, 1, last.Seq, func(r Record) error {
				if r.ID != run[i].ID || !bytes.Equal(r.Payload, run[i].Payload) {
					return fmt.Errorf("entry %d is another", r.Seq)
				}
				i++
				return nil
			})
			if err != nil || i != len(run) {
				t.Fatalf("%d entries of %d: %v", i, len(run), err)
			}
			for i := range run {
				if r, err := v.ByID(run[i].ID); err != nil || r.Seq != run[i].Seq || r.Time != run[i].Time {
					t.Fatalf("by id: %v", err)
				}
				size += run[i].PayloadSize
			}
			all = append(all, run...)
		}
		if v.Root() != want.root() {
			t.Fatalf("the root is not that of the heads")
		}
		if v.Bytes() != size {
			t.Fatalf("%d bytes of payload, want %d", v.Bytes(), size)
		}
		arrivals := 0
		if err := v.Since(0, func(Arrival) error { arrivals++; return nil }); err != nil || arrivals != len(all) {
			t.Fatalf("%d arrivals, want %d: %v", arrivals, len(all), err)
		}
		sums(t, v, all)
	})
}

// sums compares the counts and sums of a view with those of a set in memory.
func sums(t T, v *View, all []Record) {
	t.Helper()
	items := make([]negentropy.Item, len(all))
	for i := range all {
		items[i] = itemOf(all[i].Time, all[i].ID).item()
	}
	want, err := negentropy.NewVector(items)
	if err != nil {
		t.Fatal(err)
	}
	if v.Len() != want.Len() {
		t.Fatalf("%d items, want %d", v.Len(), want.Len())
	}
	step := max(1, len(items)/7)
	for from := 0; from <= len(items); from += step {
		for to := from; to <= len(items); to += step {
			sum, _ := want.Sum(from, to)
			if got, err := v.Sum(from, to); err != nil || got != sum {
				t.Fatalf("sum of items %d to %d is %v, want %v: %v", from, to, got, sum, err)
			}
		}
		if from < len(items) {
			position(t, v, want, from)
		}
	}
	if got, err := v.Search(0, negentropy.Bound{Timestamp: negentropy.Forever}); err != nil || got != len(items) {
		t.Fatalf("the end is at %d: %v", got, err)
	}
}

// position compares the item at one position, and where bounds before and behind it lie.
func position(t T, v *View, want *negentropy.Vector, at int) {
	t.Helper()
	var got, item negentropy.Item
	_ = want.Each(at, at+1, func(i negentropy.Item) bool { item = i; return true })
	if err := v.Each(at, at+2, func(i negentropy.Item) bool { got = i; return false }); err != nil || got != item {
		t.Fatalf("item %d is %v, want %v: %v", at, got, item, err)
	}
	for prefix := range negentropy.IDSize + 1 {
		b := negentropy.Bound{Timestamp: item.Timestamp, Prefix: item.ID[:prefix]}
		first, _ := want.Search(0, b)
		if got, err := v.Search(0, b); err != nil || got != first {
			t.Fatalf("bound %v is at %d, want %d: %v", b, got, first, err)
		}
	}
}

// ReceivePayload receives one payload as [Delivery.Receive] does. It is on disk when ReceivePayload returns.
func (s *Store) ReceivePayload(hash bamboo.Hash, size uint64, r io.Reader) error {
	d := s.Deliver()
	return errors.Join(d.Receive(hash, size, r), d.Settle())
}
