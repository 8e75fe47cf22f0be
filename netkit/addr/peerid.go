package addr

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multibase"
	mh "github.com/multiformats/go-multihash"
)

// MaxIDLen is the longest text accepted as a peer id, in bytes. The longest one
// the specification allows is a CIDv1 in base2: about 350 digits.
const MaxIDLen = 512

// maxInlineKey is the largest public key, in bytes of its protobuf form, that a
// peer id may carry whole (libp2p peer-ids specification).
const maxInlineKey = 42

// ErrBadPeerID says that a text is not a peer id in any encoding of the libp2p
// peer-ids specification.
var ErrBadPeerID = errors.New("not a peer id")

// ParseID reads a peer id in any encoding of the libp2p peer-ids specification:
// a base58 multihash (Qm…, 12D3…) or a CIDv1 with the libp2p-key codec in any
// multibase (bafz…, k51…). Errors wrap ErrBadPeerID.
func ParseID(s string) (peer.ID, error) {
	if len(s) > MaxIDLen {
		return "", fmt.Errorf("%w: %d bytes long", ErrBadPeerID, len(s))
	}
	id, err := peer.Decode(s)
	if err != nil {
		return "", fmt.Errorf("%w: %s", ErrBadPeerID, clip(s))
	}
	if err := checkID(id); err != nil {
		return "", err
	}
	return id, nil
}

// checkID refuses multihashes that parse but that no libp2p key can have: such
// an id could never be authenticated, so it is a typing error.
func checkID(id peer.ID) error {
	h, err := mh.Decode([]byte(id))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadPeerID, err)
	}
	switch {
	case h.Code == mh.SHA2_256 && len(h.Digest) == 32:
		return nil
	case h.Code != mh.IDENTITY || len(h.Digest) > maxInlineKey:
		return fmt.Errorf("%w: neither a sha2-256 hash nor a short public key", ErrBadPeerID)
	}
	if _, err := id.ExtractPublicKey(); err != nil {
		return fmt.Errorf("%w: the public key in it: %w", ErrBadPeerID, err)
	}
	return nil
}

// Encodings is one peer id in every encoding that tools of the libp2p world use.
type Encodings struct {
	Base58       string `json:"base58"`        // the usual form: Qm…, 12D3…
	CIDBase32    string `json:"cid_base32"`    // CIDv1, libp2p-key codec: bafz…
	CIDBase36    string `json:"cid_base36"`    // CIDv1, fits one DNS label: k51…, k2…
	MultihashHex string `json:"multihash_hex"` // the bytes on the wire
	Multiaddr    string `json:"multiaddr"`     // /p2p/… component
}

// EncodingsOf returns id in every encoding. It fails, wrapping ErrBadPeerID, when id
// is not a peer id.
func EncodingsOf(id peer.ID) (Encodings, error) {
	if err := checkID(id); err != nil {
		return Encodings{}, err
	}
	c := peer.ToCid(id)
	b36, err := c.StringOfBase(multibase.Base36)
	if err != nil {
		return Encodings{}, fmt.Errorf("encode in base36: %w", err)
	}
	return Encodings{
		Base58:       id.String(),
		CIDBase32:    c.String(),
		CIDBase36:    b36,
		MultihashHex: hex.EncodeToString([]byte(id)),
		Multiaddr:    "/p2p/" + id.String(),
	}, nil
}

// PublicKey returns the public key that id itself reveals. It is false for ids
// that are a hash of the key (every RSA and ECDSA key, and old Ed25519 ids).
func PublicKey(id peer.ID) (crypto.PubKey, bool) {
	key, err := id.ExtractPublicKey()
	return key, err == nil
}

// KeyType names the type of the key that id reveals: "ed25519", "secp256k1", "ecdsa" or "rsa".
// It is empty when the id is only a hash, which tells nothing about the key.
func KeyType(id peer.ID) string {
	key, ok := PublicKey(id)
	if !ok {
		return ""
	}
	return strings.ToLower(key.Type().String())
}

// clip shortens hostile text before it goes into an error message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q… (%d bytes)", s[:most], len(s))
}
