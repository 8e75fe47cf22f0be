package dial_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/dial"
	"dibber/netkit/host"
	"dibber/netkit/ping"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
)

// stacks are the ways in which a connection can be made up, by what the result names.
func stacks() []struct {
	transport               host.Transport
	suffix                  string
	config                  host.Config
	carries, secures, muxes string
} {
	type row = struct {
		transport               host.Transport
		suffix                  string
		config                  host.Config
		carries, secures, muxes string
	}
	only := func(s host.Security, m host.Muxer) host.Config {
		return host.Config{Security: []host.Security{s}, Muxers: []host.Muxer{m}}
	}
	return []row{
		{host.TCP, "/tcp/0", only(host.Noise, host.Yamux), "tcp", "/noise", "/yamux/1.0.0"},
		{host.TCP, "/tcp/0", only(host.TLS, host.Yamux), "tcp", "/tls/1.0.0", "/yamux/1.0.0"},
		{host.TCP, "/tcp/0", only(host.Noise, host.Mplex), "tcp", "/noise", "/mplex/6.7.0"},
		{host.TCP, "/tcp/0", only(host.TLS, host.Mplex), "tcp", "/tls/1.0.0", "/mplex/6.7.0"},
		{host.WS, "/tcp/0/ws", only(host.Noise, host.Yamux), "ws", "/noise", "/yamux/1.0.0"},
		{host.QUIC, "/udp/0/quic-v1", host.Config{}, "quic", "tls-1.3", "quic"},
		{host.WebTransport, "/udp/0/quic-v1/webtransport", host.Config{}, "webtransport", "/noise", "quic"},
		{host.WebRTC, "/udp/0/webrtc-direct", host.Config{}, "webrtc-direct", "/noise", "sctp"},
	}
}

// TestEveryStack: each of them connects over IPv4, IPv6 and by name, and the result names it.
func TestEveryStack(t *testing.T) {
	for _, s := range stacks() {
		for _, ip := range []string{"/ip4/127.0.0.1", "/ip6/::1"} {
			t.Run(fmt.Sprintf("%s%s %s %s", ip, s.suffix, s.secures, s.muxes), func(t *testing.T) {
				t.Parallel()
				cfg := s.config
				cfg.Transports = []host.Transport{s.transport}
				at := node(t, cfg, ip+s.suffix)
				direct := at.ListenAddrs()[0]
				cfg.Resolver = names(t, addr.WithPeer(direct, at.ID()))
				for _, to := range []ma.Multiaddr{direct, named(t, direct), ma.StringCast("/dnsaddr/home.test/p2p/" + at.ID().String())} {
					from := node(t, cfg)
					r, err := dial.Do(t.Context(), from, at.ID(), []ma.Multiaddr{to}, dial.Config{Ping: ping.Config{Count: 1}})
					if err != nil {
						t.Fatal(err)
					}
					if got := []string{*r.Transport, word(r.Security), word(r.Muxer)}; got[0] != s.carries || got[1] != s.secures || got[2] != s.muxes {
						t.Errorf("%s by %s: %v, want %s %s %s", at.ID(), to, got, s.carries, s.secures, s.muxes)
					}
					if r.Ping.Received != 1 {
						t.Errorf("%s: no echo", to)
					}
				}
			})
		}
	}
}

// names resolves home.test: to loopback, and as /dnsaddr to a.
func names(t *testing.T, a ma.Multiaddr) *madns.Resolver {
	t.Helper()
	r, err := madns.NewResolver(madns.WithDefaultResolver(&madns.MockResolver{
		IP:  map[string][]net.IPAddr{"home.test": {{IP: net.IPv4(127, 0, 0, 1)}, {IP: net.IPv6loopback}}},
		TXT: map[string][]string{"_dnsaddr.home.test": {"dnsaddr=" + a.String()}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func word(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}

// named is an address with a name in place of its IP address.
func named(t *testing.T, a ma.Multiaddr) ma.Multiaddr {
	t.Helper()
	s := strings.Replace(a.String(), "/ip4/127.0.0.1/", "/dns4/home.test/", 1)
	return ma.StringCast(strings.Replace(s, "/ip6/::1/", "/dns6/home.test/", 1))
}

// TestNothingInCommon: ends that share no security protocol or no multiplexer say so.
func TestNothingInCommon(t *testing.T) {
	for _, c := range []struct{ at, from host.Config }{
		{host.Config{Security: []host.Security{host.TLS}}, host.Config{Security: []host.Security{host.Noise}}},
		{host.Config{Muxers: []host.Muxer{host.Mplex}}, host.Config{}},
	} {
		at, from := node(t, c.at, "/ip4/127.0.0.1/tcp/0"), node(t, c.from)
		r, err := dial.Do(t.Context(), from, at.ID(), at.ListenAddrs(), dial.Config{})
		if e, unreachable := errors.AsType[*dial.UnreachableError](err); !unreachable || e.Cause != dial.HandshakeFailed || r.Path != nil {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// TestStalledStreamStopsNoOther: while nobody reads one stream, another of the same
// connection goes on.
func TestStalledStreamStopsNoOther(t *testing.T) {
	const stall, echo = protocol.ID("/stall"), protocol.ID("/echo")
	for _, listen := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"} {
		at, from := node(t, host.Config{}, listen), node(t, host.Config{})
		at.SetStreamHandler(stall, func(network.Stream) {}) // it is never read
		at.SetStreamHandler(echo, func(s network.Stream) { _, _ = io.Copy(s, s); _ = s.Close() })
		c, err := from.Dial(t.Context(), at.ID(), at.ListenAddrs())
		if err != nil {
			t.Fatal(err)
		}
		stalled, err := from.OpenStream(t.Context(), c, stall)
		if err != nil {
			t.Fatal(err)
		}
		if full(t, stalled) < 1<<10 {
			t.Error("nothing was sent at all")
		}
		s, err := from.OpenStream(t.Context(), c, echo)
		if err != nil {
			t.Fatal(err)
		}
		sent := make([]byte, 4<<20) // more than any window
		done := make(chan error, 1)
		go func() { _, err := s.Write(sent); done <- errors.Join(err, s.CloseWrite()) }()
		if got, err := io.ReadAll(s); err != nil || len(got) != len(sent) {
			t.Errorf("%s: %d of %d bytes came back beside a stream that stalled: %v", addr.Transport(c.RemoteMultiaddr()), len(got), len(sent), err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// full writes until the window is full.
func full(t *testing.T, s network.Stream) (sent int) {
	t.Helper()
	chunk := make([]byte, 64<<10)
	for {
		if err := s.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := s.Write(chunk)
		sent += n
		if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
			return sent
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", sent, err)
		}
	}
}
