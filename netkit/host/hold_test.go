package host

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/multiformats/go-multistream"
)

// A server lives long: what peers that are gone had opened must not keep out the next, nor
// may one peer take all places.
func TestHeldStreamsEndWithTheirConnections(t *testing.T) {
	a, b := loopback(t, Config{}), loopback(t, Config{})
	defer a.HoldStreams()()
	open := func(c network.Conn) network.Stream {
		t.Helper()
		st, err := c.NewStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := multistream.SelectProtoOrFail(p2panda, st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	held := func() int {
		a.held.mu.Lock()
		defer a.held.mu.Unlock()
		return len(a.held.streams)
	}
	for range 3 {
		c, err := b.Dial(t.Context(), a.ID(), a.ListenAddrs())
		if err != nil {
			t.Fatal(err)
		}
		first := open(c)
		open(c)
		if _, err := first.Read(make([]byte, 1)); err == nil {
			t.Error("the first stream of a connection is held beside the second")
		}
		changed, stop := a.Changes(b.ID())
		if n := held(); n != 1 {
			t.Errorf("%d streams held", n)
		}
		if err := b.Network().ClosePeer(a.ID()); err != nil {
			t.Fatal(err)
		}
		for len(a.Conns(b.ID())) > 0 {
			<-changed
		}
		stop()
	}
}
