package natlab_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"

	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
)

const echoProtocol = protocol.ID("/natlab/echo")

// echo makes h send back whatever a stream brings.
func echo(h corehost.Host) {
	h.SetStreamHandler(echoProtocol, func(s network.Stream) {
		_, _ = io.Copy(s, s) // the other end sees what is missing
		_ = s.Close()
	})
}

// echoed sends data over a new stream to p and returns what comes back.
func echoed(ctx context.Context, h corehost.Host, p peer.ID, data []byte) ([]byte, error) {
	s, err := h.NewStream(ctx, p, echoProtocol)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Reset() }()
	sent := make(chan error, 1)
	go func() {
		_, err := s.Write(data)
		if err == nil {
			err = s.CloseWrite()
		}
		sent <- err
	}()
	back, err := io.ReadAll(s)
	if err != nil {
		return nil, err
	}
	return back, <-sent
}

// TestThirdPartySeesEveryKind: two hosts of ours behind every kind of NAT each
// reach a public third one, at the same time.
func TestThirdPartySeesEveryKind(t *testing.T) {
	for _, n := range natlab.Kinds(natlab.Sequential) {
		t.Run(n.String(), func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				third := lab.Internet().Machine("third", natlab.MachineConfig{}).Host(host.Config{})
				home := lab.Internet().Router("home", natlab.RouterConfig{NAT: n})
				for _, name := range []string{"a", "b"} {
					m := home.LAN().Machine(name, natlab.MachineConfig{})
					if got, want := roundTrip(t, m.Host(host.Config{}), info(third)), 4*natlab.DefaultLatency; got != want {
						t.Errorf("%s: round trip %s, want %s", name, got, want)
					}
				}
			})
		})
	}
}

// TestConnectionOutlivesShortCut: QUIC gives up after 30 s without an answer
// (go-libp2p's idle time-out); a cut of 10 s only delays.
func TestConnectionOutlivesShortCut(t *testing.T) {
	for _, c := range []struct {
		cut      time.Duration
		survives bool
	}{{10 * time.Second, true}, {time.Minute, false}} {
		natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
			machine := lab.Internet().Machine("a", natlab.MachineConfig{})
			a := machine.Host(host.Config{})
			b := lab.Internet().Machine("b", natlab.MachineConfig{}).Host(host.Config{})
			if err := a.Connect(t.Context(), info(b)); err != nil {
				t.Fatal(err)
			}
			conn := a.Network().ConnsToPeer(b.ID())[0]
			machine.Link().Cut()
			time.Sleep(c.cut)
			machine.Link().Restore()
			if alive := !conn.IsClosed(); alive != c.survives {
				t.Fatalf("after a cut of %s the connection is open: %v", c.cut, alive)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := a.Connect(ctx, info(b)); err != nil {
				t.Fatal(err)
			}
			if pong := <-ping.Ping(ctx, a, b.ID()); pong.Error != nil {
				t.Error(pong.Error)
			}
		})
	}
}

// TestDataOverLossyLink: everything arrives, whatever the link loses.
func TestDataOverLossyLink(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		lossy := natlab.MachineConfig{Link: natlab.LinkConfig{Loss: 0.05, Rate: 20_000_000}}
		a := lab.Internet().Machine("a", lossy).Host(host.Config{})
		b := lab.Internet().Machine("b", natlab.MachineConfig{}).Host(host.Config{})
		echo(b)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := a.Connect(ctx, info(b)); err != nil {
			t.Fatal(err)
		}
		data := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
		got, err := echoed(ctx, a, b.ID(), data)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, data) {
			t.Errorf("%d bytes came back changed, %d were sent", len(got), len(data))
		}
	})
}

// TestStockAndOursMeet: hosts of both makes on one lab.
func TestStockAndOursMeet(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		both := natlab.MachineConfig{Families: natlab.DualStack}
		ours := lab.Internet().Machine("ours", both).Host(host.Config{})
		stock := lab.Internet().Machine("stock", both).Stock()
		if got, want := len(ours.Addrs()), len(stock.Addrs()); got != 2 || want != 2 {
			t.Errorf("addresses: ours %s, stock %s", ours.Addrs(), stock.Addrs())
		}
		roundTrip(t, ours, info(stock))
	})
}

// TestWebTransport: it shares QUIC's sockets, so it runs in the lab too.
func TestWebTransport(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		both := []host.Transport{host.QUIC, host.WebTransport}
		a, b := lab.Internet().Machine("a", natlab.MachineConfig{}), lab.Internet().Machine("b", natlab.MachineConfig{})
		listen := ma.StringCast(fmt.Sprintf("/ip4/%s/udp/%d/quic-v1/webtransport", b.Addrs()[0], natlab.Port))
		to := b.Host(host.Config{Transports: both, Listen: []ma.Multiaddr{listen}})
		if got, want := roundTrip(t, a.Host(host.Config{Transports: both}), info(to)), 4*natlab.DefaultLatency; got != want {
			t.Errorf("round trip %s, want %s", got, want)
		}
	})
}

// TestCloseEarly: a test may close its hosts itself.
func TestCloseEarly(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		m := lab.Internet().Machine("a", natlab.MachineConfig{})
		for range 2 { // the second one finds the port free
			if err := m.Host(host.Config{}).Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
