package discover_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"dibber/netkit/discover"
	"dibber/netkit/host"
	"dibber/netkit/mdns"
	"dibber/netkit/rendezvous"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
)

func TestDNSAddrAndTable(t *testing.T) {
	a, b := node(t, host.Config{}, quicAddr), node(t, host.Config{}, tcpAddr)
	backend := &madns.MockResolver{TXT: map[string][]string{
		"_dnsaddr.garden.test": {
			"dnsaddr=" + full(a.ID(), a.ListenAddrs())[0],
			"dnsaddr=/ip4/127.0.0.1/tcp/1", // whose?
			"dnsaddr=" + full(b.ID(), b.ListenAddrs())[0],
		},
		"_dnsaddr.nobody.test": {"dnsaddr=/ip4/127.0.0.1/tcp/1"},
	}}
	resolver, err := madns.NewResolver(madns.WithDefaultResolver(backend))
	if err != nil {
		t.Fatal(err)
	}
	n := node(t, host.Config{Resolver: resolver})
	r, err := discover.Do(t.Context(), n, discover.Config{
		DNSAddrs: []ma.Multiaddr{ma.StringCast("/dnsaddr/garden.test")}, Table: []peer.AddrInfo{infoOf(b), {ID: n.ID()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[peer.ID]string{}
	for _, p := range r.Peers {
		got[p.ID] = fmt.Sprint(p.Sources, p.Addrs, p.TTL == nil, p.Namespace == nil)
	}
	want := map[peer.ID]string{
		a.ID(): fmt.Sprint([]string{"dnsaddr"}, full(a.ID(), a.ListenAddrs()), true, true),
		b.ID(): fmt.Sprint([]string{"dnsaddr", "table"}, full(b.ID(), b.ListenAddrs()), true, true),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("peers (-want +got):\n%s", diff)
	}
	if s := r.Sources; len(s) != 2 || s[0].Skipped != 1 || s[0].Count != 2 || *s[0].Server != "/dnsaddr/garden.test" || s[1].Count != 1 || s[1].Server != nil {
		t.Errorf("sources %+v", s)
	}
	for _, name := range []string{"/dnsaddr/nobody.test", "/dnsaddr/unknown.test"} {
		_, err := discover.Do(t.Context(), n, discover.Config{DNSAddrs: []ma.Multiaddr{ma.StringCast(name)}})
		var e *discover.SourceError
		if !errors.As(err, &e) || e.Source != discover.SourceDNSAddr || e.Server != name {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// quietLink is multicast DNS on loopback under a name that no other test uses.
func quietLink(t *testing.T) mdns.Config {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(i net.Interface) bool { return i.Flags&net.FlagLoopback != 0 && i.Flags&net.FlagUp != 0 })
	if i < 0 {
		t.Skip("no loopback interface")
	}
	return mdns.Config{Interfaces: []string{all[i].Name}, ServiceName: fmt.Sprintf("_p2p-test-%x._udp", rand.Uint64())}
}

func TestMDNS(t *testing.T) {
	link := quietLink(t)
	a, n := node(t, host.Config{}, quicAddr), node(t, host.Config{})
	speak := link
	speak.Announce = true
	s, err := mdns.New(a, speak)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	server := point(t, rendezvous.ServerConfig{})
	register(t, a, server, "garden")
	cfg := discover.Config{MDNS: &link, Min: 1, For: patience}
	r, err := discover.Do(t.Context(), n, cfg)
	if err != nil || r.Count != 1 {
		t.Fatalf("found %+v, error %v", r, err)
	}
	p := r.Peers[0]
	if p.ID != a.ID() || !slices.Equal(p.Addrs, full(a.ID(), a.ListenAddrs())) || !slices.Equal(p.Sources, []string{"mdns"}) || p.TTL == nil || *p.TTL > 120 {
		t.Errorf("found %+v", p)
	}
	if src := r.Sources[0]; !src.OK || src.Count != 1 || src.Server != nil || src.MS != nil {
		t.Errorf("source %+v", src)
	}
	at, err := discover.Resolve(t.Context(), n, a.ID(), cfg)
	if err != nil || len(at) != 1 || !at[0].Equal(a.ListenAddrs()[0]) {
		t.Errorf("resolved to %v, error %v", at, err)
	}
}

func TestMDNSThatCannotStartIsAFailedSource(t *testing.T) {
	n := node(t, host.Config{})
	r, err := discover.Do(t.Context(), n, discover.Config{MDNS: &mdns.Config{ServiceName: "nonsense"}, For: time.Millisecond})
	if !errors.Is(err, mdns.ErrServiceName) || r.Sources[0].OK || r.Sources[0].Error == nil {
		t.Errorf("sources %+v, error %v", r.Sources, err)
	}
}
