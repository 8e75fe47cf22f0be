package rendezvous

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	dibberhost "dibber/netkit/host"
	"dibber/netkit/natlab"
)

// hanging is a host whose dials, while its network is gone, end with their context.
type hanging struct {
	host.Host
	until atomic.Pointer[time.Time]
}

func (h *hanging) Connect(ctx context.Context, to peer.AddrInfo) error {
	if until := h.until.Load(); until != nil && time.Now().Before(*until) {
		<-ctx.Done()
		return ctx.Err()
	}
	return h.Host.Connect(ctx, to)
}

// TestFollowerAfterHangingDials: the network swallows what is sent, so that dials
// hang, also for a while after its return. Within 10 s of that the server is followed.
func TestFollowerAfterHangingDials(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		point := lab.Internet().Machine("point", natlab.MachineConfig{}).Host(dibberhost.Config{})
		newServer(t, point, ServerConfig{})
		h := &hanging{Host: lab.Internet().Machine("watcher", natlab.MachineConfig{}).Host(dibberhost.Config{})}
		told := make(chan FollowerEvent, 1000)
		f, err := NewFollower(h, FollowerConfig{
			Server:    peer.AddrInfo{ID: point.ID(), Addrs: point.ListenAddrs()},
			Namespace: "ns",
			On:        func(e FollowerEvent) { told <- e },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		all := func() {
			for e := range told {
				if e.Kind == FollowerAll {
					return
				}
			}
		}
		all()
		for outage := time.Second; outage < time.Minute; outage += 3 * time.Second {
			time.Sleep(time.Minute)
			until := time.Now().Add(outage)
			h.until.Store(&until)
			if err := point.Network().ClosePeer(h.ID()); err != nil {
				t.Fatal(err)
			}
			all()
			if took := time.Since(until); took > 10*time.Second {
				t.Errorf("followed again %s after the end of an outage of %s", took, outage)
			}
		}
	})
}
