package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/pnet"
	"pgregory.net/rapid"
)

const pskHex = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f0a"

func TestParsePSKInEveryEncoding(t *testing.T) {
	want, _ := hex.DecodeString(pskHex)
	b64 := base64.StdEncoding.EncodeToString(want)
	const head = pskHeader + "\n"
	for name, text := range map[string]string{
		"base16":             head + pskBase16 + "\n" + pskHex + "\n",
		"base16, no end":     head + pskBase16 + "\n" + pskHex,
		"base16, cr lf":      strings.ReplaceAll(head+pskBase16+"\n"+pskHex+"\n", "\n", "\r\n"),
		"base16, upper":      head + pskBase16 + "\n" + strings.ToUpper(pskHex),
		"base64":             head + pskBase64 + "\n" + b64 + "\n",
		"bin":                head + pskBin + "\n" + string(want),
		"bin, line end":      head + pskBin + "\n" + string(want) + "\n",
		"aquadoggo":          pskHex,
		"aquadoggo, newline": pskHex + "\n",
	} {
		got, err := ParsePSK([]byte(text))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

func TestParsePSKRefuses(t *testing.T) {
	const head = pskHeader + "\n"
	for name, text := range map[string]string{
		"empty":             "",
		"no header":         "hello\n" + pskBase16 + "\n" + pskHex,
		"other version":     "/key/swarm/psk/2.0.0/\n" + pskBase16 + "\n" + pskHex,
		"header only":       pskHeader,
		"unknown encoding":  head + "/base58/\n" + pskHex,
		"short":             head + pskBase16 + "\n" + pskHex[2:],
		"long":              head + pskBase16 + "\n" + pskHex + "00",
		"no base16":         head + pskBase16 + "\n" + strings.Repeat("z", 64),
		"no base64":         head + pskBase64 + "\n" + strings.Repeat("-", 44),
		"bin, short":        head + pskBin + "\n" + strings.Repeat("a", 31),
		"bin, long":         head + pskBin + "\n" + strings.Repeat("a", 33),
		"63 digits":         pskHex[1:],
		"more than is read": strings.Repeat("a", MaxKeyLen+1),
	} {
		got, err := ParsePSK([]byte(text))
		if !errors.Is(err, ErrPSK) || got != nil {
			t.Errorf("%s: %x, %v", name, got, err)
		} else if strings.Contains(err.Error(), pskHex[:16]) {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
}

func TestGoLibp2pReadsEncodedPSK(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := pnet.PSK(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
		text, err := EncodePSK(key)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := pnet.DecodeV1PSK(bytes.NewReader(text))
		if err != nil || !bytes.Equal(theirs, key) {
			t.Fatalf("go-libp2p read %x, %v", theirs, err)
		}
		ours, err := ParsePSK(text)
		if err != nil || !bytes.Equal(ours, key) {
			t.Fatalf("read %x, %v", ours, err)
		}
	})
	if _, err := EncodePSK(make(pnet.PSK, 31)); !errors.Is(err, ErrPSK) {
		t.Errorf("31 bytes: %v", err)
	}
}

func TestNewPSKIsNewEachTime(t *testing.T) {
	a, b := NewPSK(), NewPSK()
	if len(a) != pskLen || bytes.Equal(a, b) {
		t.Errorf("%x and %x", a, b)
	}
}

func TestLoadPSK(t *testing.T) {
	path := filepath.Join(t.TempDir(), "swarm.key")
	text, _ := EncodePSK(NewPSK())
	if err := Write(path, text); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPSK(path); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	var perm *PermissionError
	if _, err := LoadPSK(path); !errors.As(err, &perm) {
		t.Errorf("readable by the group: %v", err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := Write(bad, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPSK(bad); !errors.Is(err, ErrPSK) || !strings.Contains(err.Error(), bad) {
		t.Errorf("bad file: %v", err)
	}
}

func FuzzParsePSK(f *testing.F) {
	f.Add([]byte(pskHex))
	for _, encoding := range []string{pskBase16, pskBase64, pskBin, ""} {
		f.Add([]byte(pskHeader + "\n" + encoding + "\n" + pskHex[:32]))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := ParsePSK(data)
		if err != nil {
			return
		}
		text, err := EncodePSK(key)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParsePSK(text); err != nil || !bytes.Equal(again, key) {
			t.Fatalf("%x came back as %x, %v", key, again, err)
		}
	})
}
