package host

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

func overTCP() []ma.Multiaddr { return []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")} }

func TestIdentifyTellsTheProtocolVersion(t *testing.T) {
	other := loopback(t, Config{})
	for given, want := range map[string]string{"": ProtocolVersion, "/pchain_p2p/1.0.0": "/pchain_p2p/1.0.0"} {
		n := loopback(t, Config{ProtocolVersion: given})
		c, err := other.Dial(t.Context(), n.ID(), n.ListenAddrs())
		if err != nil {
			t.Fatal(err)
		}
		<-other.Identified(c)
		if got, err := other.Peerstore().Get(n.ID(), "ProtocolVersion"); got != want || err != nil {
			t.Errorf("%q is told as %q, %v", given, got, err)
		}
	}
}

// A connection more is refused before the peer knows of it as one, and the first stays.
func TestSingleRefusesAnotherConnection(t *testing.T) {
	for single, more := range map[bool]bool{false: true, true: false} {
		n, other := loopback(t, Config{Transports: []Transport{TCP}, Listen: overTCP(), Single: single}), loopback(t, Config{Transports: []Transport{TCP}, Listen: overTCP()})
		if _, err := other.Dial(t.Context(), n.ID(), n.ListenAddrs()); err != nil {
			t.Fatal(err)
		}
		within(t, "the connection is not open on both sides", func() bool { return len(n.Conns(other.ID())) == 1 })
		second, err := other.DialAddr(t.Context(), n.ID(), n.ListenAddrs()[0])
		if more {
			within(t, "there is no second connection", func() bool { return err == nil && len(n.Conns(other.ID())) == 2 })
			second.Close()
			continue
		}
		for err == nil { // the one who dials may not have heard of it yet
			_, err = second.AcceptStream()
		}
		if open := n.Conns(other.ID()); len(open) != 1 || open[0].Stat().Direction != network.DirInbound {
			t.Errorf("the first connection is not what is left: %v", open)
		}
		if c, err := n.Dial(t.Context(), other.ID(), other.ListenAddrs()); err != nil || c != n.Conns(other.ID())[0] {
			t.Errorf("a dial where a connection is open: %v, %v", c, err)
		}
	}
}

// within waits for something that happens soon.
func within(t *testing.T, otherwise string, done func() bool) {
	t.Helper()
	for limit := time.After(10 * time.Second); !done(); {
		select {
		case <-time.After(time.Millisecond):
		case <-limit:
			t.Fatal(otherwise)
		}
	}
}
