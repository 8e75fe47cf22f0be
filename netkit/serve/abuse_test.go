package serve_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/rendezvous"

	"github.com/libp2p/go-libp2p/core/network"
)

// TestAbuserIsTurnedAway has a peer come with made-up cookies until it is thrown
// out, stays out for a minute, and is let in again. Others notice nothing.
func TestAbuserIsTurnedAway(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, server := public(t, lab, "server")
		abuser := lab.Internet().Machine("abuser", natlab.MachineConfig{}).Host(host.Config{})
		honest := lab.Internet().Machine("honest", natlab.MachineConfig{}).Host(host.Config{})
		ask := func(n *host.Node, cookie []byte) error {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, err := rendezvous.Discover(ctx, n, info(server), rendezvous.DiscoverRequest{Namespace: "chat", Cookie: cookie})
			return err
		}
		cookie := bytes.Repeat([]byte("A"), 24)
		refused, began := 0, time.Now()
		for {
			if _, status := errors.AsType[*rendezvous.StatusError](ask(abuser, cookie)); !status {
				break
			}
			if refused++; refused > 30 {
				t.Fatal("a peer with 30 made-up cookies is still answered")
			}
		}
		if refused < 10 {
			t.Errorf("thrown out after %d refusals: there must be room for mistakes", refused)
		}
		time.Sleep(5 * time.Second)
		if c := server.Network().Connectedness(abuser.ID()); c == network.Connected {
			t.Error("the abuser is still connected")
		}
		if err := ask(honest, nil); err != nil {
			t.Errorf("another peer: %v", err)
		}
		if err := ask(abuser, nil); err == nil {
			t.Errorf("the abuser is answered again after %s", time.Since(began))
		}
		time.Sleep(time.Minute)
		abuser.Network().ClosePeer(server.ID())
		if err := ask(abuser, nil); err != nil {
			t.Errorf("after a minute: %v", err)
		}
	})
}
