package main

import "fmt"

// limit is what a figure must keep, and whether it does.
type limit struct {
	name   string
	figure string
	want   string
	met    bool
}

// limits are those of the parts that were measured.
func (r result) limits() (out []limit) {
	least := map[string]float64{"quic": 1.3, "tcp": 1.6} // of go-libp2p's relay with its default buffer
	for _, t := range r.Throughput {
		out = append(out, limit{"throughput " + t.Transport, fmt.Sprintf("ratio %.2f", t.Ratio), fmt.Sprintf("at least %.1f", least[t.Transport]), t.Ratio >= least[t.Transport]})
	}
	for _, f := range r.Fairness {
		out = append(out, limit{"fairness " + f.Transport, fmt.Sprintf("slowest %.2f of the mean", f.Ratio), "at least 0.5", f.Ratio >= 0.5})
	}
	for _, h := range r.Reservations {
		slowest := min(h.PerSecondFirst, h.PerSecondLast)
		out = append(out,
			limit{"new reservations", fmt.Sprintf("%.0f a second", slowest), "at least 400", slowest >= 400},
			limit{"reservations held", fmt.Sprintf("%d lost", len(h.Lost)), "none lost", len(h.Lost) == 0},
			limit{"memory while held", fmt.Sprintf("%.0f MiB", h.RSS), "at most 1024", h.RSS <= 1024},
			limit{"CPU while held", fmt.Sprintf("%.0f %% of a core", 100*h.IdleCPU), "at most 30 %", h.IdleCPU <= 0.3})
	}
	return out
}

// print writes the limits as a table and reports whether all are met.
func (r result) print() bool {
	all := true
	for _, l := range r.limits() {
		verdict := "met"
		if !l.met {
			verdict, all = "missed", false
		}
		fmt.Printf("%-18s %-24s %-14s %s\n", l.name, l.figure, l.want, verdict)
	}
	return all
}
