package addr

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ma "github.com/multiformats/go-multiaddr"
	"pgregory.net/rapid"
)

func mustAddr(t testing.TB, s string) ma.Multiaddr {
	t.Helper()
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestClasses(t *testing.T) {
	type class struct {
		Scope     Scope
		Path      string
		Transport string
	}
	const relay = "/p2p/" + idA + "/p2p-circuit"
	tests := map[string]class{
		"/ip4/127.0.0.1/udp/1/quic-v1":                {ScopeLoopback, PathDirect, TransportQUIC},
		"/ip6/::1/tcp/1":                              {ScopeLoopback, PathDirect, TransportTCP},
		"/ip6/::ffff:127.0.0.1/tcp/1":                 {ScopeLoopback, PathDirect, TransportTCP},
		"/ip4/169.254.3.4/tcp/1":                      {ScopeLinkLocal, PathDirect, TransportTCP},
		"/ip6/fe80::1/tcp/1":                          {ScopeLinkLocal, PathDirect, TransportTCP},
		"/ip6zone/eth0/ip6/fe80::1/tcp/1":             {ScopeLinkLocal, PathDirect, TransportTCP},
		"/ip4/10.1.2.3/tcp/1/ws":                      {ScopePrivate, PathDirect, TransportWS},
		"/ip4/192.168.0.1/tcp/1/tls/ws":               {ScopePrivate, PathDirect, TransportWSS},
		"/ip4/172.31.0.1/tcp/1/tls/sni/a.com/ws":      {ScopePrivate, PathDirect, TransportWSS},
		"/ip4/172.32.0.1/tcp/1/wss":                   {ScopePublic, PathDirect, TransportWSS},
		"/ip4/100.64.0.0/tcp/1":                       {ScopePrivate, PathDirect, TransportTCP},
		"/ip4/100.127.255.255/tcp/1":                  {ScopePrivate, PathDirect, TransportTCP},
		"/ip4/100.128.0.0/tcp/1":                      {ScopePublic, PathDirect, TransportTCP},
		"/ip6/fd00::1/udp/1/quic-v1/webtransport":     {ScopePrivate, PathDirect, TransportWebTransport},
		"/ip6/2a01::1/udp/1/webrtc-direct":            {ScopePublic, PathDirect, TransportWebRTCDirect},
		"/ip6/64:ff9b::808:808/udp/1/quic-v1":         {ScopePublic, PathDirect, TransportQUIC},
		"/ip4/8.8.8.8/udp/1":                          {ScopePublic, PathDirect, ""},
		"/ip4/8.8.8.8/udp/1/quic":                     {ScopePublic, PathDirect, ""},
		"/ip4/8.8.8.8/tcp/80/http":                    {ScopePublic, PathDirect, ""},
		"/ip4/0.0.0.0/tcp/1":                          {ScopeUnknown, PathDirect, TransportTCP},
		"/ip6/::/tcp/1":                               {ScopeUnknown, PathDirect, TransportTCP},
		"/ip4/192.0.2.2/tcp/1":                        {ScopeUnknown, PathDirect, TransportTCP},
		"/ip4/224.0.0.251/udp/5353":                   {ScopeUnknown, PathDirect, ""},
		"/ip6/2001:db8::1/tcp/1":                      {ScopeUnknown, PathDirect, TransportTCP},
		"/unix/a/b":                                   {ScopeUnknown, PathDirect, ""},
		"/dns4/example.com/tcp/443/wss":               {ScopeDNS, PathDirect, TransportWSS},
		"/dns/localhost/tcp/1":                        {ScopeDNS, PathDirect, TransportTCP},
		"/dnsaddr/bootstrap.example":                  {ScopeDNS, PathDirect, ""},
		"/ip4/10.0.0.1/udp/1/quic-v1" + relay:         {ScopePrivate, PathRelayed, TransportQUIC},
		"/ip4/10.0.0.1/tcp/1" + relay + "/p2p/" + idB: {ScopePrivate, PathRelayed, TransportTCP},
		"/p2p-circuit":                                {ScopeUnknown, PathRelayed, ""},
	}
	for s, want := range tests {
		a := mustAddr(t, s)
		if diff := cmp.Diff(want, class{ScopeOf(a), Path(a), Transport(a)}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s, diff)
		}
	}
	if got := ScopeOf(nil); got != ScopeUnknown {
		t.Errorf("scope of no address = %s", got)
	}
}

func TestIP(t *testing.T) {
	for s, want := range map[string]string{
		"/ip4/1.2.3.4/tcp/1":              "1.2.3.4",
		"/ip6/::ffff:1.2.3.4/tcp/1":       "1.2.3.4",
		"/ip6zone/eth0/ip6/fe80::1/tcp/1": "fe80::1",
	} {
		if got, ok := IP(mustAddr(t, s)); !ok || got != netip.MustParseAddr(want) {
			t.Errorf("IP(%s) = %v, %v, want %s", s, got, ok, want)
		}
	}
	for _, s := range []string{"/dns4/a.com/tcp/1", "/p2p-circuit", "/dns/a/tcp/1/ip4/1.2.3.4"} {
		if ip, ok := IP(mustAddr(t, s)); ok {
			t.Errorf("IP(%s) = %s, want none", s, ip)
		}
	}
}

func TestSortDoesNotDependOnInputOrder(t *testing.T) {
	want := []string{
		"/ip4/10.0.0.1/udp/4001/quic-v1",
		"/ip6/2a01::1/udp/4001/quic-v1",
		"/ip4/10.0.0.1/tcp/4001",
		"/ip4/10.0.0.1/udp/4001/quic-v1/webtransport",
		"/dns4/a.com/tcp/443/wss",
		"/ip4/10.0.0.1/tcp/4002/ws",
		"/ip4/10.0.0.1/udp/4001/webrtc-direct",
		"/dnsaddr/a.com",
		"/ip4/10.0.0.1/udp/4001/quic-v1/p2p/" + idA + "/p2p-circuit",
	}
	rapid.Check(t, func(t *rapid.T) {
		addrs := make([]ma.Multiaddr, len(want))
		for i, s := range want {
			addrs[i], _ = ma.NewMultiaddr(s)
		}
		seed := rapid.Uint64().Draw(t, "seed")
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
		Sort(addrs)
		if diff := cmp.Diff(strings.Join(want, "\n"), joinAddrs(addrs)); diff != "" {
			t.Fatalf("order (-want +got):\n%s", diff)
		}
	})
}

func joinAddrs(addrs []ma.Multiaddr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, "\n")
}
