package host

import (
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

// TestRelaysTakeTurns: any relay of a peer may be the first that is dialled, whatever its port; the others follow a little later,
// and the addresses of each in the order of direct ones.
func TestRelaysTakeTurns(t *testing.T) {
	const (
		a = "12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm"
		b = "12D3KooWRawPbxPtP1eZaJpumGnyWX2DcUyd3RQnydr3eAto4Az7"
	)
	viaA := ma.StringCast("/ip4/17.0.0.1/udp/4001/quic-v1/p2p/" + a + "/p2p-circuit")
	viaATCP := ma.StringCast("/ip4/17.0.0.1/tcp/4001/p2p/" + a + "/p2p-circuit")
	viaB := ma.StringCast("/ip4/17.0.0.2/udp/9999/quic-v1/p2p/" + b + "/p2p-circuit")
	delays := func(swapped bool) map[string]time.Duration {
		out := make(map[string]time.Duration)
		for _, r := range rankRelayed([]ma.Multiaddr{viaATCP, viaA, viaB}, func(n int, swap func(i, j int)) {
			if n != 2 {
				t.Fatalf("%d relays", n)
			}
			if swapped {
				swap(0, 1)
			}
		}) {
			out[r.Addr.String()] = r.Delay
		}
		return out
	}
	if got := delays(false); got[viaA.String()] != 0 || got[viaATCP.String()] == 0 || got[viaB.String()] != nextRelay {
		t.Errorf("a first: %v", got)
	}
	if got := delays(true); got[viaB.String()] != 0 || got[viaA.String()] != nextRelay || got[viaATCP.String()] <= nextRelay {
		t.Errorf("b first: %v", got)
	}
}
