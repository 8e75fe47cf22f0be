package natlab

import (
	"net/netip"
	"time"
)

// Firewall describes a stateful packet filter that translates nothing, as home
// routers put before IPv6 (RFC 6092). The zero value lets anybody in to an inside
// endpoint that has sent a packet within two minutes.
type Firewall struct {
	Filtering Dependence    // which remotes may answer (RFC 6092 section 3.2.3)
	Timeout   time.Duration // how long after the last packet from inside; 0 means DefaultTimeout
}

// filter is the state of a Firewall.
type filter struct {
	fw      Firewall
	permits map[flow]time.Time
}

func newFilter(fw Firewall) *filter {
	if fw.Timeout == 0 {
		fw.Timeout = DefaultTimeout
	}
	return &filter{fw: fw, permits: map[flow]time.Time{}}
}

// Outbound lets every packet out and remembers where it went.
func (f *filter) Outbound(now time.Time, src, dst netip.AddrPort) (netip.AddrPort, Verdict) {
	f.permits[flow{src, f.fw.Filtering.key(dst)}] = now
	return src, Passed
}

// Inbound lets a packet in if the inside endpoint asked for it lately.
func (f *filter) Inbound(now time.Time, src, dst netip.AddrPort) (netip.AddrPort, Verdict) {
	asked, ok := f.permits[flow{dst, f.fw.Filtering.key(src)}]
	if !ok || now.Sub(asked) >= f.fw.Timeout {
		return netip.AddrPort{}, Dropped
	}
	return dst, Passed
}
