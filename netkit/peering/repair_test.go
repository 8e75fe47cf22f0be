package peering_test

import (
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"dibber/netkit/discover"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/peering"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

func TestNoMoreThanMax(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, a := public(lab, "a")
		var others []*host.Node
		machines := map[peer.ID]*natlab.Machine{}
		for i := range 6 {
			m, n := public(lab, fmt.Sprint("n", i))
			join(t, n, peering.Config{})
			others = append(others, n)
			machines[n.ID()] = m
		}
		_, ev := join(t, a, peering.Config{Sources: []discover.Config{table(others...)}, Max: 2})
		first, _ := ev.awaitThat(t, "connection", is(peering.Connected))
		ev.awaitThat(t, "second connection", is(peering.Connected))
		time.Sleep(time.Minute) // virtual
		if n := len(a.Network().Peers()); n != 2 {
			t.Errorf("%d peers", n)
		}
		machines[first.Peer].Link().Cut()
		ev.awaitThat(t, "loss", is(peering.Lost))
		ev.awaitThat(t, "replacement", is(peering.Connected))
		time.Sleep(time.Minute) // virtual
		if n := len(a.Network().Peers()); n != 2 {
			t.Errorf("%d peers after one was lost", n)
		}
	})
}

func TestOutageIsNoticedAndRepaired(t *testing.T) {
	for _, out := range []time.Duration{12 * time.Second, 3 * time.Minute} {
		t.Run(out.String(), func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				_, a := public(lab, "a")
				machine, b := public(lab, "b")
				join(t, b, peering.Config{})
				_, ev := join(t, a, peering.Config{Sources: []discover.Config{table(b)}})
				ev.await(t, peering.Connected, b)
				machine.Link().Cut()
				if e, took := ev.await(t, peering.Lost, b); took > 10*time.Second || e.Reason != peering.ReasonClosed {
					t.Errorf("noticed after %s: %+v", took, e)
				}
				time.Sleep(out) // virtual: back-offs grow to their most
				machine.Link().Restore()
				if _, took := ev.await(t, peering.Connected, b); took > 10*time.Second {
					t.Errorf("connected %s after the outage", took)
				}
			})
		})
	}
}

// A peer that took its leave is neither missed nor dialled.
func TestLeavingPeerIsNotDialledAgain(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		server := point(t, lab)
		_, a := public(lab, "a")
		_, b := public(lab, "b")
		_, ev := join(t, a, peering.Config{Sources: []discover.Config{chat(server)}})
		withdraw := register(t, b, server)
		s, _ := join(t, b, peering.Config{})
		ev.await(t, peering.Connected, b)
		withdraw()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if e, took := ev.await(t, peering.Lost, b); e.Reason != peering.ReasonLeft || took > time.Second {
			t.Errorf("after %s: %+v", took, e)
		}
		trace := a.TraceDial(b.ID(), nil)
		defer trace.Close()
		time.Sleep(20 * time.Minute) // virtual
		if n := len(trace.Attempts()); n > 2 {
			t.Errorf("dialled %d times", n)
		}
	})
}

// The end that dialled last knows that the older connection is dead. The other one would
// choose that by the rule for duplicates, but finds out before it closes the younger.
func TestDuplicateIsClosedOnlyForOneThatWorks(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		var keys [2]crypto.PrivKey
		var ids [2]peer.ID
		for i := range keys {
			keys[i], _, _ = crypto.GenerateEd25519Key(rand.Reader)
			ids[i], _ = peer.IDFromPrivateKey(keys[i])
		}
		if ids[0] > ids[1] {
			slices.Reverse(keys[:])
		}
		a := lab.Internet().Machine("a", natlab.MachineConfig{}).Host(host.Config{Identity: keys[0]})
		machine := lab.Internet().Machine("b", natlab.MachineConfig{})
		b := machine.Host(host.Config{Identity: keys[1]})
		s, err := peering.New(b, peering.Config{})
		if err != nil {
			t.Fatal(err)
		}
		_, ev := join(t, a, peering.Config{Sources: []discover.Config{table(b)}})
		ev.await(t, peering.Connected, b)
		time.Sleep(3500 * time.Millisecond) // virtual: a has just seen that b lives
		machine.Link().Cut()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil { // a is not told
			t.Fatal(err)
		}
		machine.Link().Restore()
		b = machine.Host(host.Config{Identity: keys[1]})
		_, evB := join(t, b, peering.Config{Sources: []discover.Config{table(a)}})
		evB.await(t, peering.Connected, a)
		if len(a.Conns(b.ID())) != 2 {
			t.Fatalf("%d connections at the end that knows nothing; the test shows nothing", len(a.Conns(b.ID())))
		}
		time.Sleep(time.Minute) // virtual
		expectOne(t, a, b)
		if n := ev.count(is(peering.Lost)) + evB.count(is(peering.Lost)); n > 0 {
			t.Errorf("lost %d times: the connection that works was closed", n)
		}
	})
}

// When a source works again, this node's own network may have been what failed: everybody
// gets a new chance.
func TestSourceThatWorksAgainEndsBackoffs(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		server := point(t, lab)
		machine, a := public(lab, "a")
		other, b := public(lab, "b")
		register(t, b, server)
		join(t, b, peering.Config{})
		time.Sleep(time.Second) // virtual
		other.Link().Cut()
		_, ev := join(t, a, peering.Config{Sources: []discover.Config{chat(server)}, Except: []peer.ID{server.ID()}})
		ev.await(t, peering.Failed, b)
		time.Sleep(80 * time.Minute) // virtual: the waits have grown to their most
		other.Link().Restore()
		machine.Link().Cut()
		time.Sleep(90 * time.Second) // virtual: the source has failed
		machine.Link().Restore()
		if _, took := ev.await(t, peering.Connected, b); took > 30*time.Second {
			t.Errorf("connected after %s", took)
		}
	})
}
