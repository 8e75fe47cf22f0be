package invite

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

const relay = "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm"

func newKey(t testing.TB) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sample is a token with everything in it.
func sample(t testing.TB) (Token, string, crypto.PrivKey) {
	t.Helper()
	key := newKey(t)
	id, err := NewID()
	if err != nil {
		t.Fatal(err)
	}
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	token := Token{
		ID: id, Expires: now.Add(time.Hour), Peer: self, Namespace: "chat", PSK: bytes.Repeat([]byte{7}, PSKLen),
		Addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.7/udp/4001/quic-v1"), ma.StringCast("/dns4/example.com/tcp/4001")}, Relays: []ma.Multiaddr{ma.StringCast(relay)},
	}
	text, err := token.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	return token, text, key
}

func texts(list []ma.Multiaddr) (out []string) {
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

func TestToken(t *testing.T) {
	want, text, key := sample(t)
	got, err := Parse(" " + text + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(texts(append(want.Addrs, want.Relays...)), texts(append(got.Addrs, got.Relays...))); diff != "" {
		t.Error(diff)
	}
	if got.ID != want.ID || !got.Expires.Equal(want.Expires) || got.Peer != want.Peer || got.Namespace != "chat" || !bytes.Equal(got.PSK, want.PSK) {
		t.Errorf("%+v", got)
	}
	if err := got.InTime(want.Expires.Add(-time.Second)); err != nil {
		t.Error(err)
	}
	if err := got.InTime(want.Expires); !errors.Is(err, ErrExpired) {
		t.Errorf("at its end: %v", err)
	}
	bare, err := Token{Expires: now}.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Parse(bare); err != nil || got.PSK != nil || len(got.Addrs) > 0 {
		t.Errorf("a token with nothing in it: %+v, %v", got, err)
	}
}

// TestTampered: whichever bit of a token is changed, nobody is let in by it.
func TestTampered(t *testing.T) {
	_, text, _ := sample(t)
	raw, err := Bytes(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for bit := range 8 {
			changed := bytes.Clone(raw)
			changed[i] ^= 1 << bit
			if _, err := Open(changed); !errors.Is(err, ErrSignature) && !errors.Is(err, ErrFormat) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
	for n := range raw {
		if _, err := Open(raw[:n]); err == nil {
			t.Fatalf("cut after %d bytes", n)
		}
	}
}

// TestOneForm: a body that means the same in other bytes is none, although its maker signed it.
func TestOneForm(t *testing.T) {
	token, _, key := sample(t)
	body := token.body()
	long := bytes.Replace(body, append([]byte{byte(len(token.Peer))}, token.Peer...), append([]byte{byte(len(token.Peer)) | 0x80, 0}, token.Peer...), 1)
	for name, b := range map[string][]byte{"long varint": long, "more behind": append(bytes.Clone(body), 0), "another version": append([]byte{2}, body[1:]...)} {
		signature, err := key.Sign(append([]byte(domain), b...))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(append(b, signature...)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A signature of the same key over the same bytes for another purpose.
	signature, err := key.Sign(body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(append(body, signature...)); !errors.Is(err, ErrSignature) {
		t.Errorf("without its domain: %v", err)
	}
}

func TestNoToken(t *testing.T) {
	_, text, key := sample(t)
	for _, s := range []string{"", "x", prefix, prefix + "=", text + "A", strings.ToUpper(text), prefix + strings.Repeat("A", 1<<20)} {
		if _, err := Parse(s); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrSignature) {
			t.Errorf("%.40q: %v", s, err)
		}
	}
	rsa, _, err := crypto.GenerateRSAKeyPair(2048, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Token{Expires: now}).Sign(rsa); !errors.Is(err, ErrKey) {
		t.Errorf("an RSA key: %v", err)
	}
	for name, token := range map[string]Token{
		"namespace": {Namespace: strings.Repeat("n", MaxNamespace+1)}, "psk": {PSK: []byte{1}},
		"relay": {Relays: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/1")}}, "addresses": {Addrs: make([]ma.Multiaddr, MaxAddrs+1)},
	} {
		if _, err := token.Sign(key); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzOpen: whatever is read as a token was signed in exactly these bytes.
func FuzzOpen(f *testing.F) {
	_, text, _ := sample(f)
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, prefix))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:100])
	f.Fuzz(func(t *testing.T, data []byte) {
		token, err := Open(data)
		if err == nil && !bytes.Equal(token.body(), data[:len(data)-signatureLen]) {
			t.Fatal("another form of the same")
		}
	})
}

// TestBook: what was made and revoked is there for the next process, and so is who came.
func TestBook(t *testing.T) {
	b := Book{Dir: t.TempDir() + "/invites"}
	if list, err := b.List(); err != nil || len(list) > 0 {
		t.Errorf("an empty book: %v, %v", list, err)
	}
	token, text, _ := sample(t)
	if _, err := b.Guest(token.ID, token.Peer, now); !errors.Is(err, ErrUnknown) {
		t.Errorf("before it is in: %v", err)
	}
	if _, err := b.Add(token, now); err != nil {
		t.Fatal(err)
	}
	for range 2 { // twice is once
		if _, err := b.Guest(token.ID, token.Peer, now); err != nil {
			t.Fatal(err)
		}
	}
	list, err := b.List()
	if err != nil || len(list) != 1 || len(list[0].Guests) != 1 || list[0].Guests[0] != token.Peer || !list[0].PSK || *list[0].Namespace != "chat" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := b.Guest(token.ID, token.Peer, token.Expires); !errors.Is(err, ErrExpired) {
		t.Errorf("at its end: %v", err)
	}
	e, err := b.Revoke(token.ID, now)
	if err != nil || e.Revoked == nil || len(e.Guests) != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := b.Guest(token.ID, token.Peer, now); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked: %v", err)
	}
	if again, err := b.Revoke(token.ID, now.Add(time.Hour)); err != nil || !again.Revoked.Equal(*e.Revoked) {
		t.Errorf("revoked again: %+v, %v", again, err)
	}
	if strings.Contains(text, token.ID.String()) {
		t.Error("the name of a token tells it")
	}
}
