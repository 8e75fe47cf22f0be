package etcd_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"dibber/netkit/etcd"
	"dibber/netkit/rendezvous"
	"dibber/netkit/store"
)

// BenchmarkRate registers and discovers with 32 clients at the embedded registry, and at one, two
// and three servers that share one.
func BenchmarkRate(b *testing.B) {
	fast := rendezvous.Rate{PerSecond: 1e9, Burst: 1e9}
	limits := rendezvous.Limits{PeerRegister: fast, PeerDiscover: fast, PrefixRegister: fast, PrefixDiscover: fast}
	clients := make([]host.Host, 32)
	for i := range clients {
		clients[i] = newHost(b)
	}
	for servers := range 4 {
		name := fmt.Sprintf("etcd-%d", servers)
		var at []peer.AddrInfo
		if servers == 0 {
			name = "embedded"
			db, err := store.Open(b.TempDir(), store.Config{})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			at = append(at, point(b, rendezvous.ServerConfig{Limits: limits, DB: db}))
		} else {
			m := newMember(b)
			for range servers {
				at = append(at, point(b, rendezvous.ServerConfig{Limits: limits, Space: m.space(b, etcd.Config{})}))
			}
		}
		run := func(what string, do func(h host.Host, at peer.AddrInfo) error) {
			b.Run(name+"/"+what, func(b *testing.B) {
				var next atomic.Int64
				b.SetParallelism(len(clients)/2 + 1)
				b.RunParallel(func(pb *testing.PB) {
					i := int(next.Add(1)) % len(clients)
					for pb.Next() {
						if err := do(clients[i], at[i%len(at)]); err != nil && status(err) != rendezvous.StatusInvalidSignedPeerRecord {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
			})
		}
		run("register", func(h host.Host, at peer.AddrInfo) error { return register(b.Context(), h, at, "ns") })
		run("discover", func(h host.Host, at peer.AddrInfo) error {
			_, err := rendezvous.Discover(b.Context(), h, at, rendezvous.DiscoverRequest{Namespace: "ns", Limit: 10})
			return err
		})
	}
}
