package addr

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Limits on what one target may hold; a text beyond them is refused before it is parsed.
const (
	MaxTargetLen = 64 << 10 // bytes of one target, AddrInfo JSON included
	MaxAddrLen   = 4 << 10  // bytes of one multiaddr in text form
	MaxAddrs     = 256      // addresses of one peer
)

var (
	// ErrNoPeerID says that an address does not end with /p2p/ID.
	ErrNoPeerID = errors.New("no peer id (an address ends with /p2p/ID)")
	// ErrTooLong says that a text or a list is longer than this package reads.
	ErrTooLong = errors.New("too long")
	// ErrBadAddr says that a text is not a multiaddr that can name a peer.
	ErrBadAddr = errors.New("bad multiaddr")
)

// Options widen what is taken for a target. The zero value is the strict reading.
type Options struct {
	// AllowUnknownPeer accepts addresses without a peer id; their Target has an empty ID.
	AllowUnknownPeer bool
}

// Target is a peer as somebody named it.
type Target struct {
	// ID is the peer; empty only with Options.AllowUnknownPeer.
	ID peer.ID
	// Addrs are its addresses in the order given, each once and without the trailing
	// /p2p/ID. It is empty when only the peer id is known.
	Addrs []ma.Multiaddr
	// Name is the peer's name in the table, empty if it was not named through one.
	Name string
}

// AddrInfo returns the target as go-libp2p names a peer.
func (t Target) AddrInfo() peer.AddrInfo { return peer.AddrInfo{ID: t.ID, Addrs: t.Addrs} }

// P2PAddrs returns the addresses with /p2p/ID at their end, or as they are if the id is
// unknown; for a target without addresses it is the lone /p2p/ID.
func (t Target) P2PAddrs() []ma.Multiaddr {
	if t.ID == "" {
		return t.Addrs
	}
	if len(t.Addrs) == 0 {
		return []ma.Multiaddr{WithPeer(nil, t.ID)}
	}
	full := make([]ma.Multiaddr, len(t.Addrs))
	for i, a := range t.Addrs {
		full[i] = WithPeer(a, t.ID)
	}
	return full
}

// WithPeer returns a with /p2p/id at its end. It returns a unchanged if id is no peer id.
func WithPeer(a ma.Multiaddr, id peer.ID) ma.Multiaddr {
	c, err := ma.NewComponent("p2p", id.String())
	if err != nil {
		return a
	}
	// AppendComponent would write into memory that a may share with other addresses.
	return a.Encapsulate(c)
}

// ParseTarget reads one peer: a multiaddr that ends with /p2p/ID (or /ipfs/ID), which
// may be a circuit address or begin with a DNS name; a bare peer id; or an
// AddrInfo as JSON in the form go-libp2p writes. Errors wrap ErrNoPeerID,
// ErrBadPeerID, ErrBadAddr or ErrTooLong.
func ParseTarget(s string, opts Options) (Target, error) {
	s = strings.TrimSpace(s)
	switch {
	case len(s) > MaxTargetLen:
		return Target{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, len(s), MaxTargetLen)
	case strings.HasPrefix(s, "{"):
		t, err := parseAddrInfo([]byte(s))
		if err != nil {
			return Target{}, fmt.Errorf("addrinfo json: %w", err)
		}
		return t, nil
	case strings.HasPrefix(s, "/"):
		return parseAddr(s, opts)
	}
	id, err := ParseID(s)
	if err != nil {
		return Target{}, fmt.Errorf("not a multiaddr and %w", err)
	}
	return Target{ID: id}, nil
}

func parseAddr(s string, opts Options) (Target, error) {
	a, err := ParseAddr(s)
	if err != nil {
		return Target{}, err
	}
	t, err := Split(a)
	if errors.Is(err, ErrNoPeerID) && opts.AllowUnknownPeer && !IsRelayed(a) {
		return Target{Addrs: []ma.Multiaddr{a}}, nil
	}
	if err != nil {
		return Target{}, fmt.Errorf("%s: %w", clip(s), err)
	}
	return t, nil
}

