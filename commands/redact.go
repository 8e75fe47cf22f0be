package commands

import (
	"fmt"
	"net/netip"
	"regexp"
	"sync"
)

// redactor replaces what tells who and where somebody is, within one run the same
// always by the same: addresses by those of the documentation ranges (RFC 5737, RFC
// 3849), names by example, peer ids by words. Loopback and unspecified addresses stay.
type redactor struct {
	// The forms that are looked for; what only looks like an address is left.
	peer, name, ip4, ip6 *regexp.Regexp

	mu    sync.Mutex // guards following
	known map[string]string
	count map[string]int
	given map[string]bool // what stands for something, which passes as it is
}

func newRedactor() *redactor {
	return &redactor{
		peer:  regexp.MustCompile(`\b(?:12D3KooW\w{44}|16Uiu2\w{48}|Qm[1-9A-HJ-NP-Za-km-z]{44})\b`),
		name:  regexp.MustCompile(`(/dns(?:4|6|addr)?/)([^/"\s]+)`),
		ip4:   regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}\b`),
		ip6:   regexp.MustCompile(`[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}(?:\.\d{1,3}){0,3}`),
		known: make(map[string]string), count: make(map[string]int), given: make(map[string]bool),
	}
}

func (r *redactor) redact(b []byte) []byte {
	b = r.peer.ReplaceAllFunc(b, func(id []byte) []byte { return r.standIn("peer", string(id), "redacted-peer-%d") })
	b = r.name.ReplaceAllFunc(b, func(whole []byte) []byte {
		parts := r.name.FindSubmatch(whole)
		return append(parts[1], r.standIn("name", string(parts[2]), "name-%d.example")...)
	})
	b = r.ip4.ReplaceAllFunc(b, func(ip []byte) []byte { return r.address(ip, "192.0.2.%d") })
	return r.ip6.ReplaceAllFunc(b, func(ip []byte) []byte { return r.address(ip, "2001:db8::%x") })
}

func (r *redactor) address(text []byte, format string) []byte {
	ip, err := netip.ParseAddr(string(text))
	if err != nil || ip.IsLoopback() || ip.IsUnspecified() || netip.MustParsePrefix("192.0.2.0/24").Contains(ip) {
		return text
	}
	return r.standIn(format, ip.String(), format)
}

// standIn is what stands for a value from now on.
func (r *redactor) standIn(kind, value, format string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.given[value] {
		return []byte(value)
	}
	if r.known[value] == "" {
		r.count[kind]++
		r.known[value] = fmt.Sprintf(format, r.count[kind])
		r.given[r.known[value]] = true
	}
	return []byte(r.known[value])
}
