package relay_test

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dibber/netkit/natlab"
	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

// site starts a stock host without limits of its own on a machine of a simulated
// internet, whose clock is exact.
func site(lab *natlab.Lab, name string) corehost.Host {
	return lab.Internet().Machine(name, natlab.MachineConfig{}).
		Stock(libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}))
}

// since is how long after start something happened.
func (s *story) since(start time.Time, kind relay.EventKind, why relay.Reason) func() (time.Duration, bool) {
	var mu sync.Mutex
	var at time.Duration
	var found bool
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watch = func(e relay.Event) {
		mu.Lock()
		defer mu.Unlock()
		if !found && e.Kind == kind && e.Reason == why {
			at, found = time.Since(start), true
		}
	}
	return func() (time.Duration, bool) {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return at, found
	}
}

func TestReservationExpires(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s, story, at := start(t, site(lab, "relay"), relay.Config{})
		a, b := site(lab, "a"), site(lab, "b")
		accept(a)
		reserve(t, a, at)
		granted := time.Now()
		time.Sleep(40 * time.Minute)
		r, err := client.Reserve(t.Context(), a, at) // renews
		if err != nil {
			t.Fatal(err)
		}
		renewed := s.Reservations()[0]
		if !renewed.Renewed.After(renewed.Opened) || r.Expiration.Before(granted.Add(100*time.Minute-time.Second)) {
			t.Errorf("renewed: %+v, told %s", renewed, r.Expiration)
		}
		over := story.since(renewed.Renewed, relay.EventReservationExpired, relay.ReasonExpired)
		time.Sleep(time.Until(renewed.Expires) - time.Second)
		circuit(t, b, at, a.ID())
		if _, ok := over(); ok {
			t.Error("it was over too soon")
		}
		time.Sleep(time.Second)
		if after, ok := over(); !ok || after != time.Hour {
			t.Errorf("it was over %v after %s", ok, after)
		}
		if got := status(t, send(t, b, at, connectTo(a.ID()))).GetStatus(); got != pb.Status_NO_RESERVATION {
			t.Error("afterwards:", got)
		}
		if got := s.Stats(); got.Reservations != 0 || got.Reserved != 1 || got.Renewed != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// TestReservationsExpireInTurn: each at its own time, whatever became of others.
func TestReservationsExpireInTurn(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s, story, at := start(t, site(lab, "relay"), relay.Config{TTL: 10 * time.Minute})
		hosts := make(map[peer.ID]int)
		for i := range 4 {
			h := site(lab, fmt.Sprint(i))
			hosts[h.ID()] = i
			reserve(t, h, at)
			if i == 0 {
				s.EndPeer(h.ID(), "sent away") // was the one that is waited for
			}
			time.Sleep(time.Minute)
		}
		began := time.Now()
		for i := 1; i < 4; i++ {
			e := story.await(t, relay.EventReservationExpired)
			if hosts[e.Peer] != i {
				t.Errorf("host %d was over instead of %d", hosts[e.Peer], i)
			}
			want := time.Duration(6+i) * time.Minute
			if got := time.Since(began).Round(time.Second); got != want {
				t.Errorf("host %d was over after %s, not %s", i, got, want)
			}
		}
	})
}

func TestDurationEndsCircuit(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s, story, at := start(t, site(lab, "relay"), relay.Config{})
		a, b := site(lab, "a"), site(lab, "b")
		ends := accept(a)
		reserve(t, a, at)
		near := circuit(t, b, at, a.ID())
		far := <-ends
		opened := s.Circuits()[0].Opened
		over := story.since(opened, relay.EventCircuitClosed, relay.ReasonDuration)
		// New limits do not prolong it.
		if err := s.SetLimits(relay.Limits{Duration: time.Hour}); err != nil {
			t.Fatal(err)
		}
		for range 11 {
			time.Sleep(10 * time.Second)
			pass(t, near, far, noise(1000))
		}
		time.Sleep(time.Until(opened.Add(2*time.Minute - time.Millisecond)))
		if got := s.Circuits(); len(got) != 1 || *got[0].LeftMS != 1 {
			t.Errorf("a millisecond before its end: %+v", got)
		}
		time.Sleep(time.Millisecond)
		if after, ok := over(); !ok || after != 2*time.Minute {
			t.Errorf("over %v after %s", ok, after)
		}
		for _, st := range []network.Stream{near, far} {
			if _, err := st.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
				t.Error("an end got", err)
			}
		}
	})
}

