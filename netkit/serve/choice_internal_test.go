package serve

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
)

// TestPreferredRelays: near ones with good limits come first, at random, and relays of the
// local network last.
func TestPreferredRelays(t *testing.T) {
	at := func(ms int) *time.Duration { return new(time.Duration(ms) * time.Millisecond) }
	list := []candidate{
		{id: "local", rtt: at(1)},
		{id: "poor", open: true, rtt: at(10), poor: true},
		{id: "far", open: true, rtt: at(300)},
		{id: "unknown", open: true},
		{id: "near", open: true, rtt: at(10)},
		{id: "nearer", open: true, rtt: at(20)},
		{id: "poor and far", open: true, rtt: at(300), poor: true},
	}
	r := rand.New(rand.NewPCG(1, 2))
	first := make(map[peer.ID]int)
	for range 1000 {
		got := prefer(list, r.Shuffle)
		first[got[0]]++
		groups := []map[peer.ID]bool{set(got[:2]), set(got[2:4]), set(got[4:5]), set(got[5:6]), set(got[6:])}
		want := []map[peer.ID]bool{{"near": true, "nearer": true}, {"far": true, "unknown": true}, {"poor": true}, {"poor and far": true}, {"local": true}}
		if diff := cmp.Diff(want, groups); diff != "" {
			t.Fatal(diff)
		}
	}
	for _, id := range []peer.ID{"near", "nearer"} {
		if first[id] < 400 {
			t.Errorf("%s was the first %d times of 1000", id, first[id])
		}
	}
}

func set(ids []peer.ID) map[peer.ID]bool {
	out := make(map[peer.ID]bool)
	for _, id := range ids {
		out[id] = true
	}
	return out
}
