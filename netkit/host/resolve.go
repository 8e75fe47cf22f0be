package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
)

const (
	// maxResolved bounds how many addresses one name may become: a hostile zone
	// must not make a dial fan out without end. It is libp2p's own bound.
	maxResolved = 100
	// maxDNSAddrDepth bounds /dnsaddr records that point at others.
	maxDNSAddrDepth = 4
)

// ErrNotFound means that a name resolved to no usable address.
var ErrNotFound = errors.New("no usable address behind the name")

// Resolution is what one address became.
type Resolution struct {
	From  ma.Multiaddr
	Addrs []ma.Multiaddr // From itself when it holds no name
	Took  time.Duration  // 0 when nothing was asked
	Err   error
}

// Resolve turns /dns, /dns4, /dns6 and /dnsaddr into addresses of p; an empty p
// accepts those of any peer, and keeps their /p2p part. Relayed addresses are left
// to be resolved at the relay's dial.
func (n *Node) Resolve(ctx context.Context, p peer.ID, a ma.Multiaddr) Resolution {
	r := Resolution{From: a, Addrs: []ma.Multiaddr{a}}
	if addr.ScopeOf(a) != addr.ScopeDNS || addr.IsRelayed(a) {
		return r
	}
	start := time.Now()
	r.Addrs, r.Err = n.resolveName(ctx, p, a, maxDNSAddrDepth)
	r.Took = time.Since(start)
	if r.Err == nil && len(r.Addrs) == 0 {
		r.Err = fmt.Errorf("resolve %s: %w", a, ErrNotFound)
	}
	return r
}

func (n *Node) resolveName(ctx context.Context, p peer.ID, a ma.Multiaddr, depth int) ([]ma.Multiaddr, error) {
	if addr.ScopeOf(a) != addr.ScopeDNS {
		return []ma.Multiaddr{a}, nil
	}
	if a[0].Protocol().Code == ma.P_DNSADDR && depth == 0 {
		return nil, fmt.Errorf("resolve %s: nested more than %d deep", a, maxDNSAddrDepth)
	}
	// Some transports need the name later, as wss does for its SNI.
	if t, ok := n.swarm().TransportForDialing(a).(transport.Resolver); ok {
		named, err := t.Resolve(ctx, a)
		if err != nil {
			return nil, fmt.Errorf("resolve %s: %w", a, err)
		}
		if len(named) == 1 {
			a = named[0]
		}
	}
	found, err := n.resolver().Resolve(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", a, err)
	}
	var out []ma.Multiaddr
	for _, f := range found {
		if len(out) >= maxResolved {
			break
		}
		rest, id := peer.SplitAddr(f)
		if p != "" {
			if id != "" && id != p || rest == nil {
				continue // somebody else's, under a shared /dnsaddr name
			}
			f = rest
		}
		next, err := n.resolveName(ctx, p, f, depth-1)
		if err != nil {
			return out, err
		}
		out = append(out, next...)
	}
	return out[:min(len(out), maxResolved)], nil
}

// resolver is the configured resolver or the system's.
func (n *Node) resolver() *madns.Resolver {
	if n.cfg.Resolver != nil {
		return n.cfg.Resolver
	}
	return madns.DefaultResolver
}
