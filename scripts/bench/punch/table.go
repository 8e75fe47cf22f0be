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
	MS     []float64 `json:"ms"` // from relayed to direct, of the runs that came to it

	target, dialer natlab.NAT
}

// table is what one sort of peers does over one transport.
type table struct {
	Who       string `json:"who"`
	Transport string `json:"transport"`
	Cells     []cell `json:"cells"`
}

// String prints the table.
func (t table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s over %s, ms from relayed to direct\n%-22s", t.Who, t.Transport, "target \\ dialler")
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
	line := fmt.Sprintf("%s against %s over %s: %d to %d pairs", t.Who, base.Who, t.Transport, ours, theirs)
	if len(ratios) > 0 {
		line += fmt.Sprintf("; time where both connect, median ratio %.2f of %d pairs", median(ratios), len(ratios))
	}
	return line
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
