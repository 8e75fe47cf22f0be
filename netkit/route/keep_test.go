package route

import (
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"testing"

	"dibber/netkit/store"

	"github.com/cockroachdb/pebble/v2/vfs"
	ds "github.com/ipfs/go-datastore"
	dsq "github.com/ipfs/go-datastore/query"
)

func database(t *testing.T, fs vfs.FS) *store.DB {
	t.Helper()
	db, err := store.Open("db", store.Config{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// valueKey and providerKey are keys as the library makes them.
func valueKey(key string) ds.Key {
	return ds.NewKey("/dibber/" + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(key)))
}

func providerKey(content, provider string) ds.Key {
	return ds.NewKey("/providers/" + content + "/" + provider)
}

// Each limit holds for what is new, and for none that is there already.
func TestKeeperLimits(t *testing.T) {
	limits := Limits{Records: 3, RecordsPerAuthor: 2, Providers: 3, ProvidersPerPeer: 2}
	for _, c := range []struct {
		name string
		keys []ds.Key
		full []int // those for which there is no room
	}{
		{"records", []ds.Key{valueKey("/dibber/a/1"), valueKey("/dibber/b/1"), valueKey("/dibber/c/1"), valueKey("/dibber/d/1"), valueKey("/dibber/a/1")}, []int{3}},
		{"of an author", []ds.Key{valueKey("/dibber/a/1"), valueKey("/dibber/a/2/x"), valueKey("/dibber/a/3"), valueKey("/dibber/b/1")}, []int{2}},
		{"providers", []ds.Key{providerKey("X", "A"), providerKey("X", "B"), providerKey("X", "C"), providerKey("Y", "D"), providerKey("X", "A")}, []int{3}},
		{"of a provider", []ds.Key{providerKey("X", "A"), providerKey("Y", "A"), providerKey("Z", "A"), providerKey("Z", "B")}, []int{2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewMem()
			db := database(t, fs)
			k, err := newKeeper(&pebbleStore{db}, limits.withDefaults())
			if err != nil {
				t.Fatal(err)
			}
			for i, key := range c.keys {
				err := k.Put(t.Context(), key, []byte("x"))
				if want := slices.Contains(c.full, i); errors.Is(err, ErrFull) != want || !want && err != nil {
					t.Errorf("key %d: %v", i, err)
				}
			}
			records, providers := k.held()
			if err := errors.Join(k.Sync(t.Context(), ds.NewKey("/")), db.Close()); err != nil {
				t.Fatal(err)
			}
			// The counts are those of the database, also after a restart.
			db = database(t, fs)
			defer db.Close()
			again, err := newKeeper(&pebbleStore{db}, limits.withDefaults())
			if err != nil {
				t.Fatal(err)
			}
			if r, p := again.held(); r != records || p != providers || r+p != len(c.keys)-len(c.full)-repeated(c.keys) {
				t.Errorf("%d records and %d entries before, %d and %d after", records, providers, r, p)
			}
			if err := again.Delete(t.Context(), c.keys[0]); err != nil {
				t.Error(err)
			}
			if err := again.Put(t.Context(), c.keys[c.full[0]], nil); err != nil {
				t.Errorf("there is room again: %v", err)
			}
		})
	}
}

func repeated(keys []ds.Key) (n int) {
	for i, k := range keys {
		if slices.Contains(keys[:i], k) {
			n++
		}
	}
	return n
}

// Queries see what has their prefix and nothing else.
func TestPebbleQueries(t *testing.T) {
	db := database(t, vfs.NewMem())
	defer db.Close()
	p := &pebbleStore{db}
	for i, key := range []string{"/a/1", "/a/2", "/a/2/3", "/ab/1", "/b"} {
		if err := p.Put(t.Context(), ds.NewKey(key), []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	for prefix, want := range map[string][]string{
		"": {"/a/1", "/a/2", "/a/2/3", "/ab/1", "/b"}, "/": {"/a/1", "/a/2", "/a/2/3", "/ab/1", "/b"},
		"/a": {"/a/1", "/a/2", "/a/2/3"}, "/a/2/": {"/a/2/3"}, "/c": nil,
	} {
		r, err := p.Query(t.Context(), dsq.Query{Prefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		all, err := r.Rest()
		var got []string
		for _, e := range all {
			got = append(got, e.Key)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", prefix, got, err)
		}
	}
	if _, err := p.Get(t.Context(), ds.NewKey("/c")); err != ds.ErrNotFound { //nolint:errorlint // as the library compares it
		t.Errorf("missing: %v", err)
	}
}
