package serve_test

import (
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/peering"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
)

// TestRelayHasRoomAgain: a relay that was full from the start.
func TestRelayHasRoomAgain(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newSite(t, lab)
		if err := s.relay.SetLimits(relay.Limits{Reservations: 1}); err != nil {
			t.Fatal(err)
		}
		rival := lab.Internet().Machine("rival", natlab.MachineConfig{}).Host(host.Config{})
		if _, err := relay.Reserve(t.Context(), rival, s.info()); err != nil {
			t.Fatal(err)
		}
		node := s.at.Host(host.Config{})
		ev := start(t, node, serve.Config{Relays: []peer.AddrInfo{s.info()}})
		time.Sleep(long())
		if ev.take(reservation("reserved")) {
			t.Fatal("it was not full")
		}
		if err := rival.Close(); err != nil {
			t.Fatal(err)
		}
		if took := ev.await(t, "reservation", reservation("reserved")); took > mostRepair {
			t.Errorf("reserved after %s", took)
		}
	})
}

// TestLeaseThatRanOut: the relay turned renewals down until the reservation was over,
// on a connection that stood all the time.
func TestLeaseThatRanOut(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newSite(t, lab)
		if err := s.relay.Close(); err != nil {
			t.Fatal(err)
		}
		var shut atomic.Bool
		var err error
		s.relay, err = relay.New(s.server, relay.Config{TTL: 10 * time.Minute, AllowReserve: func(peer.ID, ma.Multiaddr) bool { return !shut.Load() }})
		if err != nil {
			t.Fatal(err)
		}
		defer s.relay.Close()
		s.join(reserves)
		opened := s.node.Conns(s.server.ID())
		shut.Store(true)
		time.Sleep(9 * time.Minute)
		if !s.well() {
			t.Error("it ended before its time")
		}
		time.Sleep(time.Minute)
		if s.well() || len(s.node.Circuits()) > 0 {
			t.Error("it did not run out, or is still announced")
		}
		shut.Store(false)
		s.repaired()
		if !slices.Equal(opened, s.node.Conns(s.server.ID())) {
			t.Error("the connection did not last; the test shows nothing")
		}
	})
}

// TestServerThatStalls takes connections and requests, but does not answer these.
func TestServerThatStalls(t *testing.T) {
	for _, outage := range outages() {
		t.Run(outage.String(), func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				s := newSite(t, lab)
				s.join(reserves, registers)
				if err := s.relay.Close(); err != nil {
					t.Fatal(err)
				}
				if err := s.point.Close(); err != nil {
					t.Fatal(err)
				}
				var asked atomic.Int64
				for _, id := range []protocol.ID{proto.ProtoIDv2Hop, rendezvous.ProtocolID} {
					s.server.SetStreamHandler(id, func(st network.Stream) {
						asked.Add(1)
						_, _ = io.Copy(io.Discard, st) // until the other side gives up
						_ = st.Reset()
					})
				}
				// Who lost its server comes back to one that stalls.
				if err := s.server.Network().ClosePeer(s.node.ID()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(outage)
				s.serve()
				s.repaired()
				if asked.Load() == 0 {
					t.Error("nothing was asked; the test shows nothing")
				}
			})
		})
	}
}

// TestOneOfTwoRelaysReturns after both were lost.
func TestOneOfTwoRelaysReturns(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		one, two := newSite(t, lab), newSite(t, lab)
		one.node = one.at.Host(host.Config{})
		one.kept[reserves] = true
		one.events = start(t, one.node, serve.Config{Relays: []peer.AddrInfo{one.info(), two.info()}})
		one.untilWell()
		one.kill()
		two.kill()
		time.Sleep(long())
		if len(one.node.Circuits()) != 0 {
			t.Error("circuits that lead nowhere are announced")
		}
		one.start()
		one.repaired()
		if got := one.node.Circuits(); len(got) != 1 {
			t.Errorf("announced: %v", got)
		}
	})
}

