package reach

import (
	"fmt"
	"testing"
	"time"
)

// TestSymmetricNAT: behind one, each peer sees another address. That does not make the others due.
func TestSymmetricNAT(t *testing.T) {
	w := newWorld(t, 1)
	w.servers("a", "b", "c", "d", "e")
	list := []candidate{{addr: at(1), observers: ids("a", "b")}}
	w.addrs(list...)
	w.run(time.Minute)
	about := make(map[string]int)
	for i := range 10 {
		list = append(list, candidate{addr: at(2 + i), observers: ids(fmt.Sprint("peer ", i))})
		w.addrs(list...)
		w.run(time.Minute)
		for _, a := range w.l.addrs {
			about[a.addr.String()] = max(about[a.addr.String()], len(a.voices))
		}
	}
	asked := 0
	for _, times := range w.asked {
		asked += len(times)
	}
	// Two agree on each address, and each is looked at once more after five minutes.
	if most := 4 * len(list); asked > most {
		t.Errorf("%d questions about %d addresses, more than %d", asked, len(list), most)
	}
	for a, voices := range about {
		if voices < agreement {
			t.Errorf("%d were asked about %s", voices, a)
		}
	}
}
