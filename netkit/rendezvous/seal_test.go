package rendezvous

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"

	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// inSeveral keeps h registered in namespaces, at addresses that may change. It
// returns the kinds of events told, counted.
func inSeveral(t *testing.T, h corehost.Host, server peer.AddrInfo, namespaces []string, addrs *atomic.Pointer[[]ma.Multiaddr]) func(RegistrarEventKind) int {
	t.Helper()
	var mu sync.Mutex
	told := make(map[RegistrarEventKind]int)
	sealer := NewSealer()
	for _, ns := range namespaces {
		r, err := NewRegistrar(h, RegistrarConfig{
			Server: server, Namespace: ns, TTL: time.Minute, Sealer: sealer, Debounce: QuickDebounce,
			Addrs: func() []ma.Multiaddr { return *addrs.Load() },
			On: func(e RegistrarEvent) {
				mu.Lock()
				defer mu.Unlock()
				told[e.Kind]++
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
	}
	return func(kind RegistrarEventKind) int {
		mu.Lock()
		defer mu.Unlock()
		return told[kind]
	}
}

// TestRefreshesCostNoVerification keeps a host registered in two namespaces for
// half an hour of virtual time. The server verifies its record when it first
// comes, when an address has changed, and when somebody else with its identity
// has sent a newer one.
func TestRefreshesCostNoVerification(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		point := lab.Internet().Machine("point", natlab.MachineConfig{}).Host(host.Config{})
		client := lab.Internet().Machine("client", natlab.MachineConfig{}).Host(host.Config{})
		s := newServer(t, point, ServerConfig{Limits: Limits{MinTTL: time.Minute}})
		server := peer.AddrInfo{ID: point.ID(), Addrs: point.ListenAddrs()}
		var addrs atomic.Pointer[[]ma.Multiaddr]
		addrs.Store(&[]ma.Multiaddr{addrA})
		told := inSeveral(t, client, server, []string{"a", "b"}, &addrs)
		seqs := func() (seq uint64) {
			t.Helper()
			for _, e := range everything(s.reg) {
				for f := range 2 {
					got := e.packed.recordSeq(e.owner.id, Flavour(f))
					if seq != 0 && got != seq {
						t.Errorf("records of seq %d and %d", seq, got)
					}
					seq = got
				}
			}
			return seq
		}
		refreshes := uint64(0)
		check := func(when string, verified uint64) {
			t.Helper()
			time.Sleep(10 * time.Minute)
			got := s.Stats()
			if got.CacheMisses != verified || got.CacheHits < refreshes+25 || got.Registrations != 2 {
				t.Errorf("%s: %d verified, want %d; %d known; %d registrations", when, got.CacheMisses, verified, got.CacheHits, got.Registrations)
			}
			refreshes = got.CacheHits
		}
		check("at first", 1)
		first := seqs()
		addrs.Store(&[]ma.Multiaddr{ma.StringCast("/ip4/203.0.113.8/udp/1/quic-v1"), addrA})
		check("after a change", 2)
		second := seqs()
		if second <= first {
			t.Errorf("seq %d after %d", second, first)
		}
		if _, err := Register(t.Context(), client, server, RegisterRequest{Namespace: "a", TTL: time.Minute, Addrs: []ma.Multiaddr{addrA}}); err != nil {
			t.Fatal(err)
		}
		check("after a newer record", 3+2) // the newer one, ours that came too late, and one newer than both
		if third := seqs(); third <= second {
			t.Errorf("seq %d after %d", third, second)
		}
		if told(RegistrarFailed) != 0 || told(RegistrarRegistered) != 2 || told(RegistrarRefreshed) < 75 {
			t.Errorf("%d failed, %d registered, %d refreshed", told(RegistrarFailed), told(RegistrarRegistered), told(RegistrarRefreshed))
		}
	})
}
