//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"

	"dibber/netkit/natlab"
)

// cell is one pair of kinds.
type cell struct {
	Target string    `json:"target"`
	Dialer string    `json:"dialer"`
	Runs   int       `json:"runs"`
	MS     []float64 `json:"ms"` // from the relay alone to direct, of the runs that came to it
	// RTT are the round trips over the direct connections of dibber, by the quickest ping of each: what the links of the bed take, which
	// is more than they are set to.
	RTT []float64 `json:"rtt_ms,omitempty"`

	target, dialer natlab.NAT
}

// table is what one sort of peers does over one transport.
type table struct {
	Who       string `json:"who"`
	Bed       string `json:"bed"` // tun or nft
	Transport string `json:"transport"`
	Cells     []cell `json:"cells"`
}

// String prints the table.
func (t table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s over %s (%s), ms from the relay alone to direct\n%-22s", t.Who, t.Transport, t.Bed, "target \\ dialler")
	var target string
	for _, c := range t.Cells {
		if c.Target == t.Cells[0].Target {
			fmt.Fprintf(&b, "%22s", c.Dialer)
		}
	}
	for _, c := range t.Cells {
		if c.Target != target {
			target = c.Target
			fmt.Fprintf(&b, "\n%-22s", target)
		}
		fmt.Fprintf(&b, "%22s", c)
	}
	direct, runs := t.count()
	fmt.Fprintf(&b, "\n%d of %d pairs direct, %d of %d runs\n\n", direct, len(t.Cells), runs, t.runs())
	return b.String()
}

// String is the median, and how many runs came to it unless all did.
func (c cell) String() string {
	switch {
	case len(c.MS) == 0:
		return "-"
	case len(c.MS) < c.Runs:
		return fmt.Sprintf("%.0f (%d/%d)", median(c.MS), len(c.MS), c.Runs)
	default:
		return fmt.Sprintf("%.0f", median(c.MS))
	}
}

// count returns how many pairs, and how many runs, came to a direct connection.
func (t table) count() (pairs, runs int) {
	for _, c := range t.Cells {
		if len(c.MS) > 0 {
			pairs++
		}
		runs += len(c.MS)
	}
	return pairs, runs
}

func (t table) runs() (n int) {
	for _, c := range t.Cells {
		n += c.Runs
	}
	return n
}

// against compares with another table: pairs, and time in the pairs that both
// connect.
func (t table) against(base table) string {
	var ratios []float64
	for i, c := range t.Cells {
		if other := base.Cells[i]; len(c.MS) > 0 && len(other.MS) > 0 {
			ratios = append(ratios, median(c.MS)/median(other.MS))
		}
	}
	ours, _ := t.count()
	theirs, _ := base.count()
	line := fmt.Sprintf("%s against %s over %s (%s): %d to %d pairs", t.Who, base.Who, t.Transport, t.Bed, ours, theirs)
	if len(ratios) > 0 {
		line += fmt.Sprintf("; time where both connect, median ratio %.2f of %d pairs", median(ratios), len(ratios))
	}
	return line
}

// possible reports whether any means gets through over a transport: TCP has neither
// many nor predicted ports.
func (c cell) possible(transport string) bool {
	open := func(to, from natlab.NAT) bool {
		seen := to.Mapping == natlab.EndpointIndependent
		return seen && (to.Filtering != natlab.AddressAndPortDependent || from.Mapping == natlab.EndpointIndependent)
	}
	return open(c.target, c.dialer) || open(c.dialer, c.target) ||
		transport == "quic" && !(hard(c.target) && hard(c.dialer) && (c.target.Ports == natlab.Random || c.dialer.Ports == natlab.Random))
}

// hard reports whether a NAT shows each remote endpoint another port, and lets in no other.
func hard(n natlab.NAT) bool { return n.Mapping == natlab.AddressAndPortDependent }

// easy reports whether neither side is behind a mapping that depends on the remote.
func (c cell) easy() bool {
	return c.target.Mapping == natlab.EndpointIndependent && c.dialer.Mapping == natlab.EndpointIndependent
}

// The limits.
const (
	easyLimit  = 1.1  // of a relayed and a direct round trip
	hardMedian = 1000 // ms
	hardMost   = 2000 // ms, of 99 %
	shareLimit = 0.99
	shareLossy = 0.95
)

// verdicts compares with the limits, and with another table, and counts those missed.
func (t table) verdicts(base table, loss float64) (text string, missed int) {
	var b strings.Builder
	line := func(what string, met bool, format string, args ...any) {
		word := "met"
		if !met {
			word = "missed"
			missed++
		}
		fmt.Fprintf(&b, "  %-6s  %-70s %s\n", word, what, fmt.Sprintf(format, args...))
	}
	var tried, direct int
	var easy, other []float64
	var ratios []float64
	for i, c := range t.Cells {
		if !c.possible(t.Transport) {
			continue
		}
		tried, direct = tried+c.Runs, direct+len(c.MS)
		switch {
		case len(c.MS) == 0:
		case c.easy():
			if len(c.RTT) > 0 {
				easy = append(easy, median(c.MS)/(relayedAndDirect*median(c.RTT)))
			}
		default:
			other = append(other, c.MS...)
		}
		if theirs := base.Cells[i].MS; len(c.MS) > 0 && len(theirs) > 0 {
			ratios = append(ratios, median(c.MS)/median(theirs))
		}
	}
	share := shareLimit
	if loss > 0 {
		share = shareLossy
	}
	line(fmt.Sprintf("of the punches that can succeed at least %.0f %%", 100*share), float64(direct) >= share*float64(tried), "%d of %d", direct, tried)
	if loss == 0 && t.Transport == "quic" && t.Bed == "tun" && len(easy) > 0 {
		line("easy NATs: at most 1.1 of a relayed and a direct round trip", slices.Max(easy) <= easyLimit, "%.2f, the slowest pair", slices.Max(easy))
	}
	if loss == 0 && t.Transport == "quic" && len(other) > 0 {
		slices.Sort(other)
		most := other[min(len(other)-1, len(other)*99/100)]
		line("a hard NAT: median at most 1 s, 99 % within 2 s", median(other) <= hardMedian && most <= hardMost, "%.0f ms, %.0f ms", median(other), most)
	}
	if len(ratios) > 0 {
		most, middle := slices.Max(ratios), median(ratios)
		// With loss a pair measured seldom may be slower by chance.
		line("where go-libp2p connects, too: no slower", middle <= 1 && (loss > 0 || most <= 1), "%.2f of its time, median; %.2f at most", middle, most)
	}
	return b.String(), missed
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
