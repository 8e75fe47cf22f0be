package punch

import (
	"cmp"
	"math"
	"slices"

	"dibber/netkit/addr"

	ma "github.com/multiformats/go-multiaddr"
)

// Share is how many of several punches one kind of path gave.
type Share struct {
	Transport string  `json:"transport"` // quic or tcp; empty: all
	Family    string  `json:"family"`    // ip4 or ip6; empty: all
	Tried     int     `json:"tried"`     // punches that one of this kind won, or in which an attempt with one failed
	Direct    int     `json:"direct"`    // of these, won by one
	Low       float64 `json:"low"`       // bounds of the share with 95 % confidence
	High      float64 `json:"high"`
}

// Tally counts reports: in all first, then by transport and family. All kinds are dialled
// at once, and nothing is known of those that lost a race.
func Tally(reports []Report) []Share {
	all := Share{}
	kinds := make(map[Share]*Share)
	for _, r := range reports {
		all.Tried++
		tried := make(map[Share]bool)
		for _, a := range r.Attempts {
			if a.Outcome == Direct {
				continue
			}
			for _, at := range a.Remote {
				if k, ok := kindOf(at); ok {
					tried[k] = true
				}
			}
		}
		var won Share
		if r.Outcome == Direct && r.Addr != nil {
			all.Direct++
			if k, ok := kindOf(*r.Addr); ok {
				won, tried[k] = k, true
			}
		}
		for k := range tried {
			if kinds[k] == nil {
				kinds[k] = &Share{Transport: k.Transport, Family: k.Family}
			}
			kinds[k].Tried++
			if k == won {
				kinds[k].Direct++
			}
		}
	}
	out := []Share{all}
	for _, s := range kinds {
		out = append(out, *s)
	}
	slices.SortFunc(out[1:], func(a, b Share) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Transport, b.Transport))
	})
	for i := range out {
		out[i].Low, out[i].High = wilson(out[i].Direct, out[i].Tried)
	}
	return out
}

// kindOf is the transport and family of an address, as the key of its Share.
func kindOf(at string) (Share, bool) {
	a, err := ma.NewMultiaddr(at)
	if err != nil {
		return Share{}, false
	}
	ip, ok := addr.IP(a)
	if !ok {
		return Share{}, false
	}
	k := Share{Transport: addr.Transport(a), Family: "ip4"}
	if ip.Is6() {
		k.Family = "ip6"
	}
	return k, true
}

// wilson is the score interval of a share with 95 % confidence (Wilson 1927, JASA
// 22:209): unlike the usual one it is right for few tries and for none that failed.
func wilson(hits, of int) (low, high float64) {
	if of == 0 {
		return 0, 1
	}
	const z = 1.959964
	n, p := float64(of), float64(hits)/float64(of)
	centre := p + z*z/(2*n)
	spread := z * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	scale := 1 + z*z/n
	return max(0, (centre-spread)/scale), min(1, (centre+spread)/scale)
}
