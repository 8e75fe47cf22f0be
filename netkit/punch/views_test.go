package punch

import (
	"testing"
	"time"

	"dibber/netkit/natlab"

	"github.com/libp2p/go-libp2p/core/peer"
)

// TestMergedSteps: steps of the other side are the other side's whatever it says, and are
// put where they were by this side's clock.
func TestMergedSteps(t *testing.T) {
	r := newRun("peer", peer.AddrInfo{}, Initiator, nil)
	r.report.Timeline = []Step{
		{Side: Initiator, AtMS: 0, Event: "offer.sent"},
		{Side: Initiator, AtMS: 100, Event: "answer.received"},
		{Side: Initiator, AtMS: 150, Event: "attempt.started"},
	}
	// Its clock began 50 ms after this side's, and a message takes 50 ms.
	r.merge(View{Role: Initiator, Timeline: []Step{
		{Side: Initiator, AtMS: 0, Event: "offer.received"},
		{Side: Responder, AtMS: 0, Event: "answer.sent"},
		{Side: Initiator, AtMS: 90, Event: "attempt.started"},
	}})
	want := []Step{
		{Side: Initiator, AtMS: 0, Event: "offer.sent"},
		{Side: Responder, AtMS: 50, Event: "offer.received"},
		{Side: Responder, AtMS: 50, Event: "answer.sent"},
		{Side: Initiator, AtMS: 100, Event: "answer.received"},
		{Side: Responder, AtMS: 140, Event: "attempt.started"},
		{Side: Initiator, AtMS: 150, Event: "attempt.started"},
	}
	if got := r.own(); len(got.Timeline) != len(want) || got.Other.Role != Responder {
		t.Fatalf("%+v", got)
	}
	for i, got := range r.own().Timeline {
		if got.Side != want[i].Side || got.AtMS != want[i].AtMS || got.Event != want[i].Event {
			t.Errorf("step %d: %+v, want %+v", i, got, want[i])
		}
	}
}

// TestClocks: messages that went one way alone are taken to have taken no time; without
// any, the clocks are left as they are.
func TestClocks(t *testing.T) {
	sent, came := []Step{{AtMS: 10, Event: "connect.sent"}}, []Step{{AtMS: 500, Event: "connect.received"}}
	for _, c := range []struct {
		own, theirs []Step
		want        float64
	}{{sent, came, 490}, {came, sent, -490}, {sent, sent, 0}, {nil, nil, 0}} {
		if got := aheadOf(c.own, c.theirs); got != c.want {
			t.Errorf("%+v and %+v: ahead by %v, want %v", c.own, c.theirs, got, c.want)
		}
	}
}

// TestCloseDoesNotWaitForBegin: a service that closes does not wait for what its peer
// never says.
func TestCloseDoesNotWaitForBegin(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newSiege(t, lab, natlab.NAT{}, Config{})
		s.service.cancel()
		s.service.mu.Lock()
		s.service.closed = true
		s.service.mu.Unlock()
		ended := make(chan error, 1)
		go func() {
			_, err := s.service.awaitBegin(nil, time.Now(), 0)
			ended <- err
		}()
		select {
		case err := <-ended:
			if err == nil {
				t.Error("began")
			}
		case <-time.After(time.Minute):
			t.Fatal("still waiting")
		}
	})
}
