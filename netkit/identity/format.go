package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// MaxKeyLen is the most that is read as a key, in bytes. A whole kubo configuration has to fit.
const MaxKeyLen = 256 << 10

// Format is a form in which a private key is stored.
type Format string

// The formats.
const (
	FormatProtobuf Format = "protobuf" // the libp2p PrivateKey message, as go-libp2p tools store it
	FormatHex      Format = "hex"      // 64 hex digits of an Ed25519 seed, as aquadoggo stores it
	FormatBase64   Format = "base64"   // base64 of the protobuf, as in kubo's Identity.PrivKey
	FormatPEM      Format = "pem"      // PKCS #8
)

// Formats returns every format.
func Formats() []Format { return []Format{FormatProtobuf, FormatHex, FormatBase64, FormatPEM} }

// Parse reads a private key and says in which format it was. Besides what Encode writes it reads
// line ends after the text formats, upper-case hex, a whole kubo configuration
// (FormatBase64), and as FormatPEM also EC PRIVATE KEY, RSA PRIVATE KEY and OpenSSH's form
// of Ed25519 keys. Errors wrap ErrFormat, ErrKey, ErrEncrypted or ErrType.
func Parse(data []byte) (crypto.PrivKey, Format, error) {
	if len(data) > MaxKeyLen {
		return nil, "", fmt.Errorf("%w: more than %d bytes", ErrFormat, MaxKeyLen)
	}
	// The message begins with one of these two bytes, which no text does. Its own last
	// byte may look like white space, so it is not trimmed.
	if len(data) > 0 && (data[0] == 0x08 || data[0] == 0x12) {
		key, err := parseProtobuf(data)
		return key, FormatProtobuf, err
	}
	text := bytes.TrimSpace(data)
	if seed, ok := parseHex32(text); ok {
		key, err := fromSeed(seed)
		return key, FormatHex, err
	}
	switch {
	case bytes.HasPrefix(text, []byte("-----BEGIN ")):
		key, err := parsePEM(text)
		return key, FormatPEM, err
	case bytes.HasPrefix(text, []byte("{")):
		key, err := parseKuboConfig(text)
		return key, FormatBase64, err
	}
	key, err := parseBase64(string(text))
	return key, FormatBase64, err
}

// parseHex32 reads exactly 64 hex digits.
func parseHex32(text []byte) ([]byte, bool) {
	if len(text) != 64 {
		return nil, false
	}
	out := make([]byte, 32)
	_, err := hex.Decode(out, text)
	return out, err == nil
}

func fromSeed(seed []byte) (crypto.PrivKey, error) {
	return crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed))
}

func parseProtobuf(data []byte) (crypto.PrivKey, error) {
	key, err := crypto.UnmarshalPrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("%w: libp2p message: %w", ErrKey, err)
	}
	return checked(key)
}

// checked refuses keys that the library takes but that cannot sign for their own peer id.
func checked(key crypto.PrivKey) (crypto.PrivKey, error) {
	raw, err := key.Raw()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	switch TypeOf(key) {
	case Ed25519:
		// Signing with a foreign public half would even reveal the private one.
		if !bytes.Equal(raw, ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])) {
			return nil, fmt.Errorf("%w: its public half does not belong to its private half", ErrKey)
		}
	case Secp256k1:
		if bytes.Equal(raw, make([]byte, len(raw))) {
			return nil, fmt.Errorf("%w: it is zero", ErrKey)
		}
	case ECDSA, RSA: // the standard library has checked them
	}
	return key, nil
}

func parseBase64(text string) (crypto.PrivKey, error) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(data) == 0 {
		return nil, ErrFormat
	}
	return parseProtobuf(data)
}

func parseKuboConfig(text []byte) (crypto.PrivKey, error) {
	var config struct {
		Identity struct{ PeerID, PrivKey string }
	}
	// The decoder's errors quote what they stumble over, which may be the key.
	if json.Unmarshal(text, &config) != nil || config.Identity.PrivKey == "" {
		return nil, fmt.Errorf("%w: json without Identity.PrivKey", ErrFormat)
	}
	key, err := parseBase64(config.Identity.PrivKey)
	if err != nil {
		return nil, fmt.Errorf("Identity.PrivKey: %w", err)
	}
	if want := config.Identity.PeerID; want != "" {
		id, err := peer.Decode(want)
		if err != nil || !id.MatchesPrivateKey(key) {
			return nil, fmt.Errorf("%w: Identity.PeerID is not its peer id", ErrKey)
		}
	}
	return key, nil
}

// Encode writes key in format f. Hex is without a line end, because aquadoggo takes none; base64 and
// PEM end with one. Errors wrap ErrFormat for an unknown format and ErrType for FormatHex with
// a key that is not Ed25519.
func Encode(key crypto.PrivKey, f Format) ([]byte, error) {
	switch f {
	case FormatProtobuf:
		return crypto.MarshalPrivateKey(key)
	case FormatBase64:
		data, err := crypto.MarshalPrivateKey(key)
		if err != nil {
			return nil, err
		}
		return append(base64.StdEncoding.AppendEncode(nil, data), '\n'), nil
	case FormatHex:
		if TypeOf(key) != Ed25519 {
			return nil, fmt.Errorf("%w: format %s holds ed25519 keys only, not %s", ErrType, f, TypeOf(key))
		}
		raw, err := key.Raw()
		if err != nil {
			return nil, err
		}
		return hex.AppendEncode(nil, raw[:ed25519.SeedSize]), nil
	case FormatPEM:
		return encodePEM(key)
	}
	return nil, fmt.Errorf("%w: no format %q", ErrFormat, f)
}
