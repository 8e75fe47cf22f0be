package blocks

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"dibber/netkit/store"

	"github.com/cockroachdb/pebble/v2/vfs"
	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"
	"pgregory.net/rapid"
)

// raw is a raw block of some bytes.
func raw(t testing.TB, data []byte) block.Block {
	t.Helper()
	c, err := cid.NewPrefixV1(cid.Raw, multihash.SHA2_256).Sum(data)
	if err != nil {
		t.Fatal(err)
	}
	b, err := block.NewBlockWithCid(data, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// filled is a raw block of n bytes that differ with seed.
func filled(t testing.TB, n int, seed uint64) block.Block {
	t.Helper()
	data := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(data) // never fails
	return raw(t, data)
}

func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := OpenStore(StoreConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newStore(t testing.TB) *Store {
	t.Helper()
	s := openStore(t, t.TempDir())
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStoreKeepsBlocks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	var locked *store.LockedError
	if _, err := OpenStore(StoreConfig{Dir: dir}); !errors.As(err, &locked) {
		t.Errorf("a second owner: %v", err)
	}
	var list []block.Block
	for i, n := range []int{0, 1, InlineMax, InlineMax + 1, MaxBlock} {
		list = append(list, filled(t, n, uint64(i)))
	}
	if err := s.PutMany(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	check := func(s *Store) {
		t.Helper()
		for _, b := range list {
			got, err := s.Get(t.Context(), b.Cid())
			if err != nil || !bytes.Equal(got.RawData(), b.RawData()) {
				t.Errorf("block of %d bytes: %v", len(b.RawData()), err)
			}
			if n, err := s.GetSize(t.Context(), b.Cid()); n != len(b.RawData()) || err != nil {
				t.Errorf("size %d, %v; want %d", n, err, len(b.RawData()))
			}
		}
	}
	check(s) // while large ones wait for Sync
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	check(s)
	// The same hash under another codec is the same block.
	other := cid.NewCidV1(cid.DagProtobuf, list[4].Cid().Hash())
	if has, err := s.Has(t.Context(), other); !has || err != nil {
		t.Errorf("under another codec: %v, %v", has, err)
	}
	keys, err := s.AllKeysChan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for range keys {
		n++
	}
	if n != len(list) {
		t.Errorf("%d keys, want %d", n, len(list))
	}
	for _, b := range list {
		if err := s.DeleteBlock(t.Context(), b.Cid()); err != nil {
			t.Error(err)
		}
		if _, err := s.Get(t.Context(), b.Cid()); !ipld.IsNotFound(err) {
			t.Errorf("deleted: %v", err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "files", "??", "*")); len(left) > 0 || err != nil {
		t.Errorf("files left: %v, %v", left, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestStoreRefusesLargeBlocks(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var large *OversizeError
	if err := s.Put(t.Context(), filled(t, MaxBlock+1, 1)); !errors.As(err, &large) || large.Size != MaxBlock+1 {
		t.Errorf("got %v", err)
	}
}

func TestIdentityCIDs(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	c, err := cid.NewPrefixV1(cid.Raw, multihash.IDENTITY).Sum([]byte("here"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Get(t.Context(), c)
	if err != nil || string(b.RawData()) != "here" {
		t.Errorf("got %v, %v", b, err)
	}
}

// Rot shows: of a file that changed, one that is gone, one that was cut, and of a row.
func TestStoreFindsRot(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, s *Store, b block.Block){
		"a byte": func(t *testing.T, s *Store, b block.Block) {
			data := bytes.Clone(b.RawData())
			data[len(data)/2] ^= 1
			if err := os.WriteFile(s.file(b.Cid()), data, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"cut": func(t *testing.T, s *Store, b block.Block) {
			if err := os.Truncate(s.file(b.Cid()), 5); err != nil {
				t.Fatal(err)
			}
		},
		"gone": func(t *testing.T, s *Store, b block.Block) {
			if err := os.Remove(s.file(b.Cid())); err != nil {
				t.Fatal(err)
			}
		},
		"row": func(t *testing.T, s *Store, b block.Block) {
			if err := s.db.Write(map[string][]byte{string(rowKey(b.Cid())): {keptHere, 1, 2}}); err != nil {
				t.Fatal(err)
			}
		},
		"malformed row": func(t *testing.T, s *Store, b block.Block) {
			if err := s.db.Write(map[string][]byte{string(rowKey(b.Cid())): {keptFile}}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			b := filled(t, InlineMax+100, 1)
			if err := errors.Join(s.Put(t.Context(), b), s.Sync()); err != nil {
				t.Fatal(err)
			}
			spoil(t, s, b)
			var corrupt *CorruptError
			if _, err := s.Get(t.Context(), b.Cid()); !errors.As(err, &corrupt) || corrupt.CID != b.Cid() {
				t.Errorf("got %v", err)
			}
		})
	}
}

// After a crash everything is there that was synced, and nothing is that is not whole.
func TestStoreSurvivesCrashes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewCrashableMem()
		s, err := OpenStore(StoreConfig{Dir: "blocks", FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		var put, synced []block.Block
		for i := range rapid.IntRange(1, 12).Draw(t, "steps") {
			if rapid.IntRange(0, 3).Draw(t, "step") == 0 {
				if err := s.Sync(); err != nil {
					t.Fatal(err)
				}
				synced = put
				continue
			}
			n := rapid.SampledFrom([]int{10, InlineMax + 10}).Draw(t, "size")
			data := bytes.Repeat(fmt.Appendf(nil, "%d,", i), n)[:n]
			c, err := cid.NewPrefixV1(cid.Raw, multihash.SHA2_256).Sum(data)
			if err != nil {
				t.Fatal(err)
			}
			b, err := block.NewBlockWithCid(data, c)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Put(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			put = append(put, b)
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rapid.IntRange(0, 100).Draw(t, "unsynced"), RNG: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := OpenStore(StoreConfig{Dir: "blocks", FS: crashed})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range synced {
			if _, err := again.Get(t.Context(), b.Cid()); err != nil {
				t.Errorf("synced: %v", err)
			}
		}
		for _, b := range put {
			if _, err := again.Get(t.Context(), b.Cid()); err != nil && !ipld.IsNotFound(err) {
				t.Errorf("not synced: %v", err)
			}
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
