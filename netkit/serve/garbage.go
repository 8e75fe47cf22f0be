package serve

import (
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// mostGarbage is how many bytes of garbage the heap may hold beside what lives,
	// once that is more: by Go's own rule a registry of 600 MB would have a process
	// of 1,200 MB.
	mostGarbage = 256 << 20
	// leastPercent is the percentage of what lives below which collecting would take
	// the processor from the requests.
	leastPercent = 25
	paceEvery    = 100 * time.Millisecond
	// little is how much may live for a heap to grow by the first percentage.
	little = 4 << 20
)

// PaceGarbage has the collector run sooner the more the process holds, until stop
// is called, which puts things back. While no more than 4 MiB live, the heap grows by
// first percent of that. It is for a process whose owner said nothing
// about its collector (GOGC, GOMEMLIMIT), and for one node of it: the setting is
// the process's.
func PaceGarbage(first int) (stop func()) {
	before := debug.SetGCPercent(first)
	ended := make(chan struct{})
	var pacer sync.WaitGroup
	pacer.Go(func() {
		tick := time.NewTicker(paceEvery)
		defer tick.Stop()
		for percent := first; ; {
			if next := gcPercent(liveHeap(), first); next != percent {
				percent = next
				debug.SetGCPercent(percent)
			}
			select {
			case <-tick.C:
			case <-ended:
				return
			}
		}
	})
	return func() {
		close(ended)
		pacer.Wait()
		debug.SetGCPercent(before)
	}
}

// gcPercent is how much garbage there may be, in percent of what lives.
func gcPercent(live uint64, first int) int {
	switch {
	case live <= little:
		return first
	case live <= mostGarbage:
		return 100
	}
	return max(leastPercent, int(mostGarbage*100/live))
}

// liveHeap is how many bytes the last collection left.
func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}
