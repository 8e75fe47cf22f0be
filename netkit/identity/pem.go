package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// The PEM block types.
const (
	blockPKCS8     = "PRIVATE KEY"
	blockEncrypted = "ENCRYPTED PRIVATE KEY"
	blockEC        = "EC PRIVATE KEY"
	blockRSA       = "RSA PRIVATE KEY"
	blockOpenSSH   = "OPENSSH PRIVATE KEY"
)

// parsePEM reads the first block that holds a private key; openssl puts curve parameters
// into a block before it.
func parsePEM(text []byte) (crypto.PrivKey, error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, fmt.Errorf("%w: no PEM block with a private key", ErrFormat)
		}
		if block.Headers["DEK-Info"] != "" || block.Type == blockEncrypted {
			return nil, ErrEncrypted
		}
		switch block.Type {
		case blockPKCS8:
			return parsePKCS8(block.Bytes)
		case blockEC:
			return parseEC(block.Bytes)
		case blockRSA:
			return fromRSA(block.Bytes)
		case blockOpenSSH:
			return parseOpenSSH(block.Bytes)
		}
		text = rest
	}
}

// fromRSA checks the size as libp2p does, which crypto.KeyPairFromStdKey leaves out.
func fromRSA(pkcs1 []byte) (crypto.PrivKey, error) {
	key, err := crypto.UnmarshalRsaPrivateKey(pkcs1)
	if err != nil {
		return nil, fmt.Errorf("%w: rsa: %w", ErrKey, err)
	}
	return key, nil
}

func parsePKCS8(der []byte) (crypto.PrivKey, error) {
	if key, err := parseSecp256k1PKCS8(der); key != nil || err != nil {
		return key, err
	}
	std, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: PKCS #8: %w", ErrKey, err)
	}
	switch std := std.(type) {
	case *rsa.PrivateKey:
		return fromRSA(x509.MarshalPKCS1PrivateKey(std))
	case ed25519.PrivateKey:
		return fromSeed(std.Seed())
	case *ecdsa.PrivateKey:
		key, _, err := crypto.ECDSAKeyPairFromKey(std)
		return key, err
	}
	return nil, fmt.Errorf("%w: PKCS #8 with a %T", ErrType, std)
}

func parseEC(der []byte) (crypto.PrivKey, error) {
	if key, err := parseSecp256k1(der, nil); key != nil || err != nil {
		return key, err
	}
	key, err := crypto.UnmarshalECDSAPrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: ec: %w", ErrKey, err)
	}
	return key, nil
}

// encodePEM writes PKCS #8 for every type of key.
func encodePEM(key crypto.PrivKey) ([]byte, error) {
	der, err := marshalPKCS8(key)
	if err != nil {
		return nil, fmt.Errorf("encode PKCS #8: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockPKCS8, Bytes: der}), nil
}

func marshalPKCS8(key crypto.PrivKey) ([]byte, error) {
	if TypeOf(key) == Secp256k1 {
		return marshalSecp256k1PKCS8(key)
	}
	std, err := crypto.PrivKeyToStdKey(key)
	if err != nil {
		return nil, err
	}
	if p, ok := std.(*ed25519.PrivateKey); ok {
		std = *p // x509 knows the value only
	}
	return x509.MarshalPKCS8PrivateKey(std)
}

// The standard library knows no secp256k1, so its keys are taken apart here.

// ecPrivateKey is ECPrivateKey of RFC 5915.
type ecPrivateKey struct {
	Version    int
	PrivateKey []byte
	Curve      asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
	PublicKey  asn1.BitString        `asn1:"optional,explicit,tag:1"`
}

// pkcs8 is PrivateKeyInfo of RFC 5958 for a key on a named curve.
type pkcs8 struct {
	Version   int
	Algorithm struct {
		ID    asn1.ObjectIdentifier
		Curve asn1.ObjectIdentifier `asn1:"optional"`
	}
	PrivateKey []byte
	Attributes asn1.RawValue `asn1:"optional,tag:0"`
}

func oidECPublicKey() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1} }
func oidSecp256k1() asn1.ObjectIdentifier   { return asn1.ObjectIdentifier{1, 3, 132, 0, 10} }

// parseSecp256k1PKCS8 returns neither key nor error if der is something else than a secp256k1 key.
func parseSecp256k1PKCS8(der []byte) (crypto.PrivKey, error) {
	var info pkcs8
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) > 0 {
		return nil, nil
	}
	if !info.Algorithm.ID.Equal(oidECPublicKey()) || !info.Algorithm.Curve.Equal(oidSecp256k1()) {
		return nil, nil
	}
	return parseSecp256k1(info.PrivateKey, info.Algorithm.Curve)
}

// parseSecp256k1 reads RFC 5915 in the same way. curve is the one named outside of it, if any.
func parseSecp256k1(der []byte, curve asn1.ObjectIdentifier) (crypto.PrivKey, error) {
	var ec ecPrivateKey
	rest, err := asn1.Unmarshal(der, &ec)
	if curve == nil {
		curve = ec.Curve
	}
	if !curve.Equal(oidSecp256k1()) {
		return nil, nil
	}
	if err != nil || len(rest) > 0 || ec.Version != 1 || len(ec.PrivateKey) > 32 {
		return nil, fmt.Errorf("%w: secp256k1 key is not as RFC 5915 has it", ErrKey)
	}
	raw := make([]byte, 32)
	copy(raw[32-len(ec.PrivateKey):], ec.PrivateKey)
	key, err := crypto.UnmarshalSecp256k1PrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: secp256k1: %w", ErrKey, err)
	}
	return checked(key)
}

func marshalSecp256k1PKCS8(key crypto.PrivKey) ([]byte, error) {
	raw, err := key.Raw()
	if err != nil {
		return nil, err
	}
	inner, err := asn1.Marshal(ecPrivateKey{Version: 1, PrivateKey: raw})
	if err != nil {
		return nil, err
	}
	info := pkcs8{PrivateKey: inner}
	info.Algorithm.ID, info.Algorithm.Curve = oidECPublicKey(), oidSecp256k1()
	return asn1.Marshal(info)
}
