package dialback_test

import (
	"testing"
	"time"

	"dibber/netkit/dialback"
	"dibber/netkit/host"
	"dibber/netkit/natlab"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/host/autonat"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
)

// scene is a dial-back server and a client in front of it.
func scene(t *testing.T, lab *natlab.Lab, shut bool, cfg dialback.Config) (server, client *host.Node) {
	t.Helper()
	server = lab.Internet().Machine("server", natlab.MachineConfig{}).Host(host.Config{})
	s, err := dialback.New(server, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The library's v1 server sits out a failed dial-back for 15 s, whatever
		// happens to its host, so that nobody uses it to scan ports.
		time.Sleep(time.Minute)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	at := lab.Internet()
	if shut {
		at = at.Router("home", natlab.RouterConfig{NAT: natlab.NAT{Filtering: natlab.AddressAndPortDependent}}).LAN()
	}
	return server, at.Machine("client", natlab.MachineConfig{}).Host(host.Config{})
}

// connect has the client identified by the server, and the other way round.
func connect(t *testing.T, client, server *host.Node) {
	t.Helper()
	if _, err := client.Dial(t.Context(), server.ID(), server.ListenAddrs()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // virtual: identify, both ways
	if len(client.Observations()) != 1 {
		t.Fatalf("observations %v", client.Observations())
	}
}

func TestVersion2TellsTheTruth(t *testing.T) {
	for want, shut := range map[network.Reachability]bool{network.ReachabilityPublic: false, network.ReachabilityPrivate: true} {
		natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
			server, client := scene(t, lab, shut, dialback.Config{})
			dialler, err := client.Dialer()
			if err != nil {
				t.Fatal(err)
			}
			defer dialler.Close()
			v2, err := autonatv2.New(dialler)
			if err != nil {
				t.Fatal(err)
			}
			if err := v2.Start(client); err != nil {
				t.Fatal(err)
			}
			defer v2.Close()
			connect(t, client, server) // only now: the v2 client finds its servers by events
			req := autonatv2.Request{Addr: client.Observations()[0].Addr, SendDialData: true}
			if r, err := v2.GetReachability(t.Context(), []autonatv2.Request{req}); err != nil || r.Reachability != want {
				t.Errorf("%v %v, want %v", r.Reachability, err, want)
			}
		})
	}
}

func TestVersion1TellsTheTruth(t *testing.T) {
	for _, shut := range []bool{false, true} {
		natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
			server, client := scene(t, lab, shut, dialback.Config{})
			connect(t, client, server)
			err := autonat.NewAutoNATClient(client, client.Addrs, nil).DialBack(t.Context(), server.ID())
			if shut != autonat.IsDialError(err) || !shut && err != nil {
				t.Errorf("shut %v: %v", shut, err)
			}
		})
	}
}

func TestDialBacksAreLimited(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		server, client := scene(t, lab, false, dialback.Config{PerPeerPerMinute: 1})
		connect(t, client, server)
		ask := autonat.NewAutoNATClient(client, client.Addrs, nil)
		if err := ask.DialBack(t.Context(), server.ID()); err != nil {
			t.Fatal(err)
		}
		if err := ask.DialBack(t.Context(), server.ID()); !autonat.IsDialRefused(err) {
			t.Errorf("second request within a minute: %v", err)
		}
	})
}
