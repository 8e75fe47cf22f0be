package addr

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// ErrBadRange says that a text is not a range of IP addresses.
var ErrBadRange = errors.New("not an ip range")

// ParseRange reads a range of IP addresses: CIDR (10.0.0.0/8), one address (10.0.0.1), or the
// multiaddr form kubo uses for filters (/ip4/10.0.0.0/ipcidr/8). Bits beyond the prefix are
// cleared, IPv4-mapped IPv6 ranges become IPv4. Errors wrap ErrBadRange.
func ParseRange(s string) (netip.Prefix, error) {
	ip, bits, ok := splitRange(strings.TrimSpace(s))
	if ip.Is4In6() {
		ip, bits = ip.Unmap(), bits-96
	}
	p, err := ip.Prefix(bits)
	if !ok || ip.Zone() != "" || err != nil {
		return netip.Prefix{}, fmt.Errorf("%w: %s", ErrBadRange, clip(s))
	}
	return p, nil
}

// splitRange takes a range apart into its address and its number of bits.
func splitRange(s string) (ip netip.Addr, bits int, ok bool) {
	switch {
	case len(s) > MaxAddrLen:
		return ip, 0, false
	case strings.HasPrefix(s, "/"):
		return splitAddrRange(s)
	case strings.Contains(s, "/"):
		p, err := netip.ParsePrefix(s)
		return p.Addr(), p.Bits(), err == nil
	}
	ip, err := netip.ParseAddr(s)
	return ip, ip.BitLen(), err == nil
}

// splitAddrRange does it for multiaddrs: /ip4/A, /ip6/A, either with /ipcidr/N.
func splitAddrRange(s string) (ip netip.Addr, bits int, ok bool) {
	a, err := ma.NewMultiaddr(s)
	if err != nil || a[0].Code() != ma.P_IP4 && a[0].Code() != ma.P_IP6 {
		return ip, 0, false
	}
	ip, ok = netip.AddrFromSlice(a[0].RawValue())
	switch {
	case len(a) == 1:
		return ip, ip.BitLen(), ok
	case len(a) == 2 && a[1].Code() == ma.P_IPCIDR:
		return ip, int(a[1].RawValue()[0]), ok
	}
	return ip, 0, false
}

// Ranges is a list of IP ranges as ParseRange returns them.
type Ranges []netip.Prefix

// Contains reports whether ip is in one of the ranges.
func (r Ranges) Contains(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	for _, p := range r {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// ParseRanges reads the values of a list flag: ranges as ParseRange reads them, and @file for a
// file of them, one a line. Errors in a file are *LineError.
func ParseRanges(values []string, open OpenFunc) (Ranges, error) {
	var ranges Ranges
	err := eachValue(values, open, func(s string) error {
		p, err := ParseRange(s)
		ranges = append(ranges, p)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ranges, nil
}

// ParseIDs reads the values of a list flag: peer ids as ParseID reads them (or multiaddrs that
// end with one), and @file for a file of them, one a line. Errors in a file are *LineError.
func ParseIDs(values []string, open OpenFunc) ([]peer.ID, error) {
	var ids []peer.ID
	err := eachValue(values, open, func(s string) error {
		t, err := ParseTarget(s, Options{})
		ids = append(ids, t.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

func eachValue(values []string, open OpenFunc, fn func(string) error) error {
	for _, v := range values {
		name, isFile := strings.CutPrefix(v, "@")
		var err error
		if isFile {
			err = eachLineOf(open, name, fn)
		} else {
			err = fn(v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
