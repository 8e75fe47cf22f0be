package chain_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"dibber/netkit/chain"
	"dibber/netkit/host"
	"dibber/netkit/pchain"
)

// The tests of this file are the scenarios of pchain-network's own suite.

func TestBroadcast(t *testing.T) {
	inAWorld(t, nil, func(w *world) {
		one := w.full()
		two := w.full(one)
		w.pass(5 * time.Second)
		w.broadcast(one, one.Profile().Consensus, w.consensus(7))
		w.pass(time.Second)
		w.wants(two, one, 7)
		if one.Profile().Echo {
			w.wants(one, one, 7)
		} else {
			w.wants(one, one)
		}
	})
}

func TestSendToOnlyItsReceiver(t *testing.T) {
	inAWorld(t, nil, func(w *world) {
		one := w.full()
		two, three := w.full(one), w.full(one)
		w.pass(5 * time.Second)
		sent := w.send(one, two, w.consensus(7))
		w.pass(time.Second)
		w.wants(two, one, 7)
		w.wants(three, one)
		if !sent.Direct || sent.Local || sent.Topic != one.Profile().Mailbox(two.Address()) || sent.Seq == nil {
			w.Errorf("sent %+v", sent)
		}
		if got := two.got(); len(got) == 1 && (got[0].To == nil || *got[0].To != two.Address()) {
			w.Errorf("to %v", got[0].To)
		}
	})
}

// One knows three by nobody but two.
func TestSparseMessaging(t *testing.T) {
	inAWorld(t, nil, func(w *world) {
		one := w.full()
		two := w.full(one)
		three := w.full(two)
		w.pass(25 * time.Second)
		w.send(one, three, w.consensus(7))
		w.send(three, one, w.consensus(8))
		w.pass(time.Second)
		w.wants(three, one, 7)
		w.wants(one, three, 8)
		w.wants(two, one)
	})
}

func TestStoppedNodeHearsNothing(t *testing.T) {
	inAWorld(t, []string{pchain.V04}, func(w *world) {
		one := w.full()
		two := w.full(one)
		w.pass(5 * time.Second)
		if err := one.Close(); err != nil {
			w.Fatal(err)
		}
		if err := one.host.Close(); err != nil {
			w.Fatal(err)
		}
		w.pass(30 * time.Second)
		if _, err := two.SendTo(w.Context(), one.Address(), w.consensus(7)); !errors.Is(err, chain.ErrNotReached) {
			w.Errorf("sent to one who has ended: %v", err)
		}
		w.wants(one, two)
	})
}

func TestSendToOneself(t *testing.T) {
	inAWorld(t, nil, func(w *world) {
		one := w.full()
		if sent := w.send(one, one, w.consensus(7)); !sent.Local || !sent.Direct || len(sent.Peers) > 0 {
			w.Errorf("sent %+v", sent)
		}
		w.wants(one, one, 7)
	})
}

func TestOtherTopicsAreNotHeard(t *testing.T) {
	inAWorld(t, []string{pchain.V042, pchain.V04}, func(w *world) {
		one := w.full()
		two := w.node(host.Config{}, chain.Config{Topics: []string{"topic"}}, one)
		w.pass(5 * time.Second)
		w.broadcast(one, "another_topic", []byte{1, 2})
		w.pass(2 * time.Second)
		w.wants(two, one)
		w.broadcast(one, "topic", []byte{1, 2})
		w.pass(time.Second)
		if got := two.got(); len(got) != 1 || got[0].Payload.Kind != pchain.KindOpaque || !slices.Equal(got[0].Data, []byte{1, 2}) {
			w.Errorf("got %+v", got)
		}
	})
}

func TestNeighboursAreListed(t *testing.T) {
	inAWorld(t, []string{pchain.V04}, func(w *world) {
		one := w.full()
		two := w.full(one)
		w.pass(10 * time.Second)
		if got := one.Neighbours(); !slices.Equal(got, []pchain.Address{two.Address()}) {
			w.Errorf("neighbours %v", got)
		}
		if got := two.Neighbours(); !slices.Equal(got, []pchain.Address{one.Address()}) {
			w.Errorf("neighbours %v", got)
		}
	})
}
