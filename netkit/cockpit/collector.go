package cockpit

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The names of what a collector adds to the figures.
const (
	nameBuild = "dibber_build_info"
	nameReady = "dibber_ready"
	nameRTT   = "dibber_connection_rtt_seconds"
)

// sampled is how many connections are asked for their round-trip time.
const sampled = 256

// collector reads the figures when they are asked for.
type collector struct {
	s                 *Service
	build, ready, rtt *prometheus.Desc
	descs             []*prometheus.Desc // as in figures
}

func newCollector(s *Service) *collector {
	c := &collector{
		s:     s,
		build: prometheus.NewDesc(nameBuild, "1, with the version of the program.", []string{"version"}, nil),
		ready: prometheus.NewDesc(nameReady, "1 when the node has started, is not about to end, and can use the registry it shares.", nil, nil),
		rtt:   prometheus.NewDesc(nameRTT, "Round-trip times of the connections that stand, as they measure themselves; of 256 at most.", nil, nil),
	}
	for _, f := range figures() {
		c.descs = append(c.descs, prometheus.NewDesc(f.name, f.help, f.labels, nil))
	}
	return c
}

// Describe names all that Collect may give.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range append([]*prometheus.Desc{c.build, c.ready, c.rtt}, c.descs...) {
		to <- d
	}
}

// Collect reads all of it.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	to <- prometheus.MustNewConstMetric(c.build, gauge, 1, c.s.cfg.Version)
	v := c.s.view.Load()
	ready := 0.0
	if c.s.notReady() == "" {
		ready = 1
	}
	to <- prometheus.MustNewConstMetric(c.ready, gauge, ready)
	if v == nil {
		return
	}
	to <- c.roundTrips(v.s.RTTs(sampled))
	r := v.reading()
	for i, f := range figures() {
		f.read(r, func(value float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(c.descs[i], f.kind, value, labels...)
		})
	}
}

// roundTrips is a summary of those that connections have now.
func (c *collector) roundTrips(list []time.Duration) prometheus.Metric {
	slices.Sort(list)
	sum, at := 0.0, make(map[float64]float64)
	for _, d := range list {
		sum += d.Seconds()
	}
	for _, q := range []float64{0.5, 0.9, 0.99} {
		if d, ok := quantile(list, q); ok {
			at[q] = d.Seconds()
		}
	}
	return prometheus.MustNewConstSummary(c.rtt, uint64(len(list)), sum, at)
}

// quantile is that of a sorted list; there is none of an empty one.
func quantile(sorted []time.Duration, q float64) (time.Duration, bool) {
	if len(sorted) == 0 {
		return 0, false
	}
	return sorted[int(q*float64(len(sorted)-1)+0.5)], true
}

// Names are the metrics that are dibber's own, whose names stay as they are. Besides there
// are those of libp2p (libp2p_…), of the process (process_…) and of Go (go_…).
func Names() []string {
	out := []string{
		nameBuild, nameReady, nameRTT,
		nameRequests, nameOpening, namePunches, nameSessions, nameEntries, namePayload, nameRejected, nameLive,
	}
	for _, f := range figures() {
		out = append(out, f.name)
	}
	slices.Sort(out)
	return out
}