// TestForgottenRegistration: a server drops registrations of a peer that stays
// connected, and shows nobody else's.
func TestForgottenRegistration(t *testing.T) {
	for name, peers := range map[string]*peering.Config{"alone": nil, "with peering": {}} {
		t.Run(name, func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				s := newSite(t, lab)
				s.peering = peers
				s.join(registers)
				opened := s.node.Conns(s.server.ID())
				if err := s.point.Close(); err != nil {
					t.Fatal(err)
				}
				s.events.clear()
				s.serve()
				if s.well() {
					t.Fatal("the server still knows")
				}
				s.repaired()
				if !s.events.take(lostRegistration(rendezvous.ErrDropped)) {
					t.Error("the loss was not told")
				}
				if !slices.Equal(opened, s.node.Conns(s.server.ID())) {
					t.Error("the connection did not last; the test shows nothing")
				}
			})
		})
	}
}

// TestEvictedRegistration: a full server drops a registration for that of another
// peer, which does not give way either until there is room for both.
func TestEvictedRegistration(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newSite(t, lab)
		if err := s.point.SetLimits(rendezvous.Limits{Total: 1}); err != nil {
			t.Fatal(err)
		}
		s.join(registers)
		rival := lab.Internet().Machine("rival", natlab.MachineConfig{}).Host(host.Config{})
		theirs := start(t, rival, serve.Config{Registrations: []serve.Registration{{Server: s.info(), Namespace: "chat"}}})
		s.events.await(t, "lost registration", lostRegistration(rendezvous.ErrDropped))
		time.Sleep(time.Minute)
		s.events.clear()
		theirs.clear()
		const minutes = 10
		time.Sleep(minutes * time.Minute)
		for _, ev := range []*events{s.events, theirs} {
			if _, n, _ := ev.attempts(); n < minutes || n > 2*25*minutes { // each is told, and its loss
				t.Errorf("%d registrations and losses in %d minutes", n, minutes)
			}
		}
		if err := s.point.SetLimits(rendezvous.Limits{Total: 100}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(mostRepair)
		if got := s.point.Stats().Registrations; got != 2 {
			t.Errorf("%d registrations %s after there is room for both", got, mostRepair)
		}
	})
}

func lostRegistration(cause error) func(serve.Event) bool {
	return func(e serve.Event) bool {
		return e.Registration != nil && e.Registration.Kind == rendezvous.RegistrarLost && errors.Is(e.Registration.Err, cause)
	}
}

// TestPaceAtAServerThatIsGone, that hangs up, and that refuses: the most that a node
// asks of it.
func TestPaceAtAServerThatIsGone(t *testing.T) {
	t.Parallel()
	const most = 25 // attempts of one role in one minute
	for _, c := range []struct {
		name  string
		cause func(s *site)
	}{
		{"gone", func(s *site) { s.kill() }},
		{"hangs up", func(s *site) {
			s.server.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) { _ = c.Close() }})
			_ = s.server.Network().ClosePeer(s.node.ID())
		}},
		{"refuses", func(s *site) {
			for _, end := range []func() error{s.relay.Close, s.point.Close} {
				if err := end(); err != nil {
					s.t.Fatal(err)
				}
			}
			s.relayBy.AllowReserve = func(peer.ID, ma.Multiaddr) bool { return false }
			s.pointBy.Allow = func(peer.ID, string) error { return errors.New("no") }
			s.serve()
			if err := s.server.Network().ClosePeer(s.node.ID()); err != nil {
				s.t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				s := newSite(t, lab)
				s.join(reserves, registers, keeps)
				c.cause(s)
				time.Sleep(time.Minute)
				s.events.clear()
				const minutes = 10
				time.Sleep(minutes * time.Minute)
				relays, registrations, peers := s.events.attempts()
				t.Logf("in %d minutes: %d reservations, %d registrations, %d dials", minutes, relays, registrations, peers)
				for _, n := range []int{relays, registrations, peers} {
					if n > most*minutes {
						t.Errorf("%d attempts in %d minutes", n, minutes)
					}
				}
				if relays == 0 || registrations == 0 {
					t.Error("it gave up")
				}
			})
		})
	}
}

// clear forgets what was told.
func (ev *events) clear() {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	ev.all = nil
}

// attempts counts, by role, those that are told.
func (ev *events) attempts() (relays, registrations, peers int) {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	for _, e := range ev.all {
		switch {
		case e.Relay != nil && e.Relay.Kind != "lost":
			relays++
		case e.Registration != nil:
			registrations++
		case e.Peer != nil && e.Peer.Kind != "lost":
			peers++
		}
	}
	return relays, registrations, peers
}
