package natlab

import (
	"net/netip"
	"slices"
)

// part is a pair of addresses between which nothing passes.
type part [2]netip.Addr

// Part makes the internet lose every packet between two of its addresses, of
// machines or routers on it, while both reach all others, until join is called.
func (l *Lab) Part(a, b netip.Addr) (join func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := part{a, b}
	l.parts = append(l.parts, p)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.parts = slices.DeleteFunc(l.parts, func(q part) bool { return q == p })
	}
}

// parted reports whether p may not pass the internet. The caller holds l.mu.
func (l *Lab) parted(p packet) bool {
	src, dst := p.src.Addr(), p.dst.Addr()
	return slices.ContainsFunc(l.parts, func(q part) bool { return q == part{src, dst} || q == part{dst, src} })
}
