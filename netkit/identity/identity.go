// Package identity reads, writes and makes the keys that libp2p nodes are known by:
// private keys in the file formats of several tools, and the pre-shared keys of
// private networks.
//
// It follows the libp2p peer-ids specification for keys (github.com/libp2p/specs,
// peer-ids/peer-ids.md), RFC 5958 (PKCS #8), RFC 5915 and RFC 8410 for PEM, and the
// libp2p pre-shared-key specification (pnet/Private-Networks-PSK-V1.md). Its errors never contain
// key material.
package identity

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
)

var (
	// ErrFormat says that data is not a key in any of the formats read here.
	ErrFormat = errors.New("not a private key in a known format")
	// ErrKey says that data is in a known format but its key is not usable.
	ErrKey = errors.New("unusable private key")
	// ErrEncrypted says that a key is protected by a passphrase.
	ErrEncrypted = errors.New("private key is encrypted; decrypt it first")
	// ErrType says that a key is of a type that the operation does not know.
	ErrType = errors.New("key type not supported")
)

// Type is a type of key that libp2p defines.
type Type string

// The types of keys.
const (
	Ed25519   Type = "ed25519" // what libp2p recommends; the peer id is the key
	Secp256k1 Type = "secp256k1"
	ECDSA     Type = "ecdsa" // made on P-256, the curve all implementations know
	RSA       Type = "rsa"
)

// Types returns every type, the recommended one first.
func Types() []Type { return []Type{Ed25519, Secp256k1, ECDSA, RSA} }

// TypeOf returns the type of key.
func TypeOf(key crypto.Key) Type { return Type(strings.ToLower(key.Type().String())) }

// The sizes of RSA keys, in bits, that go-libp2p peers accept.
const (
	MinRSABits     = 2048
	MaxRSABits     = 8192
	DefaultRSABits = 2048
)

// Generate makes a key from the system's randomness. rsaBits is the size of an RSA key,
// DefaultRSABits if 0; other types ignore it. Errors wrap ErrType, or ErrKey for a size that peers refuse.
func Generate(t Type, rsaBits int) (crypto.PrivKey, error) {
	var number int
	switch t {
	case Ed25519:
		number = crypto.Ed25519
	case Secp256k1:
		number = crypto.Secp256k1
	case ECDSA:
		number = crypto.ECDSA
	case RSA:
		number = crypto.RSA
		if rsaBits == 0 {
			rsaBits = DefaultRSABits
		}
		if rsaBits < MinRSABits || rsaBits > MaxRSABits {
			return nil, fmt.Errorf("%w: rsa of %d bits; peers accept %d to %d", ErrKey, rsaBits, MinRSABits, MaxRSABits)
		}
	default:
		return nil, fmt.Errorf("%w: %q", ErrType, t)
	}
	key, _, err := crypto.GenerateKeyPairWithReader(number, rsaBits, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make %s key: %w", t, err)
	}
	return key, nil
}