// ParseAddr reads a multiaddr of a peer, with or without a peer id at its end, of at
// most MaxAddrLen bytes. Errors wrap ErrBadAddr, ErrBadPeerID or ErrTooLong.
func ParseAddr(s string) (ma.Multiaddr, error) {
	if len(s) > MaxAddrLen {
		return nil, fmt.Errorf("%w: address of %d bytes, at most %d", ErrTooLong, len(s), MaxAddrLen)
	}
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		// The library repeats the whole input in front of its reason.
		reason := strings.TrimPrefix(err.Error(), fmt.Sprintf("failed to parse multiaddr %q: ", s))
		return nil, fmt.Errorf("%w %s: %s", ErrBadAddr, clip(s), reason)
	}
	if err := checkPeers(a); err != nil {
		return nil, fmt.Errorf("%s: %w", clip(s), err)
	}
	return a, nil
}

// checkPeers refuses addresses whose peer ids cannot be any peer's or stand where none may.
func checkPeers(a ma.Multiaddr) error {
	for i, c := range a {
		if c.Code() != ma.P_P2P {
			continue
		}
		if err := checkID(peer.ID(c.RawValue())); err != nil {
			return err
		}
		if i+1 < len(a) && a[i+1].Code() != ma.P_CIRCUIT {
			return fmt.Errorf("%w: only /p2p-circuit may follow a peer id", ErrBadAddr)
		}
	}
	return nil
}

// Split takes a apart into the peer it names and the address of that peer. Errors wrap
// ErrNoPeerID, ErrBadPeerID or ErrBadAddr.
func Split(a ma.Multiaddr) (Target, error) {
	if err := checkPeers(a); err != nil {
		return Target{}, err
	}
	last := len(a) - 1
	if last < 0 || a[last].Code() != ma.P_P2P {
		return Target{}, ErrNoPeerID
	}
	t := Target{ID: peer.ID(a[last].RawValue())}
	if last > 0 {
		t.Addrs = []ma.Multiaddr{a[:last:last]}
	}
	return t, nil
}

// parseAddrInfo reads AddrInfo JSON. Its addresses may repeat the peer id at their end.
func parseAddrInfo(data []byte) (Target, error) {
	// encoding/json matches keys in any case: {"id":…,"addrs":…} is read as well.
	var in struct {
		ID    string
		Addrs []string
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return Target{}, err
	}
	if len(in.Addrs) > MaxAddrs {
		return Target{}, fmt.Errorf("%w: %d addresses, at most %d", ErrTooLong, len(in.Addrs), MaxAddrs)
	}
	if in.ID == "" {
		return Target{}, ErrNoPeerID
	}
	id, err := ParseID(in.ID)
	if err != nil {
		return Target{}, err
	}
	t := Target{ID: id}
	for _, s := range in.Addrs {
		a, err := ParseAddr(s)
		if err != nil {
			return Target{}, err
		}
		one, err := Split(a)
		switch {
		case errors.Is(err, ErrNoPeerID):
			one = Target{ID: id, Addrs: []ma.Multiaddr{a}}
		case err != nil:
			return Target{}, err
		case one.ID != id:
			return Target{}, fmt.Errorf("%w %s: it names another peer", ErrBadAddr, clip(s))
		}
		t.Addrs = appendNew(t.Addrs, one.Addrs...)
	}
	return t, nil
}

// Merge joins the targets that name the same peer, keeping the order in which peers
// and their addresses first appear. Targets without a peer id are joined only if they
// have the same first address.
func Merge(targets []Target) []Target {
	var merged []Target
	index := make(map[string]int, len(targets))     // by peer
	seen := make(map[string]struct{}, len(targets)) // by peer and address
	for _, t := range targets {
		key := string(t.ID)
		if t.ID == "" && len(t.Addrs) > 0 {
			key = t.Addrs[0].String() // begins with /, as no multihash does
		}
		i, known := index[key]
		if !known {
			i = len(merged)
			index[key] = i
			merged = append(merged, Target{ID: t.ID})
		}
		m := &merged[i]
		for _, a := range t.Addrs {
			full := key + a.String()
			if _, dup := seen[full]; !dup {
				seen[full] = struct{}{}
				m.Addrs = append(m.Addrs, a)
			}
		}
		if m.Name == "" {
			m.Name = t.Name
		}
	}
	return merged
}