// TestRate: a second's worth takes a second, and each way counts for itself.
func TestRate(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		const perSecond = 20_000
		l := unlimited()
		l.Rate = perSecond
		_, _, at := start(t, site(lab, "relay"), relay.Config{Limits: l})
		a, b := site(lab, "a"), site(lab, "b")
		ends := accept(a)
		reserve(t, a, at)
		near := circuit(t, b, at, a.ID())
		far := <-ends
		began := time.Now()
		var both sync.WaitGroup
		for _, d := range [][2]network.Stream{{near, far}, {far, near}} {
			both.Go(func() { pass(t, d[0], d[1], noise(20*perSecond)) })
		}
		both.Wait()
		if took := time.Since(began); took < 19*time.Second || took > 21*time.Second {
			t.Errorf("20 s worth of bytes took %s", took)
		}
		// The end does not wait for bytes that are held back.
		go func() { _, _ = near.Write(noise(100 * perSecond)) }()
		time.Sleep(time.Second)
		if err := far.Reset(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDurationEndsWhatIsHeldBack: a circuit whose bytes wait for its rate, both ways, ends
// in time all the same, and with the reason.
func TestDurationEndsWhatIsHeldBack(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s, story, at := start(t, site(lab, "relay"), relay.Config{Limits: relay.Limits{Rate: 5, Duration: 3 * time.Second}})
		a, b := site(lab, "a"), site(lab, "b")
		ends := accept(a)
		reserve(t, a, at)
		near := circuit(t, b, at, a.ID())
		far := <-ends
		over := story.since(s.Circuits()[0].Opened, relay.EventCircuitClosed, relay.ReasonDuration)
		for _, st := range []network.Stream{near, far} {
			if _, err := st.Write(noise(5000)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(4 * time.Second)
		if after, ok := over(); !ok || after != 3*time.Second {
			t.Errorf("over %v after %s", ok, after)
		}
	})
}

// TestStalledCircuitsDoNotStarveOthers: bytes that a circuit's reader does not take
// use up the window of the whole QUIC connection (RFC 9000, 4.1), and with it every
// other circuit from the same peer. So they are ended.
func TestStalledCircuitsDoNotStarveOthers(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, story, at := start(t, site(lab, "relay"), relay.Config{Limits: unlimited()})
		src := site(lab, "source")
		ends := make([]<-chan network.Stream, 4)
		var far network.Stream
		var near []network.Stream
		for i := range ends {
			h := site(lab, fmt.Sprint("sink ", i))
			ends[i] = accept(h)
			reserve(t, h, at)
			near = append(near, circuit(t, src, at, h.ID()))
			far = <-ends[i]
		}
		last := len(near) - 1
		for _, st := range near[:last] { // whose readers never read
			go func() { _, _ = st.Write(noise(2 << 20)) }()
		}
		time.Sleep(5 * time.Second)
		began := time.Now()
		pass(t, near[last], far, noise(2<<20))
		if e := story.await(t, relay.EventCircuitClosed); e.Reason != relay.ReasonStalled {
			t.Errorf("%+v", e)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("the reader that reads waited for %s", took)
		}
	})
}

// TestSlowReaderIsNotStalled: little by little is enough.
func TestSlowReaderIsNotStalled(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, _, at := start(t, site(lab, "relay"), relay.Config{Limits: unlimited()})
		a, b := site(lab, "a"), site(lab, "b")
		ends := accept(a)
		reserve(t, a, at)
		near := circuit(t, b, at, a.ID())
		go func() { _, _ = near.Write(noise(4 << 20)) }()
		far := <-ends
		buf := make([]byte, 300<<10)
		for range 8 {
			time.Sleep(15 * time.Second)
			if _, err := io.ReadFull(far, buf); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestSilentDestinationIsGivenUp in the time that the source is told of.
func TestSilentDestinationIsGivenUp(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, story, at := start(t, site(lab, "relay"), relay.Config{})
		a, b := site(lab, "a"), site(lab, "b")
		a.SetStreamHandler(proto.ProtoIDv2Stop, func(network.Stream) {})
		reserve(t, a, at)
		began := time.Now()
		if got := status(t, send(t, b, at, connectTo(a.ID()))).GetStatus(); got != pb.Status_CONNECTION_FAILED {
			t.Error("answered", got)
		}
		if took := time.Since(began); took > 16*time.Second {
			t.Errorf("the answer took %s", took)
		}
		if e := story.await(t, relay.EventCircuitRefused); e.Reason != relay.ReasonDestinationRefused {
			t.Errorf("%+v", e)
		}
	})
}
