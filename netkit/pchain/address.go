package pchain

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// ErrAddress means that a text is not the address of a peer, or that a peer has none because its key is not Ed25519.
var ErrAddress = errors.New("no ParallelChain address")

// Address is an account of the chain and the peer that holds its key: an Ed25519 public key.
type Address [32]byte

// encoding is that of addresses in text: RFC 4648, section 5, without padding. A text that leaves unused bits set is not the one
// way to write an address, and so a topic to which nobody listens.
var encoding = base64.RawURLEncoding.Strict()

// ParseAddress reads the 43 characters of an address. Errors wrap ErrAddress.
func ParseAddress(text string) (Address, error) {
	var a Address
	data, err := encoding.DecodeString(text)
	if err != nil || len(data) != len(a) || len(text) != encoding.EncodedLen(len(a)) { // the library passes over line ends
		return a, fmt.Errorf("%w: %.60q is not 43 characters of base64url", ErrAddress, text)
	}
	return Address(data), nil
}

// AddressOf returns the address that the key in a peer id is. Errors wrap ErrAddress.
func AddressOf(p peer.ID) (Address, error) {
	key, err := p.ExtractPublicKey()
	if err != nil {
		return Address{}, fmt.Errorf("%w: %s does not contain its key: %w", ErrAddress, p, err)
	}
	if key.Type() != crypto.Ed25519 {
		return Address{}, fmt.Errorf("%w: the key of %s is of type %s, not Ed25519", ErrAddress, p, key.Type())
	}
	raw, err := key.Raw()
	if err != nil || len(raw) != len(Address{}) {
		return Address{}, fmt.Errorf("%w: the key of %s: %w", ErrAddress, p, errors.Join(err, errors.New("malformed")))
	}
	return Address(raw), nil
}

// Peer returns the peer id that is made of the address.
func (a Address) Peer() peer.ID {
	key, err := crypto.UnmarshalEd25519PublicKey(a[:])
	if err != nil { // only for another length
		return ""
	}
	id, err := peer.IDFromPublicKey(key)
	if err != nil {
		return ""
	}
	return id
}

// String returns the 43 characters that ParseAddress reads.
func (a Address) String() string { return encoding.EncodeToString(a[:]) }

// MarshalText implements encoding.TextMarshaler.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Address) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAddress(string(text))
	return err
}

// DefaultPort is the TCP port of peers before 0.5; later ones have no default.
const DefaultPort = 25519

// Boot is where a node looks for its first peers.
type Boot struct {
	Address Address
	Host    string // IPv4 or IPv6 address, or a DNS name
	Port    uint16
}

// ErrBoot means that a text does not name a boot node.
var ErrBoot = errors.New("no boot node")

// ParseBoot reads ADDRESS@HOST:PORT; an IPv6 address stands in brackets. Errors wrap ErrBoot, and ErrAddress where that is wrong.
func ParseBoot(text string) (Boot, error) {
	who, at, found := strings.Cut(text, "@")
	if !found {
		return Boot{}, fmt.Errorf("%w: %.200q is not ADDRESS@HOST:PORT", ErrBoot, text)
	}
	address, err := ParseAddress(who)
	if err != nil {
		return Boot{}, fmt.Errorf("%w: %w", ErrBoot, err)
	}
	host, digits, err := net.SplitHostPort(at)
	if err != nil {
		return Boot{}, fmt.Errorf("%w: %.200q is not HOST:PORT", ErrBoot, at)
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || port == 0 {
		return Boot{}, fmt.Errorf("%w: port %.20q is not between 1 and 65535", ErrBoot, digits)
	}
	b := Boot{Address: address, Host: host, Port: uint16(port)}
	if _, err := b.multiaddr(); err != nil {
		return Boot{}, fmt.Errorf("%w: host %.200q: %w", ErrBoot, host, err)
	}
	return b, nil
}

// String returns what ParseBoot reads.
func (b Boot) String() string {
	return b.Address.String() + "@" + net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
}

// AddrInfo is the boot node as libp2p dials it; a name stays one, to be resolved at each dial. Errors wrap ErrBoot.
func (b Boot) AddrInfo() (peer.AddrInfo, error) {
	at, err := b.multiaddr()
	if err != nil {
		return peer.AddrInfo{}, fmt.Errorf("%w: host %.200q: %w", ErrBoot, b.Host, err)
	}
	return peer.AddrInfo{ID: b.Address.Peer(), Addrs: []ma.Multiaddr{at}}, nil
}

// errHost is for what is neither an IP address nor a name that DNS can hold (RFC 1123, section 2.1, and the underscore in use).
var errHost = errors.New("neither an IP address nor a name")

func (b Boot) multiaddr() (ma.Multiaddr, error) {
	kind := "dns"
	if ip, err := netip.ParseAddr(b.Host); err == nil {
		if ip.Zone() != "" {
			return nil, errors.New("an address with a zone is good on this machine alone")
		}
		kind = "ip6"
		if ip.Is4() {
			kind = "ip4"
		}
	} else if b.Host == "" || len(b.Host) > 253 || strings.ContainsFunc(b.Host, notOfName) {
		return nil, errHost
	}
	return ma.NewMultiaddr(fmt.Sprintf("/%s/%s/tcp/%d", kind, b.Host, b.Port))
}

func notOfName(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '_':
		return false
	}
	return true
}
