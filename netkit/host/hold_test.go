package host

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// A server that lives long sees more streams than it ever holds at once.
func TestHeldStreamsAreForgotten(t *testing.T) {
	n, other := loopback(t, Config{}), loopback(t, Config{})
	release := n.HoldStreams()
	open := func() network.Stream {
		t.Helper()
		s, err := other.NewStream(t.Context(), n.ID(), p2panda)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("announce")); err != nil { // nothing is sent before
			t.Fatal(err)
		}
		return s
	}
	holds := func(want int) {
		t.Helper()
		for limit := time.After(10 * time.Second); ; {
			n.held.mu.Lock()
			got := len(n.held.streams)
			n.held.mu.Unlock()
			if got == want {
				return
			}
			select {
			case <-time.After(time.Millisecond):
			case <-limit:
				t.Fatalf("holds %d streams, want %d", got, want)
			}
		}
	}
	if _, err := other.Dial(t.Context(), n.ID(), n.ListenAddrs()); err != nil {
		t.Fatal(err)
	}

	first := open()
	holds(1)
	second := open()
	if _, err := first.Read(make([]byte, 1)); err == nil {
		t.Error("a second stream did not take the place of the first")
	}
	holds(1)
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	holds(0)

	third := open()
	holds(1)
	release()
	if _, err := third.Read(make([]byte, 1)); err == nil {
		t.Error("a stream is held though nobody needs it")
	}
	holds(0)
}

func TestHeldStreamsTakeOnlySoMuch(t *testing.T) {
	n, other := loopback(t, Config{}), loopback(t, Config{})
	defer n.HoldStreams()()
	if _, err := other.Dial(t.Context(), n.ID(), n.ListenAddrs()); err != nil {
		t.Fatal(err)
	}
	s, err := other.NewStream(t.Context(), n.ID(), p2panda)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	said := 0
	for err == nil && said <= 16*maxHeardBytes {
		var wrote int
		wrote, err = s.Write(make([]byte, 1<<16))
		said += wrote
	}
	if said > 16*maxHeardBytes {
		t.Errorf("took %d bytes", said)
	}
}
