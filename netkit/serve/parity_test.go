package serve_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"dibber/netkit/discover"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
)

// What aquadoggo's nodes never repair, and the test that shows it repaired here:
//
//	R1  after a relay's restart: no reservation, registration, discovery   TestR1RelayRestarted
//	R2  a registration is not refreshed and ends with its TTL              TestR2RegistrationOutlivesItsTTL
//	R3  peers are discovered once in a process's life                      TestR3DiscoveryGoesOn
//	R4  circuits end after 128 KiB or two minutes                          TestR4PeerBehindCircuitsThatEnd
//	R5  peers that were lost are not dialled again                         TestR5LostPeerIsDialledAgain
//	R6  nothing is pushed, all is polled                                   TestR6ChangesArePushed
//	R7  a relay cannot use another relay                                   TestR7RelayBehindARelay
//	R8  the relay is out of resources for a node that restarts             TestR8NodeRestartsOften
//	R9  no word on how things stand                                        TestR9LossesAndRepairsAreTold
//
// R6 is about replication there; here it is about who is registered.

func TestR1RelayRestarted(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newSite(t, lab)
		s.join(reserves, registers)
		for range 3 {
			s.kill()
			time.Sleep(time.Minute)
			s.start()
			s.repaired() // a stranger discovers the node, too
		}
	})
}

func TestR2RegistrationOutlivesItsTTL(t *testing.T) {
	t.Parallel()
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newSite(t, lab)
		s.join(registers)
		for range 3 {
			time.Sleep(time.Hour) // the TTL is 2 h
			s.findable(0)
		}
	})
}

func TestR3DiscoveryGoesOn(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newSite(t, lab)
		s.join(registers)
		asker := lab.Internet().Machine("asker", natlab.MachineConfig{}).Host(host.Config{})
		found := make(chan peer.ID, 10)
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error)
		go func() {
			_, err := discover.Watch(ctx, asker, discover.Config{
				Servers: []peer.AddrInfo{s.info()}, Namespace: "chat", Interval: 5 * time.Second,
				On: func(e discover.Event) {
					if e.Kind == discover.PeerAdded {
						found <- e.Peer.ID
					}
				},
			})
			over <- err
		}()
		if id := <-found; id != s.node.ID() {
			t.Fatal("found", id)
		}
		s.kill()
		time.Sleep(3 * time.Minute)
		s.start()
		s.untilWell()
		other := behind(lab, "other", natlab.NAT{})
		started := start(t, other, serve.Config{Registrations: []serve.Registration{{Server: s.info(), Namespace: "chat"}}})
		started.await(t, "registration", registered)
		began := time.Now()
		for id := <-found; id != other.ID(); id = <-found { // the node, which the server had forgotten
			if id != s.node.ID() {
				t.Fatal("found", id)
			}
		}
		if took := time.Since(began); took > mostRepair {
			t.Errorf("found after %s", took)
		}
		cancel()
		if err := <-over; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestR4PeerBehindCircuitsThatEnd: a kept connection through a relay that limits
// circuits comes back each time, and lasts where they have no limits.
func TestR4PeerBehindCircuitsThatEnd(t *testing.T) {
	shut := natlab.NAT{Mapping: natlab.AddressAndPortDependent, Filtering: natlab.AddressAndPortDependent, Ports: natlab.Random}
	for _, limited := range []bool{true, false} {
		natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
			s := newSite(t, lab)
			if !limited {
				if err := s.relay.SetLimits(relay.Limits{Duration: relay.NoLimit, Bytes: relay.NoLimit}); err != nil {
					t.Fatal(err)
				}
			}
			s.join(reserves)
			other := behind(lab, "other", shut)
			ev := start(t, other, serve.Config{Peers: []peer.AddrInfo{{ID: s.node.ID(), Addrs: s.node.Circuits()}}})
			ev.await(t, "connection", kept("connected"))
			for range 3 {
				if !limited {
					time.Sleep(10 * time.Minute)
					if ev.take(kept("lost")) || len(other.Conns(s.node.ID())) == 0 {
						t.Error("an unlimited circuit ended")
					}
					continue
				}
				ev.await(t, "loss", kept("lost"))
				if took := ev.await(t, "new connection", kept("connected")); took > mostRepair {
					t.Errorf("back after %s", took)
				}
			}
		})
	}
}

func kept(kind string) func(serve.Event) bool {
	return func(e serve.Event) bool { return e.Peer != nil && e.Peer.Kind == kind }
}

func TestR5LostPeerIsDialledAgain(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newSite(t, lab)
		s.join(keeps)
		time.Sleep(time.Second) // virtual: the other side has seen the end of the handshake, too
		for range 3 {
			if err := s.server.Network().ClosePeer(s.node.ID()); err != nil {
				t.Fatal(err)
			}
			s.repaired()
		}
	})
}

