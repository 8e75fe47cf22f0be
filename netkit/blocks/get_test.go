package blocks

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"pgregory.net/rapid"
)

// away are blocks that others have. Fetch hands them over in any order, into a store.
type away struct {
	from, to *Store
	lost     cid.Cid // never comes
	fail     error
	most     int // the largest batch
}

func (a *away) fetch(context.Context) (Fetcher, error) { return a, nil }

func (a *away) Fetch(ctx context.Context, list []cid.Cid) (<-chan Fetched, error) {
	a.most = max(a.most, len(list))
	out := make(chan Fetched)
	list = slices.Clone(list)
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	go func() {
		defer close(out)
		for _, c := range list {
			f := Fetched{Err: a.fail}
			if f.Err == nil {
				if c == a.lost {
					<-ctx.Done()
					return
				}
				f.Block, f.Err = a.from.Get(ctx, c)
			}
			if f.Err == nil {
				f.Err = a.to.Put(ctx, f.Block)
			}
			select {
			case out <- f:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// put puts a file of n bytes in small pieces, so that its tree has levels.
func put(t testing.TB, s *Store, n int) (Added, []byte) {
	t.Helper()
	data := filled(t, n, uint64(n)).RawData()
	a, err := Add(t.Context(), s, bytes.NewReader(data), AddConfig{Chunk: 16})
	if err != nil {
		t.Fatal(err)
	}
	return a, data
}

func TestAddNamesAsIPFSDoes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, c := range []struct {
		name, text, want string
		cfg              AddConfig
		blocks           int
	}{
		{"empty", "", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", AddConfig{}, 1},
		{"hello", "hello\n", "bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am", AddConfig{}, 1},
		{"raw", "hello\n", "bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am", AddConfig{Raw: true}, 1},
	} {
		a, err := Add(t.Context(), s, strings.NewReader(c.text), c.cfg)
		if err != nil || a.CID.String() != c.want || a.Blocks != c.blocks || a.Size != int64(len(c.text)) {
			t.Errorf("%s: %+v, %v", c.name, a, err)
		}
	}
	var large *OversizeError
	if _, err := Add(t.Context(), s, bytes.NewReader(make([]byte, MaxBlock+1)), AddConfig{Raw: true}); !errors.As(err, &large) {
		t.Errorf("oversize: %v", err)
	}
}

// A file comes whole from another store, whatever is here already, and is what it was.
func TestGetAndWrite(t *testing.T) {
	t.Parallel()
	from := newStore(t)
	rapid.Check(t, func(rt *rapid.T) {
		to := openStore(t, t.TempDir())
		a, data := put(t, from, rapid.IntRange(0, 9000).Draw(rt, "bytes"))
		others := &away{from: from, to: to}
		kept := 0
		if rapid.Bool().Draw(rt, "some are here") {
			keys, err := from.AllKeysChan(t.Context())
			if err != nil {
				rt.Fatal(err)
			}
			for c := range keys {
				if kept++; kept%3 == 0 {
					b, err := from.Get(t.Context(), c)
					if err = errors.Join(err, to.Put(t.Context(), b)); err != nil {
						rt.Fatal(err)
					}
				}
			}
		}
		got, err := Get(t.Context(), to, a.CID, GetConfig{Fetch: others.fetch, Window: 8})
		if err != nil {
			rt.Fatal(err)
		}
		if others.most > 8 {
			rt.Errorf("%d at once", others.most)
		}
		if n := got.Fetched.Blocks + got.Local.Blocks; n > a.Blocks || got.Total == nil {
			rt.Errorf("%d blocks of %d, total %v", n, a.Blocks, got.Total)
		}
		var out bytes.Buffer
		if n, err := WriteFile(t.Context(), &out, to, a.CID); err != nil || n != int64(len(data)) || !bytes.Equal(out.Bytes(), data) {
			rt.Errorf("wrote %d of %d bytes: %v", n, len(data), err)
		}
		// Then nobody is needed.
		if got, err := Get(t.Context(), to, a.CID, GetConfig{}); err != nil || got.Fetched.Blocks != 0 {
			rt.Errorf("again: %+v, %v", got, err)
		}
		if err := to.Close(); err != nil {
			rt.Error(err)
		}
	})
}

func TestGetFails(t *testing.T) {
	t.Parallel()
	from := newStore(t)
	a, _ := put(t, from, 5000)
	broken := errors.New("broken")
	links, err := Links(must(from.Get(t.Context(), a.CID)))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("nobody", func(t *testing.T) {
		var missing *NotFoundError
		if _, err := Get(t.Context(), newStore(t), a.CID, GetConfig{}); !errors.As(err, &missing) || missing.CID != a.CID {
			t.Errorf("got %v", err)
		}
	})
	t.Run("error", func(t *testing.T) {
		to := newStore(t)
		if _, err := Get(t.Context(), to, a.CID, GetConfig{Fetch: (&away{from: from, to: to, fail: broken}).fetch}); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a codec that nobody here reads", func(t *testing.T) {
		to := newStore(t)
		b := raw(t, []byte("{}"))
		c := cid.NewCidV1(cid.DagJSON, b.Cid().Hash())
		if err := to.Put(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		var codec *CodecError
		if _, err := Get(t.Context(), to, c, GetConfig{}); !errors.As(err, &codec) {
			t.Errorf("got %v", err)
		}
		if got, err := Get(t.Context(), to, c, GetConfig{One: true}); err != nil || got.Local.Blocks != 1 {
			t.Errorf("one: %+v, %v", got, err)
		}
	})
	t.Run("stalled", func(t *testing.T) {
		to := newStore(t)
		others := &away{from: from, to: to, lost: links[1].Cid}
		asked := 0
		got, err := Get(t.Context(), to, a.CID, GetConfig{Fetch: others.fetch, StallAfter: time.Millisecond, Stalled: func(_ context.Context, list []cid.Cid) error {
			if asked++; asked < 3 {
				return nil
			}
			if !slices.Contains(list, others.lost) {
				t.Errorf("asked about %v", list)
			}
			return &NotFoundError{CID: others.lost, Asked: 1}
		}})
		var missing *NotFoundError
		if !errors.As(err, &missing) || got.Fetched.Blocks == 0 {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("corrupt", func(t *testing.T) {
		to := newStore(t)
		b := filled(t, InlineMax+1, 7)
		if err := errors.Join(to.Put(t.Context(), b), to.Sync(), to.fs.Remove(to.file(b.Cid())), from.Put(t.Context(), b)); err != nil {
			t.Fatal(err)
		}
		var corrupt *CorruptError
		if _, err := Get(t.Context(), to, b.Cid(), GetConfig{}); !errors.As(err, &corrupt) {
			t.Errorf("alone: %v", err)
		}
		got, err := Get(t.Context(), to, b.Cid(), GetConfig{Fetch: (&away{from: from, to: to}).fetch})
		if err != nil || got.Repaired != 1 || got.Fetched.Blocks != 1 {
			t.Errorf("with others: %+v, %v", got, err)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// What is no file is not written, and a root that promises less than there is ends the writing.
func TestWriteFileRefuses(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	node := func(data string, links ...cid.Cid) block.Block {
		// A dag-pb node by hand: links are field 2, data is field 1.
		var out []byte
		for _, l := range links {
			link := append([]byte{0x0a, byte(l.ByteLen())}, l.Bytes()...)
			out = append(append(out, 0x12, byte(len(link))), link...)
		}
		out = append(append(out, 0x0a, byte(len(data))), data...)
		c := must(cid.NewPrefixV1(cid.DagProtobuf, multihash.SHA2_256).Sum(out))
		b := must(block.NewBlockWithCid(out, c))
		if err := s.Put(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	leaf := raw(t, []byte("abcd"))
	if err := s.Put(t.Context(), leaf); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		of     block.Block
		noFile bool
		wrote  string
	}{
		{"a directory", node("\x08\x01"), true, ""},
		{"no UnixFS", node("\xff\xff"), true, ""},
		{"a file of 3 bytes with 4", node("\x08\x02\x18\x03", leaf.Cid()), false, ""},
		{"a file of 9 bytes with 8", node("\x08\x02\x18\x09", leaf.Cid(), leaf.Cid()), false, "abcdabcd"},
	} {
		var out bytes.Buffer
		_, err := WriteFile(t.Context(), &out, s, c.of.Cid())
		if err == nil || errors.Is(err, ErrNoFile) != c.noFile || out.String() != c.wrote {
			t.Errorf("%s: wrote %q, %v", c.name, out.String(), err)
		}
	}
}

// The wait for a stall begins anew with each block.
func TestStallIsSinceTheLastBlock(t *testing.T) {
	t.Parallel()
	from, to := newStore(t), newStore(t)
	a, _ := put(t, from, 100)
	synctest.Test(t, func(t *testing.T) {
		slow := func(context.Context) (Fetcher, error) {
			return fetchFunc(func(ctx context.Context, list []cid.Cid) (<-chan Fetched, error) {
				out := make(chan Fetched)
				go func() {
					defer close(out)
					for _, c := range list {
						time.Sleep(1900 * time.Millisecond)
						b, err := from.Get(ctx, c)
						out <- Fetched{b, err}
					}
				}()
				return out, nil
			}), nil
		}
		_, err := Get(t.Context(), to, a.CID, GetConfig{Fetch: slow, Stalled: func(context.Context, []cid.Cid) error { return errors.New("stalled") }})
		if err != nil {
			t.Error(err)
		}
	})
}

type fetchFunc func(ctx context.Context, list []cid.Cid) (<-chan Fetched, error)

func (f fetchFunc) Fetch(ctx context.Context, list []cid.Cid) (<-chan Fetched, error) {
	return f(ctx, list)
}
