package relay_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/relay"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// intros is a relay with a caller and a peer that answers what it is sent, after a while.
type intros struct {
	server *relay.Server
	events *story
	caller *host.Node
	there  *host.Node
	via    network.Conn
}

func newIntros(t *testing.T, lab *natlab.Lab, cfg relay.Config, answer func(message []byte) []byte) *intros {
	t.Helper()
	machine := func(name string) *host.Node {
		return lab.Internet().Machine(name, natlab.MachineConfig{Link: natlab.LinkConfig{Latency: 20 * time.Millisecond}}).Host(host.Config{})
	}
	at := machine("relay")
	s := &intros{events: newStory(), caller: machine("caller"), there: machine("there")}
	cfg.On = s.events.tell
	var err error
	if s.server, err = relay.New(at, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.server.Close() })
	answers := wire.NewService(wire.ServiceConfig{Name: "answers", MaxRequest: relay.MaxIntro, MaxReply: 1 << 20}, func(_ context.Context, r wire.Request) ([]byte, error) {
		return answer(r.Body), nil
	})
	t.Cleanup(func() { _ = answers.Close() })
	s.there.SetStreamHandler(relay.OfferProtocol, answers.Handle)
	info := peer.AddrInfo{ID: at.ID(), Addrs: at.ListenAddrs()}
	if _, err := relay.Reserve(t.Context(), s.there, info); err != nil {
		t.Fatal(err)
	}
	if s.via, err = s.caller.Dial(t.Context(), info.ID, info.Addrs); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *intros) ask(t *testing.T, dst peer.ID, message []byte) ([]byte, relay.Status, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	answer, err := relay.Introduce(ctx, s.caller, s.via, dst, message)
	if refused, ok := errors.AsType[*relay.IntroError](err); ok {
		return answer, refused.Status, err
	}
	return answer, 0, err
}

// TestIntroduce: a message and its answer take one round trip by way of the relay, which
// looks into neither.
func TestIntroduce(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newIntros(t, lab, relay.Config{}, bytes.ToUpper)
		began := time.Now()
		answer, _, err := s.ask(t, s.there.ID(), []byte("hello"))
		if err != nil || string(answer) != "HELLO" {
			t.Fatalf("%q, %v", answer, err)
		}
		if took := time.Since(began); took != 160*time.Millisecond {
			t.Errorf("took %s, a round trip is 160 ms", took)
		}
		if _, _, err := s.ask(t, s.there.ID(), make([]byte, relay.MaxIntro)); err != nil {
			t.Errorf("the largest message: %v", err)
		}
	})
}

// TestIntroduceIsRefused: what the relay does not allow, or cannot do, it says, with the
// status and the event of a circuit that it does not make.
func TestIntroduceIsRefused(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		denied := false
		s := newIntros(t, lab, relay.Config{
			Limits:       relay.Limits{Circuits: 1},
			AllowConnect: func(peer.ID, ma.Multiaddr, peer.ID) bool { return !denied },
		}, func(m []byte) []byte {
			switch string(m) {
			case "slow":
				time.Sleep(30 * time.Second)
			case "long":
				return make([]byte, relay.MaxIntro+1)
			}
			return m
		})
		refused := func(name string, dst peer.ID, m []byte, status relay.Status, why relay.Reason) {
			t.Helper()
			if _, got, err := s.ask(t, dst, m); got != status {
				t.Errorf("%s: %v, want %s", name, err, status)
			}
			if e := s.events.await(t, relay.EventRefused); e.Reason != why || e.Peer != s.caller.ID() {
				t.Errorf("%s: %+v, want %s", name, e, why)
			}
		}
		refused("nobody there", s.caller.ID(), []byte("x"), relay.NoReservation, relay.ReasonNoReservation)
		refused("an answer that is too long", s.there.ID(), []byte("long"), relay.ConnectionFailed, relay.ReasonDestinationRefused)
		began := time.Now()
		go func() {
			time.Sleep(time.Second)
			if _, got, err := s.ask(t, s.there.ID(), []byte("x")); got != relay.ResourceLimitExceeded {
				t.Errorf("beside another one, beyond the limit of circuits: %v", err)
			}
		}()
		if _, got, err := s.ask(t, s.there.ID(), []byte("slow")); got != relay.ConnectionFailed || time.Since(began) > 6*time.Second {
			t.Errorf("an answer that is late: %v after %s", err, time.Since(began))
		}
		denied = true
		for _, why := range []relay.Reason{relay.ReasonCircuits, relay.ReasonDestinationRefused} {
			if e := s.events.await(t, relay.EventRefused); e.Reason != why || e.Destination != s.there.ID() {
				t.Errorf("%+v, want %s", e, why)
			}
		}
		refused("by the list", s.there.ID(), []byte("x"), relay.PermissionDenied, relay.ReasonDenied)
		if _, _, err := s.ask(t, s.there.ID(), make([]byte, relay.MaxIntro+1024)); err == nil {
			t.Error("a message that is too long was carried")
		}
		denied = false
		s.server.Drain()
		refused("while draining", s.there.ID(), []byte("x"), relay.ResourceLimitExceeded, relay.ReasonDraining)
	})
}
