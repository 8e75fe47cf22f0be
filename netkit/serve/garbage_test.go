package serve

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestGarbageIsBounded(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, 100}, {50 << 20, 100}, {256 << 20, 100}, {512 << 20, 50}, {600 << 20, 42}, {1 << 30, 25}, {64 << 30, 25},
	} {
		if got := gcPercent(c.live, 100); got != c.want {
			t.Errorf("with %d MiB alive: %d %%, want %d", c.live>>20, got, c.want)
		}
	}
	if got := gcPercent(little, 400); got != 400 {
		t.Errorf("with little alive: %d %%", got)
	}
	if got := gcPercent(little+1, 400); got != 100 {
		t.Errorf("with more than little alive: %d %%", got)
	}
}

// TestGarbageIsPaced holds more than may have as much garbage again.
func TestGarbageIsPaced(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(90))
	held := make([]byte, mostGarbage+mostGarbage/2)
	runtime.GC()
	stop := PaceGarbage(100)
	deadline := time.Now().Add(20 * time.Second)
	for percent() >= 90 && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if got := percent(); got >= 90 {
		t.Errorf("%d %% with %d MiB alive", got, len(held)>>20)
	}
	runtime.KeepAlive(held)
	stop()
	if got := percent(); got != 90 {
		t.Errorf("%d %% afterwards, want what was before", got)
	}
}

func percent() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
