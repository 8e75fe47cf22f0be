package host

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/miekg/dns"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
)

// certificate makes a self-signed one for 127.0.0.1.
func certificate(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
}

func TestEveryTransportListensAndDials(t *testing.T) {
	for transport, listen := range map[Transport]string{
		QUIC:         "/ip4/127.0.0.1/udp/0/quic-v1",
		TCP:          "/ip6/::1/tcp/0",
		WS:           "/ip4/127.0.0.1/tcp/0/ws",
		WebTransport: "/ip4/127.0.0.1/udp/0/quic-v1/webtransport",
		WebRTC:       "/ip4/127.0.0.1/udp/0/webrtc-direct",
	} {
		t.Run(string(transport), func(t *testing.T) {
			cfg := Config{Transports: []Transport{transport}, Listen: []ma.Multiaddr{ma.StringCast(listen)}}
			a, b := loopback(t, cfg), loopback(t, cfg)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			c, err := a.Dial(ctx, b.ID(), b.ListenAddrs())
			if err != nil {
				t.Fatal(err)
			}
			if ok, err := a.Supports(ctx, c, "/ipfs/ping/1.0.0"); err != nil || !ok {
				t.Errorf("ping over %s: %v %v", c.RemoteMultiaddr(), ok, err)
			}
		})
	}
}

// libp2p's secure WebSocket checks certificates against the system's roots, so a
// self-signed one shows that the listener speaks TLS and that the dialler checks.
func TestSecureWebSocketIsTLSAndChecked(t *testing.T) {
	b := loopback(t, Config{Transports: []Transport{WSS}, TLS: certificate(t), Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0/tls/ws")}})
	a := loopback(t, Config{Transports: []Transport{WSS}, Listen: []ma.Multiaddr{}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := a.Dial(ctx, b.ID(), b.ListenAddrs())
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("error %v, want an unknown authority", err)
	}
}

func TestPrivateNetworkNeedsTheKey(t *testing.T) {
	psk := func(b byte) []byte { return slices.Repeat([]byte{b}, 32) }
	tcp := []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}
	inside, member := loopback(t, Config{PSK: psk(1), Listen: tcp}), loopback(t, Config{PSK: psk(1), Listen: tcp})
	stranger, outside := loopback(t, Config{PSK: psk(2), Listen: tcp}), loopback(t, Config{Listen: tcp})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := member.Dial(ctx, inside.ID(), inside.ListenAddrs()); err != nil {
		t.Error("same key:", err)
	}
	if _, err := stranger.Dial(ctx, inside.ID(), inside.ListenAddrs()); err == nil {
		t.Error("another key got in")
	}
	if _, err := outside.Dial(ctx, inside.ID(), inside.ListenAddrs()); err == nil {
		t.Error("no key got in")
	}
	if _, err := New(Config{PSK: psk(1), Transports: []Transport{QUIC}}); !errors.Is(err, ErrNoTransport) {
		t.Errorf("private network over quic: %v", err)
	}
}

func TestFamilyBindsBothWays(t *testing.T) {
	n, err := New(Config{Family: IPv4Only})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, a := range n.ListenAddrs() {
		if _, err := a.ValueForProtocol(ma.P_IP6); err == nil {
			t.Errorf("listens on %s", a)
		}
	}
	b := loopback(t, Config{Listen: []ma.Multiaddr{ma.StringCast("/ip6/::1/tcp/0")}})
	if _, err := n.Dial(t.Context(), b.ID(), b.ListenAddrs()); err == nil {
		t.Error("an IPv4 host dialled IPv6")
	}
}

// nameserver answers from a zone, on loopback.
func nameserver(t *testing.T, zone map[string][]dns.RR) *madns.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		for _, rr := range zone[q.Question[0].Name] {
			if rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m)
	})}
	done := make(chan error, 1)
	go func() { done <- srv.ActivateAndServe() }()
	t.Cleanup(func() {
		_ = srv.Shutdown()
		<-done
	})
	r, err := madns.NewResolver(madns.WithDefaultResolver(&net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
		},
	}))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func rr(t *testing.T, s string) dns.RR {
	t.Helper()
	r, err := dns.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestResolve(t *testing.T) {
	const me, other = "12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm", "12D3KooWBPWVQKZtwiBVijC6zbDoYPQW15f1Yxa8Zy4K6mP6Cvn9"
	id, err := peer.Decode(me)
	if err != nil {
		t.Fatal(err)
	}
	res := nameserver(t, map[string][]dns.RR{
		"a.test.":             {rr(t, "a.test. 60 A 127.0.0.1"), rr(t, "a.test. 60 AAAA ::1")},
		"_dnsaddr.two.test.":  {rr(t, `_dnsaddr.two.test. 60 TXT "dnsaddr=/ip4/127.0.0.1/tcp/1/p2p/`+me+`"`), rr(t, `_dnsaddr.two.test. 60 TXT "dnsaddr=/ip4/127.0.0.1/tcp/2/p2p/`+other+`"`)},
		"_dnsaddr.up.test.":   {rr(t, `_dnsaddr.up.test. 60 TXT "dnsaddr=/dnsaddr/two.test"`)},
		"_dnsaddr.loop.test.": {rr(t, `_dnsaddr.loop.test. 60 TXT "dnsaddr=/dnsaddr/loop.test"`)},
	})
	n := loopback(t, Config{Resolver: res})
	for _, c := range []struct {
		name, addr string
		peer       peer.ID
		want       []string
		fails      bool
	}{
		{"no name", "/ip4/127.0.0.1/tcp/1", id, []string{"/ip4/127.0.0.1/tcp/1"}, false},
		{"one family", "/dns4/a.test/tcp/1", id, []string{"/ip4/127.0.0.1/tcp/1"}, false},
		{"both families", "/dns/a.test/udp/1/quic-v1", id, []string{"/ip4/127.0.0.1/udp/1/quic-v1", "/ip6/::1/udp/1/quic-v1"}, false},
		{"only the peer's", "/dnsaddr/two.test", id, []string{"/ip4/127.0.0.1/tcp/1"}, false},
		{"everybody's", "/dnsaddr/two.test", "", []string{"/ip4/127.0.0.1/tcp/1/p2p/" + me, "/ip4/127.0.0.1/tcp/2/p2p/" + other}, false},
		{"name behind a name", "/dnsaddr/up.test", id, []string{"/ip4/127.0.0.1/tcp/1"}, false},
		{"endless", "/dnsaddr/loop.test", id, nil, true},
		{"unknown", "/dns4/nowhere.test/tcp/1", id, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := n.Resolve(t.Context(), c.peer, ma.StringCast(c.addr))
			var got []string
			for _, a := range r.Addrs {
				got = append(got, a.String())
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) || (r.Err != nil) != c.fails {
				t.Errorf("got %q, %v; want %q", got, r.Err, c.want)
			}
		})
	}
}

func TestManyConnectionsFromOneAddressThenNoMore(t *testing.T) {
	l := Limits{ConnsPerIP: 2}.withDefaults()
	rm, err := l.resourceManager(false)
	if err != nil {
		t.Fatal(err)
	}
	defer rm.Close()
	from := ma.StringCast("/ip4/5.9.0.7/udp/4001/quic-v1")
	for i := range 3 {
		_, err := rm.OpenConnection(1, false, from)
		if allowed := i < 2; (err == nil) != allowed {
			t.Errorf("connection %d: %v", i+1, err)
		}
	}
	if got := (Limits{}).withDefaults(); got.ConnsPerIP < 24 || got.Conns < 1024 || got.Memory < 128<<20 {
		t.Errorf("defaults %+v", got)
	}
}
