package ping_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/ping"

	libp2pping "github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
)

func pair(t *testing.T) (a, b *host.Node) {
	t.Helper()
	for _, n := range []**host.Node{&a, &b} {
		h, err := host.New(host.Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
		*n = h
	}
	if _, err := a.Dial(t.Context(), b.ID(), b.ListenAddrs()); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func TestPingCountsAndNamesThePath(t *testing.T) {
	a, b := pair(t)
	var pongs []ping.Pong
	r, err := ping.Do(t.Context(), a, b.ID(), ping.Config{Count: 3, Interval: time.Millisecond, On: func(p ping.Pong) { pongs = append(pongs, p) }})
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent != 3 || r.Received != 3 || len(r.RTTs) != 3 {
		t.Errorf("result %+v", r)
	}
	if *r.Min != slices.Min(r.RTTs) || *r.Max != slices.Max(r.RTTs) || *r.P95 != *r.Max || *r.Avg < *r.Min || *r.Avg > *r.Max {
		t.Errorf("statistics %v %v %v %v of %v", *r.Min, *r.Avg, *r.Max, *r.P95, r.RTTs)
	}
	for i, p := range pongs {
		if p.Seq != i+1 || p.Path != "direct" || p.Addr != b.ListenAddrs()[0].String() {
			t.Errorf("pong %+v", p)
		}
	}
}

func TestPingSaysWhyNot(t *testing.T) {
	a, b := pair(t)
	b.RemoveStreamHandler(libp2pping.ID)
	if _, err := ping.Do(t.Context(), a, b.ID(), ping.Config{}); !errors.Is(err, ping.ErrUnsupported) {
		t.Errorf("peer without ping: %v", err)
	}
	if _, err := ping.Do(t.Context(), b, "nobody", ping.Config{}); !errors.Is(err, ping.ErrNotConnected) {
		t.Errorf("unconnected peer: %v", err)
	}
}