func TestR6ChangesArePushed(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newSite(t, lab)
		watcher := lab.Internet().Machine("watcher", natlab.MachineConfig{}).Host(host.Config{})
		added := make(chan time.Time, 1)
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() {
			defer close(over)
			_ = rendezvous.Watch(ctx, watcher, s.info(), rendezvous.WatchRequest{Namespace: "chat"}, func(e rendezvous.WatchEvent) {
				if e.Kind == rendezvous.WatchAdd {
					added <- time.Now()
				}
			})
		}()
		time.Sleep(time.Second)
		node := s.at.Host(host.Config{})
		ev := start(t, node, serve.Config{Registrations: []serve.Registration{{Server: s.info(), Namespace: "chat"}}})
		ev.await(t, "registration", registered)
		acknowledged := time.Now()
		if late := (<-added).Sub(acknowledged); late > 100*time.Millisecond {
			t.Errorf("told %s after the registration", late)
		}
		cancel()
		<-over
	})
}

// TestR7RelayBehindARelay: a relay behind a NAT keeps a reservation of its own.
func TestR7RelayBehindARelay(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newSite(t, lab)
		s.relaying = true
		s.join(reserves)
		s.kill()
		time.Sleep(time.Minute)
		s.start()
		s.repaired()
	})
}

// TestR8NodeRestartsOften without a word, so that the relay believes in all of its
// connections for another 30 s.
func TestR8NodeRestartsOften(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newSite(t, lab)
		key := newKey(t)
		for i := range 10 {
			node := s.at.Host(host.Config{Identity: key})
			ev := &events{more: make(chan struct{}, 1)}
			server, err := serve.New(node, serve.Config{
				Relays: []peer.AddrInfo{s.info()}, Registrations: []serve.Registration{{Server: s.info(), Namespace: "chat"}}, On: ev.add,
			})
			if err != nil {
				t.Fatal(err)
			}
			for what, fits := range map[string]func(serve.Event) bool{"reservation": reservation("reserved"), "registration": registered} {
				if took := ev.await(t, what, fits); took > mostRepair {
					t.Errorf("start %d: %s after %s", i, what, took)
				}
			}
			s.at.Link().Cut()
			if err := errors.Join(server.Close(), node.Close()); err != nil {
				t.Error(err)
			}
			s.at.Link().Restore()
		}
	})
}

// TestR9LossesAndRepairsAreTold, and their causes where these are known.
func TestR9LossesAndRepairsAreTold(t *testing.T) {
	for _, c := range []struct {
		name  string
		cause func(s *site)
		want  error
	}{
		{"silence", func(s *site) { s.machine.Link().Cut(); time.Sleep(20 * time.Second); s.machine.Link().Restore() }, host.ErrSilent},
		{"restart", func(s *site) { s.kill(); s.start() }, host.ErrPeerForgot},
		{"closed by the server", func(s *site) { _ = s.server.Network().ClosePeer(s.node.ID()) }, host.ErrPeerClosed},
		{"own address", func(s *site) { s.router.Reconnect() }, host.ErrMoved},
		{"closed by this node", func(s *site) { _ = s.node.Network().ClosePeer(s.server.ID()) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				s := newSite(t, lab)
				s.join(reserves, registers, keeps)
				s.events.clear()
				c.cause(s)
				told := 0
				s.events.await(t, "lost reservation", func(e serve.Event) bool {
					if e.Relay == nil || e.Relay.Kind != "lost" {
						return false
					}
					told++
					if !errors.Is(e.Relay.Err, relay.ErrRelayLost) || c.want != nil && !errors.Is(e.Relay.Err, c.want) ||
						c.want == nil && fmt.Sprint(e.Relay.Err) != fmt.Sprint(relay.ErrRelayLost) {
						t.Errorf("lost reservation: %v, want %v", e.Relay.Err, c.want)
					}
					return true
				})
				s.events.await(t, "lost peer", func(e serve.Event) bool {
					if !kept("lost")(e) {
						return false
					}
					told++
					if !errors.Is(e.Peer.Err, c.want) {
						t.Errorf("lost peer: %v, want %v", e.Peer.Err, c.want)
					}
					return true
				})
				s.events.await(t, "lost registration", func(e serve.Event) bool {
					if e.Registration == nil || e.Registration.Kind != rendezvous.RegistrarLost {
						return false
					}
					told++
					if err := e.Registration.Err; !errors.Is(err, rendezvous.ErrServerLost) || c.want != nil && !errors.Is(err, c.want) ||
						c.want == nil && fmt.Sprint(err) != fmt.Sprint(rendezvous.ErrServerLost) {
						t.Errorf("lost registration: %v, want %v", err, c.want)
					}
					return true
				})
				s.events.await(t, "reservation", reservation("reserved"))
				s.events.await(t, "registration", registered)
				s.events.await(t, "connection", kept("connected"))
				if told != 3 {
					t.Errorf("%d losses were told", told)
				}
			})
		})
	}
}
