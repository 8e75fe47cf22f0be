package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// parseOpenSSH reads an unencrypted Ed25519 key in the form of ssh-keygen (openssh
// PROTOCOL.key). It is read here because golang.org/x/crypto/ssh would bring a whole
// SSH implementation into the program.
func parseOpenSSH(data []byte) (crypto.PrivKey, error) {
	bad := fmt.Errorf("%w: OpenSSH key is not as PROTOCOL.key has it", ErrKey)
	outer := sshReader{rest: data}
	if !outer.literal("openssh-key-v1\x00") {
		return nil, bad
	}
	cipher, kdf, _ := outer.bytes(), outer.bytes(), outer.bytes()
	count, _, private := outer.uint32(), outer.bytes(), outer.bytes()
	if outer.failed || count != 1 {
		return nil, bad
	}
	if string(cipher) != "none" || string(kdf) != "none" {
		return nil, ErrEncrypted
	}
	inner := sshReader{rest: private}
	check1, check2, kind := inner.uint32(), inner.uint32(), inner.bytes()
	if inner.failed || check1 != check2 {
		return nil, bad
	}
	if string(kind) != "ssh-ed25519" {
		return nil, fmt.Errorf("%w: an OpenSSH key that is not ssh-ed25519", ErrType)
	}
	public, secret := inner.bytes(), inner.bytes()
	if inner.failed || len(secret) != ed25519.PrivateKeySize || !bytes.Equal(secret[ed25519.SeedSize:], public) {
		return nil, bad
	}
	key, err := crypto.UnmarshalEd25519PrivateKey(bytes.Clone(secret))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return checked(key)
}

// sshReader takes the data types of RFC 4251 section 5 from its rest. After the first that
// does not fit, failed is set and everything is empty.
type sshReader struct {
	rest   []byte
	failed bool
}

func (r *sshReader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.failed, r.rest = true, nil
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *sshReader) literal(s string) bool { return string(r.take(uint64(len(s)))) == s }

func (r *sshReader) uint32() uint32 {
	b := r.take(4)
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func (r *sshReader) bytes() []byte { return r.take(uint64(r.uint32())) }
