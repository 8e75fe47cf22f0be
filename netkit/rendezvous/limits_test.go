package rendezvous

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/wire"
)

func TestBuckets(t *testing.T) {
	b := newBuckets[string](3)
	rate := Rate{PerSecond: 2, Burst: 3}
	var got []bool
	for range 4 {
		got = append(got, b.take(0, "a", rate))
	}
	got = append(got, b.take(0, "b", rate), b.take(500*time.Millisecond, "a", rate), b.take(500*time.Millisecond, "a", rate))
	if want := "[true true true false true true false]"; fmt.Sprint(got) != want {
		t.Errorf("allowed %v, want %s", got, want)
	}
	for i := range 100 {
		b.take(time.Duration(i)*time.Millisecond, fmt.Sprint(i), rate)
		if len(b.full) > 3 {
			t.Fatalf("%d buckets", len(b.full))
		}
	}
	slow := Rate{PerSecond: 1e-9, Burst: 2}
	got = nil
	for range 3 {
		got = append(got, b.take(time.Hour, "slow", slow))
	}
	if want := "[true true false]"; fmt.Sprint(got) != want {
		t.Errorf("allowed %v, want %s", got, want)
	}
}

func TestPrefixOf(t *testing.T) {
	for addr, want := range map[string]prefix{
		"/ip4/192.0.2.77/tcp/1":                                 {4, 192, 0, 2},
		"/ip4/192.0.2.1/udp/1/quic-v1":                          {4, 192, 0, 2},
		"/ip6/2001:db8:1:2ff::1/tcp/1":                          {6, 0x20, 0x01, 0x0d, 0xb8, 0, 1, 2},
		"/ip6/2001:db8:1:201::9/tcp/1":                          {6, 0x20, 0x01, 0x0d, 0xb8, 0, 1, 2},
		"/ip4/192.0.2.1/tcp/1/p2p/" + somePeer + "/p2p-circuit": {4, 192, 0, 2},
		"/p2p/" + somePeer + "/p2p-circuit":                     {},
	} {
		if got := prefixOf(ma.StringCast(addr)); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
}

const somePeer = "12D3KooWECbA5dvibwnun1g8Pu3nkFPSKYjjYbUiwjMrGa3XuxnC"

// farConn is a connection from an address.
type farConn struct {
	network.Conn
	addr string
}

func (c farConn) Stat() network.ConnStats       { return network.ConnStats{} }
func (c farConn) RemoteMultiaddr() ma.Multiaddr { return ma.StringCast(c.addr) }

// TestRatesOfPeersAndPrefixes has a network use up its rate: others are served,
// and so is it once the limits are set higher.
func TestRatesOfPeersAndPrefixes(t *testing.T) {
	once := Rate{PerSecond: 1e-9, Burst: 1}
	thrice := Rate{PerSecond: 1e-9, Burst: 3}
	limits := Limits{PeerDiscover: once, PrefixDiscover: thrice}
	s := newServer(t, newHost(t), ServerConfig{Limits: limits})
	ids := sealedPeers(t, 5)
	ask := func(i int, addr string) string {
		_, refused := s.screen(wire.Request{Peer: ids[i].id, Conn: farConn{addr: addr}, Body: discoverOf("ns", false).encode()})
		return map[bool]string{true: "refused", false: "served"}[refused]
	}
	const home, away = "/ip4/192.0.2.1/tcp/1", "/ip4/198.51.100.1/tcp/1"
	got := []string{ask(0, home), ask(0, home), ask(0, home), ask(0, home), ask(1, home), ask(2, home), ask(3, home), ask(4, away)}
	want := []string{"served", "refused", "refused", "refused", "served", "served", "refused", "served"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := s.Stats().Refusals; got["peer_rate"] != 3 || got["prefix_rate"] != 1 {
		t.Errorf("refusals %v", got)
	}
	limits.PeerDiscover, limits.PrefixDiscover = Rate{PerSecond: 1e9, Burst: 10}, Rate{PerSecond: 1e9, Burst: 10}
	if err := s.SetLimits(limits); err != nil {
		t.Fatal(err)
	}
	for ctx := testContext(t); ask(0, home) != "served"; {
		if ctx.Err() != nil {
			t.Fatal("refused with higher limits")
		}
	}
	if s.SetLimits(Limits{PerPeer: -1}) == nil || s.Limits().PerPeer != 1000 {
		t.Errorf("bad limits were taken: %+v", s.Limits())
	}
}

// TestAddressPolicy registers each kind of address where some are refused.
func TestAddressPolicy(t *testing.T) {
	point, client := newHost(t), newHost(t)
	s := newServer(t, point, ServerConfig{})
	kinds := map[AddrKinds]string{
		AddrPublic:  "/ip4/203.0.114.7/tcp/1",
		AddrRelayed: "/ip4/203.0.114.7/tcp/1/p2p/" + somePeer + "/p2p-circuit",
		AddrPrivate: "/ip4/192.168.1.1/tcp/1/p2p/" + client.ID().String(),
	}
	seq := uint64(0)
	register := func(addrs ...ma.Multiaddr) Status {
		seq++
		envelope, err := SealRecord(client.Peerstore().PrivKey(client.ID()), seq, addrs, Standard)
		if err != nil {
			t.Fatal(err)
		}
		return statusIn(ask(t, client, point, registerOf("ns", envelope, nil)))
	}
	for refused := range AddrPrivate << 1 {
		limits := s.Limits()
		limits.RefuseAddrs = refused
		if err := s.SetLimits(limits); err != nil {
			t.Fatal(err)
		}
		for kind, addr := range kinds {
			want := StatusOK
			if kind&refused != 0 {
				want = StatusInvalidSignedPeerRecord
			}
			if got := register(ma.StringCast(addr)); got != want {
				t.Errorf("%s where %b are refused: %s, want %s", addr, refused, got, want)
			}
		}
		if refused == AddrPrivate {
			if got := register(ma.StringCast(kinds[AddrPrivate]), ma.StringCast(kinds[AddrPublic])); got != StatusOK {
				t.Errorf("a private beside a public address: %s", got)
			}
		}
	}
	if got := register(ma.StringCast("/ip4/203.0.114.7/tcp/1/p2p/" + somePeer)); got != StatusInvalidSignedPeerRecord {
		t.Errorf("nothing but another peer's address: %s", got)
	}
}

// TestRefreshSkipsVerification registers the same record again, in the same and
// in another namespace, and then one that differs in its last byte.
func TestRefreshSkipsVerification(t *testing.T) {
	point, client := newHost(t), newHost(t)
	s := newServer(t, point, ServerConfig{})
	standard, legacy := sealFor(t, client, 5, Standard), sealFor(t, client, 5, Legacy)
	forged := bytes.Clone(standard)
	forged[len(forged)-1] ^= 1
	steps := []struct {
		m      message
		status Status
		hits   uint64
	}{
		{registerOf("ns", standard, legacy), StatusOK, 0},
		{registerOf("ns", standard, legacy), StatusOK, 1},
		{registerOf("other", legacy, standard), StatusOK, 2},
		{registerOf("ns", standard, nil), StatusOK, 2},
		{registerOf("ns", standard, nil), StatusOK, 3},
		{registerOf("ns", forged, nil), StatusInvalidSignedPeerRecord, 3},
	}
	for i, step := range steps {
		reply, err := s.handle(context.Background(), wire.Request{Peer: client.ID(), Conn: oldConn{}, Body: step.m.encode()})
		if err != nil {
			t.Fatal(err)
		}
		m, err := decodeMessage(reply)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Stats().CacheHits; statusIn(m) != step.status || got != step.hits {
			t.Errorf("step %d: %s, %d hits; want %s, %d", i, statusIn(m), got, step.status, step.hits)
		}
	}
}
