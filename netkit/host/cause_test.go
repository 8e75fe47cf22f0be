package host

import (
	"errors"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
)

// TestCircuitCause pins what is told of the codes with which relays end circuits.
func TestCircuitCause(t *testing.T) {
	for code, want := range map[network.StreamErrorCode]string{
		network.StreamNoError:               "the relay ended the circuit",
		network.StreamResourceLimitExceeded: "the relay ended the circuit: a limit is reached",
		network.StreamShutdown:              "the relay ended the circuit: it shuts down",
		network.StreamGated:                 "the relay ended the circuit: its operator has cut it",
		network.StreamRateLimited:           "the relay ended the circuit with code 0x1003",
	} {
		if err := circuitCause(code); err.Error() != want || !errors.Is(err, ErrCircuitEnded) {
			t.Errorf("%#x: %v, want %s", uint32(code), err, want)
		}
	}
}

// closing is a connection that is being closed: it is no longer one of the host's, and does not say yet that it is closed.
type closing struct {
	network.Conn
	asked int
}

func (c *closing) IsClosed() bool {
	c.asked++
	return c.asked > 2 && c.Conn.IsClosed()
}

// TestCauseWhileClosing: why a connection ends is known as soon as the host has it no longer.
func TestCauseWhileClosing(t *testing.T) {
	a, b := quicHost(t), quicHost(t)
	c, err := a.Dial(t.Context(), b.ID(), b.ListenAddrs())
	if err != nil {
		t.Fatal(err)
	}
	<-a.Identified(c) // the other end has it, too
	// Of a peer that closes, what comes first may be its answer to a packet that was under way: that it knows of no such connection.
	if err := a.LossCause(c); err != nil {
		t.Errorf("an open connection: %v", err)
	}
	changed, stop := a.Changes(b.ID())
	defer stop()
	if err := b.Network().ClosePeer(a.ID()); err != nil {
		t.Fatal(err)
	}
	for len(a.Conns(b.ID())) > 0 {
		<-changed
	}
	if err := a.LossCause(&closing{Conn: c}); !errors.Is(err, ErrPeerClosed) && !errors.Is(err, ErrPeerForgot) {
		t.Errorf("%v, want that the peer closed it", err)
	}
}
