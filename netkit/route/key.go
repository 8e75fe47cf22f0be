package route

import (
	"fmt"
	"strings"

	"dibber/netkit/addr"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
)

// ParseKey reads the key of a record as people write it: /dibber/AUTHOR/NAME, /pk/PEERID or /ipns/PEERID. The key of the
// last two holds the peer id in binary. Errors wrap ErrKey.
func ParseKey(text string) (string, error) {
	ns, rest, _ := strings.Cut(strings.TrimPrefix(text, "/"), "/")
	switch {
	case !strings.HasPrefix(text, "/"):
		return "", fmt.Errorf("%w: %.200q does not begin with /", ErrKey, text)
	case ns == Namespace:
		_, _, err := SplitRecordKey(text)
		return text, err
	case ns == "pk" || ns == "ipns":
		id, err := parseID(rest)
		if err != nil {
			return "", err
		}
		return "/" + ns + "/" + string(id), nil
	}
	return "", fmt.Errorf("%w: %.200q is not under /%s, /pk or /ipns", ErrKey, text, Namespace)
}

// KeyText is a key as ParseKey reads it.
func KeyText(key string) string {
	for _, ns := range []string{"/pk/", "/ipns/"} {
		if id, ok := strings.CutPrefix(key, ns); ok {
			return ns + peer.ID(id).String()
		}
	}
	return key
}

// ParseTarget reads what a lookup can look for, a peer id, a CID or the key of a record, and returns the key to look for.
// Errors wrap ErrKey.
func ParseTarget(text string) (string, error) {
	if strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "/p2p/") {
		return ParseKey(text)
	}
	if id, err := addr.ParseID(strings.TrimPrefix(text, "/p2p/")); err == nil {
		return string(id), nil
	}
	c, err := cid.Decode(text)
	if err != nil {
		return "", fmt.Errorf("%w: %.200q is neither a peer id, a CID nor /%s/AUTHOR/NAME", ErrKey, text, Namespace)
	}
	return string(c.Hash()), nil
}

// ParseCID reads a CID. Errors wrap ErrKey.
func ParseCID(text string) (cid.Cid, error) {
	c, err := cid.Decode(text)
	if err != nil {
		return c, fmt.Errorf("%w: CID: %w", ErrKey, err)
	}
	return c, nil
}

// NamespaceCID is under which peers of a namespace provide, for others to find them: that of its SHA-256, as the routing
// discovery of go-libp2p has it.
func NamespaceCID(ns string) (cid.Cid, error) {
	h, err := multihash.Sum([]byte(ns), multihash.SHA2_256, -1)
	if err != nil {
		return cid.Undef, fmt.Errorf("hash of a namespace: %w", err)
	}
	return cid.NewCidV1(cid.Raw, h), nil
}
