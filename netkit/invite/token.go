// Package invite makes and reads the tokens by which the operator of a node lets others in: signed, for a time, and revocable. A
// [Book] remembers in the state folder which were made, which were revoked, and who came by them.
//
// A token is "dibber-join-1." and, in base64url without padding, a body and an Ed25519 signature over "dibber join token 1", a zero
// byte and the body. The body is a version byte, 1; the 16 bytes of the token's name; its end, in seconds since 1970 as 8 bytes, big
// endian; and then, each with its length before it as an unsigned varint, the peer id of who invites, a list of its addresses, a list
// of relays, a namespace and the key of a private network. A list is its length and its elements. Every body has exactly one form.
package invite

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/crypto/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Limits of a token.
const (
	// MaxToken is the most bytes of a token's body and signature.
	MaxToken = 4096
	// MaxAddrs is the most addresses, and the most relays, of a token.
	MaxAddrs = 16
	// MaxNamespace is the most bytes of a namespace.
	MaxNamespace = 255
	// PSKLen is the length of the key of a private network.
	PSKLen = 32
)

const (
	prefix       = "dibber-join-1."
	domain       = "dibber join token 1\x00"
	version      = 1
	idLen        = 16
	signatureLen = 64
)

var (
	// ErrFormat means that something is no token.
	ErrFormat = errors.New("not a join token")
	// ErrSignature means that a token is not as its maker signed it.
	ErrSignature = errors.New("the join token was tampered with: its signature does not fit")
	// ErrExpired means that a token's time is over.
	ErrExpired = errors.New("the join token has expired")
	// ErrKey means that a key cannot sign tokens.
	ErrKey = errors.New("join tokens are signed by Ed25519 keys only")
)

// ID names a token.
type ID [idLen]byte

// String is the ID in hex, as [ParseID] reads it.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}

// ParseID reads the name of a token.
func ParseID(text string) (id ID, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != idLen {
		return id, fmt.Errorf("%q is not the name of a join token, which has %d hex digits", shorten(text), 2*idLen)
	}
	return ID(raw), nil
}

// shorten keeps an error from repeating more of its input than a person reads.
func shorten(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

// Token is an invitation to one node.
type Token struct {
	ID        ID
	Expires   time.Time      // in whole seconds
	Peer      peer.ID        // who invites; its key signs
	Addrs     []ma.Multiaddr // of Peer, without /p2p/PEER
	Relays    []ma.Multiaddr // each ends with /p2p/RELAY
	Namespace string         // where to register and to look; empty: nowhere
	PSK       []byte         // of the private network; nil: none, or not told
}

// NewID makes a name.
func NewID() (id ID, err error) {
	if _, err := rand.Read(id[:]); err != nil {
		return id, fmt.Errorf("name of a token: %w", err)
	}
	return id, nil
}

// Sign writes the token of who has the key. Peer is taken from that. It fails with ErrKey, or ErrFormat for what no token holds.
func (t Token) Sign(key crypto.PrivKey) (string, error) {
	if key.Type() != pb.KeyType_Ed25519 {
		return "", ErrKey
	}
	var err error
	if t.Peer, err = peer.IDFromPrivateKey(key); err != nil {
		return "", fmt.Errorf("peer id of the key: %w", err)
	}
	if err := t.check(); err != nil {
		return "", err
	}
	body := t.body()
	signature, err := key.Sign(append([]byte(domain), body...))
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	if len(body)+len(signature) > MaxToken {
		return "", fmt.Errorf("%w: it would have more than %d bytes", ErrFormat, MaxToken)
	}
	return prefix + base64.RawURLEncoding.EncodeToString(append(body, signature...)), nil
}

// check reports what no token may hold.
func (t *Token) check() error {
	switch {
	case len(t.Addrs) > MaxAddrs || len(t.Relays) > MaxAddrs:
		return fmt.Errorf("%w: more than %d addresses", ErrFormat, MaxAddrs)
	case len(t.Namespace) > MaxNamespace:
		return fmt.Errorf("%w: a namespace of more than %d bytes", ErrFormat, MaxNamespace)
	case t.PSK != nil && len(t.PSK) != PSKLen:
		return fmt.Errorf("%w: a network key of %d bytes", ErrFormat, len(t.PSK))
	}
	for _, r := range t.Relays {
		if _, id := peer.SplitAddr(r); id == "" {
			return fmt.Errorf("%w: the relay %s has no peer id", ErrFormat, r)
		}
	}
	return nil
}

// body is the one form of what is signed.
func (t *Token) body() []byte {
	b := append([]byte{version}, t.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Expires.Unix()))
	field := func(data []byte) { b = append(binary.AppendUvarint(b, uint64(len(data))), data...) }
	field([]byte(t.Peer))
	for _, list := range [][]ma.Multiaddr{t.Addrs, t.Relays} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, a := range list {
			field(a.Bytes())
		}
	}
	field([]byte(t.Namespace))
	field(t.PSK)
	return b
}

