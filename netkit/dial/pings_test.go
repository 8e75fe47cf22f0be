package dial_test

import (
	"errors"
	"testing"
	"time"

	"dibber/netkit/dial"
	"dibber/netkit/host"
	"dibber/netkit/ping"
)

// TestPingsEndWithTheConnection: what is lost amid the pings ends them, with the cause.
func TestPingsEndWithTheConnection(t *testing.T) {
	a, b := node(t, host.Config{}, quicAddr), node(t, host.Config{}, quicAddr)
	r, err := dial.Do(t.Context(), a, b.ID(), b.ListenAddrs(), dial.Config{
		Ping: ping.Config{Count: 1 << 30, Interval: time.Millisecond},
		On: func(e dial.Event) {
			if e.Pong != nil && e.Pong.Seq == 3 {
				_ = b.Network().ClosePeer(a.ID())
			}
		},
	})
	var lost *dial.LostError
	if !errors.As(err, &lost) || !errors.Is(lost, host.ErrPeerClosed) && !errors.Is(lost, host.ErrPeerForgot) {
		t.Errorf("%v, want that the peer closed the connection", err)
	}
	if r.Ping == nil || r.Ping.Received < 3 || r.Path == nil {
		t.Errorf("pings %+v, path %v", r.Ping, r.Path)
	}
}
