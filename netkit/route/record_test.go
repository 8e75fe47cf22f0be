package route_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"dibber/netkit/route"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

func newKey(t testing.TB) (crypto.PrivKey, peer.ID) {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, id
}

func TestRecordIsItsAuthors(t *testing.T) {
	key, author := newKey(t)
	_, other := newKey(t)
	until := time.Unix(2_000_000_000, 0)
	at, signed, err := route.Record{Name: "motd", Seq: 7, Expires: until, Value: []byte("hello")}.Seal(key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := route.OpenRecord(at, signed)
	if err != nil {
		t.Fatal(err)
	}
	if r.Author != author || r.Name != "motd" || r.Seq != 7 || !r.Expires.Equal(until) || string(r.Value) != "hello" {
		t.Errorf("%+v", r)
	}
	for name, key := range map[string]string{
		"another author": route.RecordKey(other, "motd"), "another name": route.RecordKey(author, "other"),
	} {
		if _, err := route.OpenRecord(key, signed); !errors.Is(err, route.ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range signed {
		bent := append([]byte{}, signed...)
		bent[i] ^= 1
		if r, err := route.OpenRecord(at, bent); err == nil && string(r.Value) != "hello" {
			t.Errorf("byte %d may be changed", i)
		}
	}
}

func TestKeysOfRecords(t *testing.T) {
	_, id := newKey(t)
	for _, bad := range []string{
		"", "motd", "/dibber", "/dibber/x/motd", "/dibber/" + id.String(), "/dibber/" + id.String() + "/", "/other/x", "/pk/x", "/ipns/",
		"/dibber/" + id.String() + "/" + strings.Repeat("x", route.MaxName+1), "/dibber/" + id.String() + "/a\nb",
		"/dibber/" + peer.ToCid(id).String() + "/motd", // one spelling of an author, or there would be several records
	} {
		if _, err := route.ParseKey(bad); !errors.Is(err, route.ErrKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, good := range []string{"/dibber/" + id.String() + "/a/b", "/pk/" + id.String(), "/ipns/" + id.String()} {
		key, err := route.ParseKey(good)
		if err != nil || route.KeyText(key) != good {
			t.Errorf("%q: %q, %v", good, route.KeyText(key), err)
		}
	}
}

func TestOnlyTheAuthorDrafts(t *testing.T) {
	key, id := newKey(t)
	_, other := newKey(t)
	until := time.Now().Add(time.Hour)
	for _, d := range []route.Draft{
		{Key: "/dibber/" + other.String() + "/motd"}, {Key: "/pk/" + other.String()}, {Key: "/ipns/" + other.String(), Value: []byte("/ipfs/x")},
	} {
		if _, _, err := d.Sign(key); !errors.Is(err, route.ErrKey) {
			t.Errorf("%s: %v", d.Key, err)
		}
	}
	if _, _, err := (route.Draft{Key: "/ipns/" + id.String(), Value: []byte("no path"), Expires: until}).Sign(key); !errors.Is(err, route.ErrRecord) {
		t.Errorf("IPNS without a path: %v", err)
	}
	at, signed, err := route.Draft{Key: "motd", Value: []byte("x"), Seq: 3, Expires: until}.Sign(key)
	if err != nil || at != route.RecordKey(id, "motd") {
		t.Fatalf("%s: %v", at, err)
	}
	if i, err := route.Describe(at, signed); err != nil || i.Author != id || *i.Seq != 3 || i.Kind != route.Namespace {
		t.Errorf("%+v, %v", i, err)
	}
}

func FuzzOpenRecord(f *testing.F) {
	key, _ := newKey(f)
	at, signed, err := route.Record{Name: "motd", Seq: 1, Expires: time.Unix(1, 0), Value: []byte("x")}.Seal(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(at, signed)
	f.Add(at, []byte{})
	f.Add("/dibber/x/y", signed)
	f.Fuzz(func(t *testing.T, at string, signed []byte) {
		r, err := route.OpenRecord(at, signed)
		if err == nil && route.RecordKey(r.Author, r.Name) != at {
			t.Errorf("%q opens as %q", at, route.RecordKey(r.Author, r.Name))
		}
		if err != nil && !errors.Is(err, route.ErrKey) && !errors.Is(err, route.ErrRecord) {
			t.Errorf("%v is neither of the two", err)
		}
	})
}
