package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"
)

// The key of aquadoggo's own documentation, and its peer id.
const (
	vectorSeed = "799faf7a1fa47c54fac705f30d3c4d80c40efb562da19315fabefcc995a228a1"
	vectorID   = "12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm"
)

func mustGenerate(t testing.TB, typ Type) crypto.PrivKey {
	t.Helper()
	key, err := Generate(typ, 0)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func idOf(t testing.TB, key crypto.PrivKey) string {
	t.Helper()
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

func TestVectorInEveryWriting(t *testing.T) {
	seed, _ := hex.DecodeString(vectorSeed)
	key, err := fromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	message, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString(message)
	kubo := `{"Addresses":{},"Identity":{"PeerID":"` + vectorID + `","PrivKey":"` + b64 + `"}}`
	for text, want := range map[string]Format{
		vectorSeed:                           FormatHex,
		vectorSeed + "\n":                    FormatHex,
		strings.ToUpper(vectorSeed) + "\r\n": FormatHex,
		b64:                                  FormatBase64,
		b64 + "\n":                           FormatBase64,
		b64[:40] + "\n" + b64[40:] + "\n":    FormatBase64,
		kubo:                                 FormatBase64,
		string(message):                      FormatProtobuf,
	} {
		got, format, err := Parse([]byte(text))
		if err != nil {
			t.Errorf("%.20q: %v", text, err)
		} else if idOf(t, got) != vectorID || format != want {
			t.Errorf("%.20q: %s in format %s, want %s in %s", text, idOf(t, got), format, vectorID, want)
		}
	}
}

func TestHexIsAsAquadoggoReadsIt(t *testing.T) {
	key, _, err := Parse([]byte(vectorSeed + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Encode(key, FormatHex)
	if err != nil || string(got) != vectorSeed {
		t.Errorf("got %q, %v: want lower case without a line end", got, err)
	}
}

func TestEveryFormatHoldsEveryType(t *testing.T) {
	for _, typ := range Types() {
		key := mustGenerate(t, typ)
		if TypeOf(key) != typ {
			t.Errorf("made %s instead of %s", TypeOf(key), typ)
		}
		for _, format := range Formats() {
			data, err := Encode(key, format)
			if format == FormatHex && typ != Ed25519 {
				if !errors.Is(err, ErrType) {
					t.Errorf("%s in %s: %v", typ, format, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s in %s: %v", typ, format, err)
				continue
			}
			got, gotFormat, err := Parse(data)
			if err != nil || !got.Equals(key) || gotFormat != format {
				t.Errorf("%s in %s: came back in %q, %v", typ, format, gotFormat, err)
			}
		}
	}
}

// A key may end with any byte, white space included, and still be read.
func TestRoundTripOfAnySeed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "seed")
		format := rapid.SampledFrom(Formats()).Draw(t, "format")
		key, err := fromSeed(seed)
		if err != nil {
			t.Fatal(err)
		}
		data, err := Encode(key, format)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := Parse(data); err != nil || !got.Equals(key) {
			t.Fatalf("%s: %v", format, err)
		}
	})
}

// The files were made with OpenSSL 3.0 and OpenSSH 9.2, the public keys printed by them.
func TestKeysOfOtherTools(t *testing.T) {
	const (
		secp = "02e67fcf558bd8a2d2bd63cd8ddf5974ffb6de7a49669410cb6526c4be31658dd8"
		p256 = "3059301306072a8648ce3d020106082a8648ce3d0301070342000414fa7a33bb81b626b95207128edcba7a56a36b82" +
			"c4883715bf72f70e289376034589b93db9784ae45cbd0e134ba0c36b0b32765f830549c0651b4d59b74eae73"
		rsaHash = "f10af2e363520106eff623f2cad0ce1257d06c09bf7b33ca4ad83f08030ab379"
	)
	for name, want := range map[string]string{
		"secp256k1-sec1.pem":  secp,
		"secp256k1-pkcs8.pem": secp,
		"p256-sec1.pem":       p256,
		"p256-pkcs8.pem":      p256,
		"ed25519-pkcs8.pem":   "fcd86b15fd67ca470a000a26d86e2f18d8af9e98d029e4f485d20f5913f85276",
		"ssh-ed25519.pem":     "d17f0d67e1e2f30a40da7d4340170a8abcbdc38a20db480247d0988fe94e317d",
		"rsa-pkcs1.pem":       rsaHash,
	} {
		key, format, err := Parse(append([]byte("\n"), fixture(t, name)...))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		public, err := key.GetPublic().Raw()
		if err != nil {
			t.Fatal(err)
		}
		got := hex.EncodeToString(public)
		if want == rsaHash {
			got = fmt.Sprintf("%x", sha256.Sum256(public))
		}
		if diff := cmp.Diff(want, got); diff != "" || format != FormatPEM {
			t.Errorf("%s: format %s, public key (-want +got):\n%s", name, format, diff)
		}
		if ok, err := key.GetPublic().Verify([]byte("x"), mustSign(t, key, "x")); !ok {
			t.Errorf("%s: does not sign: %v", name, err)
		}
	}
}

func mustSign(t testing.TB, key crypto.PrivKey, text string) []byte {
	t.Helper()
	sig, err := key.Sign([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func TestParseRefuses(t *testing.T) {
	good, _, err := Parse([]byte(vectorSeed))
	if err != nil {
		t.Fatal(err)
	}
	message, _ := crypto.MarshalPrivateKey(good)
	foreign := bytes.Clone(message)
	foreign[len(foreign)-1] ^= 1 // its public half
	zero := append([]byte{8, 2, 18, 32}, make([]byte, 32)...)
	b64 := base64.StdEncoding.EncodeToString(message)
	otherID := idOf(t, mustGenerate(t, Ed25519))
	tests := map[string]struct {
		data []byte
		want error
	}{
		"empty":                   {nil, ErrFormat},
		"white space":             {[]byte(" \n"), ErrFormat},
		"a word":                  {[]byte("hello"), ErrFormat},
		"too long":                {make([]byte, MaxKeyLen+1), ErrFormat},
		"63 digits":               {[]byte(vectorSeed[1:]), ErrFormat},
		"65 digits":               {[]byte(vectorSeed + "0"), ErrFormat},
		"64 others":               {[]byte(strings.Repeat("z", 64)), ErrKey}, // base64 of no message
		"message cut short":       {message[:len(message)-1], ErrKey},
		"message of unknown type": {append([]byte{8, 9}, message[2:]...), ErrKey},
		"foreign public half":     {foreign, ErrKey},
		"secp256k1 zero":          {zero, ErrKey},
		"json without a key":      {[]byte(`{"Identity":{}}`), ErrFormat},
		"json, key is a number":   {[]byte(`{"Identity":{"PrivKey":12345678}}`), ErrFormat},
		"json, another's peer id": {[]byte(`{"Identity":{"PeerID":"` + otherID + `","PrivKey":"` + b64 + `"}}`), ErrKey},
		"json, bad peer id":       {[]byte(`{"Identity":{"PeerID":"x","PrivKey":"` + b64 + `"}}`), ErrKey},
		"pem without a key":       {[]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), ErrFormat},
		"pem cut short":           {fixture(t, "p256-pkcs8.pem")[:100], ErrFormat},
		"rsa of 1024 bits":        {fixture(t, "rsa-1024.pem"), ErrKey},
		"encrypted pkcs8":         {fixture(t, "ed25519-encrypted.pem"), ErrEncrypted},
		"encrypted ec":            {fixture(t, "p256-encrypted.pem"), ErrEncrypted},
		"encrypted ssh":           {fixture(t, "ssh-encrypted.pem"), ErrEncrypted},
		"ssh of another type":     {fixture(t, "ssh-rsa.pem"), ErrType},
		"a type libp2p has not":   {fixture(t, "x25519.pem"), ErrType},
	}
	for name, test := range tests {
		key, _, err := Parse(test.data)
		if !errors.Is(err, test.want) || key != nil {
			t.Errorf("%s: %v, %v, want %v", name, key, err, test.want)
		}
	}
}

func TestGenerateRefuses(t *testing.T) {
	for _, bits := range []int{-1, 1024, MinRSABits - 1, MaxRSABits + 1} {
		if _, err := Generate(RSA, bits); !errors.Is(err, ErrKey) {
			t.Errorf("rsa of %d bits: %v", bits, err)
		}
	}
	if _, err := Generate("dsa", 0); !errors.Is(err, ErrType) {
		t.Errorf("dsa: %v", err)
	}
	if _, err := Encode(mustGenerate(t, Ed25519), "der"); !errors.Is(err, ErrFormat) {
		t.Errorf("format der: %v", err)
	}
}

func TestGenerateObeysSize(t *testing.T) {
	key, err := Generate(RSA, 3072)
	if err != nil {
		t.Fatal(err)
	}
	sig := mustSign(t, key, "x")
	if got := len(sig) * 8; got != 3072 {
		t.Errorf("signature of %d bits", got)
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.pem")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, name := range files {
		f.Add(fixture(f, filepath.Base(name)))
	}
	for _, typ := range []Type{Ed25519, Secp256k1, ECDSA} {
		key := mustGenerate(f, typ)
		for _, format := range Formats() {
			if data, err := Encode(key, format); err == nil {
				f.Add(data)
			}
		}
	}
	f.Add([]byte(`{"Identity":{"PeerID":"` + vectorID + `","PrivKey":"CAES"}}`))
	f.Add([]byte(vectorSeed))
	f.Fuzz(func(t *testing.T, data []byte) {
		key, _, err := Parse(data)
		if err != nil {
			if key != nil {
				t.Fatal("an error and a key")
			}
			noSecretIn(t, err, data)
			return
		}
		for _, format := range []Format{FormatProtobuf, FormatBase64, FormatPEM} {
			out, err := Encode(key, format)
			if err != nil {
				t.Fatalf("accepted, but not written as %s: %v", format, err)
			}
			if again, _, err := Parse(out); err != nil || !again.Equals(key) {
				t.Fatalf("accepted, but not read back from %s: %v", format, err)
			}
		}
	})
}

// noSecretIn fails if the message of err repeats twelve bytes of the data, as they are or in hex.
func noSecretIn(t *testing.T, err error, data []byte) {
	t.Helper()
	const n = 12
	message := err.Error()
	for i := 0; i+n <= len(data); i++ {
		part := string(data[i : i+n])
		if strings.Contains(message, part) && !strings.Contains("Identity.PrivKey OPENSSH", part) ||
			strings.Contains(message, hex.EncodeToString(data[i:i+n])) {
			t.Fatalf("the error %q repeats %q of the input", message, part)
		}
	}
}
