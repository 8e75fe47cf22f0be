package serve

import (
	"sync"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/reach"
	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

func local(t *testing.T) *host.Node {
	t.Helper()
	n, err := host.New(host.Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// A node that turns as fast as it can, while others look and use it, ends with the
// relay that its last state calls for, and with one that works.
func TestFullNodeTurnsFast(t *testing.T) {
	n, client := local(t), local(t)
	roles := make(chan RoleEvent, 1000)
	s, err := New(n, Config{Full: &Full{}, On: func(e Event) {
		if e.Role != nil {
			roles <- *e.Role
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	turn := func(to reach.State) { s.full.learnt(reach.Event{State: &reach.StateEvent{Is: to}}) }
	at := peer.AddrInfo{ID: n.ID(), Addrs: n.ListenAddrs()}
	stop := make(chan struct{})
	var others sync.WaitGroup
	for range 2 {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					s.Roles()
					s.Limits()
					s.Reachability()
					_, _ = relay.Reserve(t.Context(), client, at) // refused now and then
				}
			}
		})
	}
	for range 100 {
		turn(reach.Public)
		turn(reach.Undecided)
		turn(reach.Private)
	}
	turn(reach.Public)
	close(stop)
	others.Wait()
	limit := time.After(time.Minute)
	reserved := func() bool {
		_, err := relay.Reserve(t.Context(), client, at)
		return err == nil
	}
	for !reserved() {
		select {
		case <-roles:
		case <-limit:
			t.Fatal("a public node does not relay")
		}
	}
	turn(reach.Private)
	for {
		select {
		case e := <-roles:
			if e.Kind == "failed" {
				t.Fatal(e)
			}
			if e.Role != RoleRelay || e.Kind != "stopped" || s.Limits().Relay != nil {
				continue
			}
		case <-limit:
			t.Fatal("a private node relays")
		}
		break
	}
	if reserved() {
		t.Error("a private node gives reservations")
	}
	turn(reach.Public) // the relay may be starting while everything ends
	if err := s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if reserved() {
		t.Error("a closed node gives reservations")
	}
}

// A node that turns private lets the circuits through it end, and if it turns public
// meanwhile relays again afterwards.
func TestRetiringRelayWaitsForItsCircuits(t *testing.T) {
	n, listener, dialler := local(t), local(t), local(t)
	roles := make(chan RoleEvent, 16)
	s, err := New(n, Config{Full: &Full{NoReserve: true}, On: func(e Event) {
		if e.Role != nil {
			roles <- *e.Role
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	turn := func(to reach.State) { s.full.learnt(reach.Event{State: &reach.StateEvent{Is: to}}) }
	want := func(kind string) {
		t.Helper()
		select {
		case e := <-roles:
			if e.Role != RoleRelay || e.Kind != kind {
				t.Fatalf("%+v, want relay %s", e, kind)
			}
		case <-time.After(time.Minute):
			t.Fatalf("relay not %s", kind)
		}
	}
	turn(reach.Public)
	want("started")
	at := peer.AddrInfo{ID: n.ID(), Addrs: n.ListenAddrs()}
	r, err := relay.Reserve(t.Context(), listener, at)
	if err != nil {
		t.Fatal(err)
	}
	circuit, err := dialler.Dial(t.Context(), listener.ID(), r.Circuits)
	if err != nil {
		t.Fatal(err)
	}
	turn(reach.Private)
	for !s.full.relaying().Draining() {
		if _, err := relay.Reserve(t.Context(), dialler, at); err != nil {
			break
		}
	}
	turn(reach.Public)
	if ok, err := dialler.Supports(t.Context(), circuit, "/ipfs/ping/1.0.0"); err != nil || !ok {
		t.Errorf("the circuit carries nothing: %v, %v", ok, err)
	}
	if len(roles) != 0 {
		t.Error("the relay ended before its circuit")
	}
	if err := circuit.Close(); err != nil {
		t.Error(err)
	}
	want("stopped")
	want("started")
	if _, err := relay.Reserve(t.Context(), listener, at); err != nil {
		t.Error(err)
	}
}
