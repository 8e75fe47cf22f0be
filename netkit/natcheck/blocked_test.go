package natcheck_test

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/natcheck"
	"dibber/netkit/relay"
	"dibber/netkit/vantage"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// deaf are UDP sockets in a network that lets only TCP out.
type deaf struct{}

func (deaf) ListenUDP(network string, at *net.UDPAddr) (net.PacketConn, error) {
	c, err := net.ListenUDP(network, at)
	return deafConn{c}, err
}

func (deaf) SourceIP(*net.UDPAddr) (net.IP, error) { return net.IPv4(127, 0, 0, 1), nil }

func (deaf) Addrs() []netip.Addr { return []netip.Addr{netip.MustParseAddr("127.0.0.1")} }

type deafConn struct{ net.PacketConn }

func (deafConn) WriteTo(b []byte, _ net.Addr) (int, error) { return len(b), nil }

// TestOnlyTCPGetsOut runs on the machine's own TCP, over loopback: natlab has none. A
// vantage point says where it listens for datagrams, so that their loss is no fault
// of its own; another peer cannot tell. The attempt over QUIC leaves time to ask the relay.
func TestOnlyTCPGetsOut(t *testing.T) {
	for isVantage, limit := range map[bool]time.Duration{true: natcheck.DefaultLimit, false: time.Second} {
		server, err := host.New(host.Config{Listen: []ma.Multiaddr{
			ma.StringCast("/ip4/127.0.0.1/tcp/0"), ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1"),
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Close() })
		if isVantage {
			v, err := vantage.New(server, vantage.Config{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = v.Close() })
			serving, err := relay.New(server, relay.Config{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = serving.Close() })
		}
		node, err := host.New(host.Config{Sockets: deaf{}, Listen: []ma.Multiaddr{
			ma.StringCast("/ip4/127.0.0.1/tcp/0"), ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1"),
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = node.Close() })
		r, _ := natcheck.Do(t.Context(), node, natcheck.Config{Servers: []peer.AddrInfo{{ID: server.ID(), Addrs: server.ListenAddrs()}}, Limit: limit})
		udp, tcp := r.Families.IP4.UDP, r.Families.IP4.TCP
		if tcp.Works == nil || !*tcp.Works || tcp.NAT == nil || *tcp.NAT {
			t.Errorf("TCP %+v", tcp)
		}
		if !isVantage {
			if udp.Works != nil || r.Verdict != nat.Inconclusive {
				t.Errorf("verdict %s, UDP works %v: who says that the peer's is not the fault?", r.Verdict, udp.Works)
			}
			continue
		}
		if udp.Works == nil || *udp.Works || r.Verdict != nat.UDPBlocked || !slices.Contains(r.Advice, nat.UseTCP) {
			t.Errorf("verdict %s, UDP works %v, advice %v", r.Verdict, udp.Works, r.Advice)
		}
		if tcp.LetsOtherPort == nil || !*tcp.LetsOtherPort {
			t.Errorf("another port got in, but is not known to")
		}
		if len(r.Relays) != 1 || r.Relays[0].Reservation == nil || !*r.Relays[0].Reservation {
			t.Errorf("relays %+v: no reservation over TCP", r.Relays)
		}
		for _, f := range r.Forecast {
			if f.Why == nat.WhyUDPBlocked {
				t.Errorf("%s with %s, though TCP gets out", f.Direct, f.Peer)
			}
		}
	}
}

// TestWithoutUDPByChoice: a node that uses TCP alone is judged by that, and is not told to
// look for a vantage point that it has.
func TestWithoutUDPByChoice(t *testing.T) {
	server, err := host.New(host.Config{Listen: []ma.Multiaddr{
		ma.StringCast("/ip4/127.0.0.1/tcp/0"), ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	v, err := vantage.New(server, vantage.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	node, err := host.New(host.Config{Transports: []host.Transport{host.TCP}, Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Close() })
	r, _ := natcheck.Do(t.Context(), node, natcheck.Config{Servers: []peer.AddrInfo{{ID: server.ID(), Addrs: server.ListenAddrs()}}})
	// One address cannot tell whether strangers get in.
	if want := []nat.Advice{nat.SecondAddress, nat.LocalOnly}; !slices.Equal(r.Advice, want) {
		t.Errorf("advice %v, want %v", r.Advice, want)
	}
	for _, f := range r.Forecast {
		if f.Direct == nat.Unknown {
			t.Errorf("%s with %s: %s", f.Direct, f.Peer, f.Why)
		}
	}
	if len(r.Servers) != 1 || r.Servers[0].Error != nil {
		t.Errorf("servers %+v: QUIC was not to be tried", r.Servers)
	}
}
