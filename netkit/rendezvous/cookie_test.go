package rendezvous

import (
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestCookieOpensOnlyWhereMinted(t *testing.T) {
	key, other := newCookieKey(), newCookieKey()
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.StringN(0, 20, 255).Draw(t, "ns")
		seq := rapid.Uint64().Draw(t, "seq")
		cookie := key.mint(ns, seq)
		if len(cookie) != 24 || !utf8.Valid(cookie[8:]) {
			t.Fatalf("cookie %x", cookie)
		}
		if got, ok := key.open(ns, cookie); !ok || got != seq {
			t.Fatalf("opened as %d, %v", got, ok)
		}
		if _, ok := other.open(ns, cookie); ok {
			t.Fatal("opened with another key")
		}
		if _, ok := key.open(ns+"x", cookie); ok {
			t.Fatal("opened in another namespace")
		}
		cookie[rapid.IntRange(0, len(cookie)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		if _, ok := key.open(ns, cookie); ok {
			t.Fatal("opened after a change")
		}
	})
}

func FuzzCookie(f *testing.F) {
	key := newCookieKey()
	f.Add("ns", []byte{})
	f.Add("ns", []byte("12345678"))
	f.Add("", key.mint("", 7))
	f.Fuzz(func(t *testing.T, ns string, cookie []byte) {
		seq, ok := key.open(ns, cookie)
		if ok && string(key.mint(ns, seq)) != string(cookie) {
			t.Fatalf("opened %x, which is not what is minted", cookie)
		}
	})
}