// Parse reads a token and verifies that its maker signed it. It fails with ErrFormat or ErrSignature; whether it has expired is for
// [Token.InTime].
func Parse(text string) (Token, error) {
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), prefix)
	if !ok || len(encoded) > base64.RawURLEncoding.EncodedLen(MaxToken) {
		return Token{}, fmt.Errorf("%w: it does not begin with %s, or is too long", ErrFormat, prefix)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return Token{}, fmt.Errorf("%w: not in base64url", ErrFormat)
	}
	return Open(raw)
}

// Bytes is what of a token's text [Open] reads.
func Bytes(text string) ([]byte, error) {
	if _, err := Parse(text); err != nil {
		return nil, err
	}
	return base64.RawURLEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(text), prefix))
}

// Open reads a token's body and signature, as Parse does.
func Open(raw []byte) (Token, error) {
	if len(raw) > MaxToken || len(raw) < signatureLen {
		return Token{}, fmt.Errorf("%w: %d bytes", ErrFormat, len(raw))
	}
	body, signature := raw[:len(raw)-signatureLen], raw[len(raw)-signatureLen:]
	t, err := parseBody(body)
	if err != nil {
		return Token{}, err
	}
	key, err := t.Peer.ExtractPublicKey()
	if err != nil || key.Type() != pb.KeyType_Ed25519 {
		return Token{}, fmt.Errorf("%w: %w", ErrFormat, ErrKey)
	}
	if ok, err := key.Verify(append([]byte(domain), body...), signature); err != nil || !ok {
		return Token{}, ErrSignature
	}
	return t, nil
}

// InTime fails with ErrExpired where the token's time is over.
func (t *Token) InTime(now time.Time) error {
	if !now.Before(t.Expires) {
		return fmt.Errorf("%w: at %s", ErrExpired, t.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// reader takes a body apart. After what is missing or too long it takes nothing.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out
}

func (r *reader) count() uint64 {
	n, used := binary.Uvarint(r.rest)
	if used <= 0 {
		r.bad = true
		return 0
	}
	r.take(uint64(used))
	return n
}

func (r *reader) field() []byte { return r.take(r.count()) }

func (r *reader) addrs() (out []ma.Multiaddr) {
	n := r.count()
	if n > MaxAddrs {
		r.bad = true
	}
	for range n {
		a, err := ma.NewMultiaddrBytes(r.field())
		if r.bad || err != nil || len(a) == 0 {
			r.bad = true
			return nil
		}
		out = append(out, a)
	}
	return out
}

// parseBody reads what body writes, and nothing else.
func parseBody(body []byte) (t Token, err error) {
	r := &reader{rest: body}
	if v := r.take(1); len(v) == 0 || v[0] != version {
		return t, fmt.Errorf("%w: of another version", ErrFormat)
	}
	copy(t.ID[:], r.take(idLen))
	if end := r.take(8); end != nil {
		t.Expires = time.Unix(int64(binary.BigEndian.Uint64(end)), 0).UTC()
	}
	t.Peer = peer.ID(r.field())
	t.Addrs, t.Relays = r.addrs(), r.addrs()
	t.Namespace = string(r.field())
	if psk := r.field(); len(psk) > 0 {
		t.PSK = psk
	}
	if r.bad || len(r.rest) > 0 || t.Peer.Validate() != nil || !bytes.Equal(t.body(), body) {
		return Token{}, fmt.Errorf("%w: malformed", ErrFormat)
	}
	if err := t.check(); err != nil {
		return Token{}, err
	}
	return t, nil
}
