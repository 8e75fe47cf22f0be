package addr

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multibase"
)

// Ids that the tests use: idA is an Ed25519 key whole, idB a hash (the example of the
// peer-ids specification), each also in the encodings the specification shows or implies.
const (
	idA       = "12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm"
	idB       = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
	idBBase32 = "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe"
)

func TestParseIDInEveryEncoding(t *testing.T) {
	for _, text := range []string{idA, idB} {
		id, err := peer.Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		forms, err := EncodingsOf(id)
		if err != nil {
			t.Fatal(err)
		}
		inputs := []string{forms.Base58, forms.CIDBase32, forms.CIDBase36}
		for base := range multibase.EncodingToStr {
			if s, err := peer.ToCid(id).StringOfBase(base); err == nil && base != multibase.Identity {
				inputs = append(inputs, s)
			}
		}
		if len(inputs) < 20 {
			t.Fatalf("only %d encodings", len(inputs))
		}
		for _, s := range inputs {
			if got, err := ParseID(s); err != nil || got != id {
				t.Errorf("ParseID(%s) = %v, %v, want %s", s, got, err, id)
			}
		}
	}
}

func TestEncodingsMatchSpec(t *testing.T) {
	id, err := ParseID(idBBase32)
	if err != nil {
		t.Fatal(err)
	}
	got, err := EncodingsOf(id)
	if err != nil {
		t.Fatal(err)
	}
	want := Encodings{
		Base58:       idB,
		CIDBase32:    idBBase32,
		CIDBase36:    "k2k4r8ncs1yoluq95unsd7x2vfhgve0ncjoggwqx9vyh3vl8warrcp15",
		MultihashHex: "12209dff3b17d74cf4d38a50d8b6383e92d181a10395a5e73a726dcccbd21bf6f0b9",
		Multiaddr:    "/p2p/" + idB,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := EncodingsOf("not a multihash"); !errors.Is(err, ErrBadPeerID) {
		t.Errorf("encodings of garbage: %v", err)
	}
}

func TestKeyTypeIsKnownOnlyIfTheIDHoldsTheKey(t *testing.T) {
	for text, want := range map[string]string{idA: "ed25519", idB: ""} {
		id, err := ParseID(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := KeyType(id); got != want {
			t.Errorf("KeyType(%s) = %q, want %q", text, got, want)
		}
		if _, ok := PublicKey(id); ok != (want != "") {
			t.Errorf("PublicKey(%s) revealed = %v", text, ok)
		}
	}
}

func TestParseIDRefuses(t *testing.T) {
	for name, s := range map[string]string{
		"empty":                 "",
		"not base58":            "12D3KooW0OIl",
		"cut short":             idA[:len(idA)-1],
		"cid of another kind":   "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
		"huge":                  "1" + strings.Repeat("z", 1<<20),
		"long identity":         "1" + strings.Repeat("1", 300),
		"identity, not a key":   mustCID(t, []byte{0, 3, 'a', 'b', 'c'}),
		"short sha2-256":        mustCID(t, []byte{0x12, 4, 1, 2, 3, 4}),
		"sha2-512":              mustCID(t, append([]byte{0x13, 64}, make([]byte, 64)...)),
		"escape sequence in it": "\x1b[31mQm",
	} {
		id, err := ParseID(s)
		if !errors.Is(err, ErrBadPeerID) {
			t.Errorf("%s: ParseID = %q, %v", name, id, err)
		} else if msg := err.Error(); len(msg) > 400 || strings.ContainsRune(msg, '\x1b') {
			t.Errorf("%s: message repeats hostile input: %.100q", name, msg)
		}
	}
}

// mustCID returns the CIDv1 of a libp2p-key multihash.
func mustCID(t *testing.T, multihash []byte) string {
	t.Helper()
	s, err := multibase.Encode(multibase.Base32, append([]byte{1, 0x72}, multihash...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
