package punch_test

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dibber/netkit/natlab"
	"dibber/netkit/punch"
)

// figures are those of one pair of NATs.
type figures struct {
	target, dialer int // in natlab.Grid
	runs           int
	ms             []float64     // from the relay alone to direct, of the runs that came to it
	stock          []float64     // of go-libp2p in the same labs
	said           time.Duration // that nothing gets through, after the relayed connection; the longest
}

// possible reports whether any means gets through; easy, whether neither side is hard.
func (f figures) possible() bool { return !impossible(f.target, f.dialer) }
func (f figures) easy() bool     { return f.target < 3 && f.dialer < 3 }

// setting is a number in the environment.
func setting(t *testing.T, name string, unset float64) float64 {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return unset
	}
	n, err := strconv.ParseFloat(v, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestFigures holds what the README says of hole punching, and with -v prints it, for
// every pair of NATs, with go-libp2p as it is in the same labs, without loss and with 5 %
// in each direction. PUNCH_RUNS is how often each pair is punched; 1 unless it is set.
func TestFigures(t *testing.T) {
	for _, loss := range []float64{0, 0.05} {
		t.Run(fmt.Sprintf("%.0f %% lost", 100*loss), func(t *testing.T) {
			runs := int(setting(t, "PUNCH_RUNS", 1))
			var all []figures
			for i := range natlab.Grid() {
				for j := range natlab.Grid() {
					all = append(all, measured(t, i, j, runs, loss))
				}
			}
			t.Logf("%s", table(all, func(f figures) []float64 { return f.ms }, runs))
			t.Logf("go-libp2p\n%s", table(all, func(f figures) []float64 { return f.stock }, 1))
			verdicts(t, all, loss)
		})
	}
}

// measured punches one pair, and has go-libp2p do the same once.
func measured(t *testing.T, target, dialer, runs int, loss float64) figures {
	t.Helper()
	f := figures{target: target, dialer: dialer, runs: runs}
	a, b := natlab.Grid()[target], natlab.Grid()[dialer]
	for run := range runs {
		natlab.Config{Seed: uint64(run)}.Run(t, func(t *testing.T, lab *natlab.Lab) {
			g := newVantageGrid(t, lab, a, b, loss)
			_ = g.dialer.service.Close() // Do has its own
			began := time.Now()
			r, err := g.do(t)
			switch {
			case err == nil && r.RelayedMS == nil:
				f.ms = append(f.ms, *r.DirectMS)
			case err == nil: // it came to a relayed connection first
				f.ms = append(f.ms, *r.RelayedMS+*r.DirectMS)
			case errors.Is(err, punch.ErrImpossible):
				f.said = max(f.said, time.Since(began)-time.Duration(*r.RelayedMS*float64(time.Millisecond)))
			}
		})
	}
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		if relayed, upgrade, ok := stockTimes(t, lab, pairing{true, true}, a, b, loss); ok {
			f.stock = append(f.stock, milliseconds(relayed+upgrade))
		}
	})
	return f
}

// table shows medians, and how many runs came to them unless all did.
func table(all []figures, of func(figures) []float64, runs int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ms from the relay alone to direct, medians\n%-22s", "target \\ dialler")
	for _, k := range natlab.Grid() {
		fmt.Fprintf(&b, "%22s", k)
	}
	for _, f := range all {
		if f.dialer == 0 {
			fmt.Fprintf(&b, "\n%-22s", natlab.Grid()[f.target])
		}
		switch ms := of(f); {
		case len(ms) == 0:
			fmt.Fprintf(&b, "%22s", "-")
		case len(ms) < runs:
			fmt.Fprintf(&b, "%22s", fmt.Sprintf("%.0f (%d/%d)", quantile(ms, 0.5), len(ms), runs))
		default:
			fmt.Fprintf(&b, "%22.0f", quantile(ms, 0.5))
		}
	}
	return b.String() + "\n"
}

// quantile is the smallest value that the given share of values does not exceed.
func quantile(v []float64, share float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[max(0, min(len(s)-1, int(share*float64(len(s)))))]
}

// verdicts compares with the limits.
func verdicts(t *testing.T, all []figures, loss float64) {
	t.Helper()
	share, spare := 0.99, 1.0
	if loss > 0 {
		share, spare = 0.95, 2 // of the 33 of a single round
	}
	var pairs, direct, tried, byStock int
	var easy, hard, ratios []float64
	var said time.Duration
	for _, f := range all {
		if len(f.stock) > 0 {
			byStock++
		}
		if !f.possible() {
			if len(f.ms) > 0 {
				t.Errorf("%d with %d: direct, which was thought to be impossible", f.target, f.dialer)
			}
			said = max(said, f.said)
			continue
		}
		tried += f.runs
		direct += len(f.ms)
		if len(f.ms) == 0 {
			continue
		}
		pairs++
		if f.easy() {
			easy = append(easy, quantile(f.ms, 0.5)/milliseconds(relayedRTT+directRTT))
		} else {
			hard = append(hard, f.ms...)
		}
		if len(f.stock) > 0 {
			ratios = append(ratios, quantile(f.ms, 0.5)/f.stock[0])
		}
	}
	verdict := func(what string, met bool, format string, args ...any) {
		t.Helper()
		word := "met"
		if !met {
			word = "missed"
			t.Fail()
		}
		t.Logf("%-6s  %-74s %s", word, what, fmt.Sprintf(format, args...))
	}
	verdict("33 of 36 pairs direct", pairs == 33 || tried == 33 && float64(tried-direct) <= spare, "%d; go-libp2p %d", pairs, byStock)
	// Where ports are searched for, one of 3,500 punches does not meet any.
	verdict(fmt.Sprintf("of the punches between those at least %.0f %%", 100*share), float64(tried-direct) <= max(spare, (1-share)*float64(tried)), "%d of %d", direct, tried)
	if loss == 0 {
		verdict("the others: said within 3 s that nothing gets through", said > 0 && said <= 3*time.Second, "%s", said)
		verdict("easy NATs: at most 1.1 of a relayed and a direct round trip", slices.Max(easy) <= 1.1, "%.2f, the slowest pair", slices.Max(easy))
		verdict("a hard NAT: median at most 1 s", quantile(hard, 0.5) <= 1000, "%.0f ms", quantile(hard, 0.5))
		late := 0
		for _, ms := range hard {
			if ms > 2000 {
				late++
			}
		}
		verdict("a hard NAT: 99 % within 2 s", float64(late) <= max(1, 0.01*float64(len(hard))), "%.0f ms, the slowest %.0f", quantile(hard, 0.99), slices.Max(hard))
	}
	slices.SortFunc(ratios, cmp.Compare)
	slowest := slices.Max(ratios)
	if loss > 0 { // where chance decides what each of two loses, one pair tells nothing
		slowest = quantile(ratios, 0.9)
	}
	verdict("where go-libp2p connects, too: no slower", slowest <= 1, "%.2f of its time, median of %d pairs; %.2f at most", quantile(ratios, 0.5), len(ratios), slices.Max(ratios))
}
