package host

import (
	"errors"
	"testing"

	"github.com/libp2p/go-libp2p/core/transport"
)

// brokenListener never accepts anybody, and does not say why in a way that the swarm knows.
type brokenListener struct{ transport.Listener }

var errBroken = errors.New("listener closed")

func (brokenListener) Accept() (transport.CapableConn, error) { return nil, errBroken }
func (brokenListener) Close() error                           { return nil }

type brokenUpgrader struct{ transport.Upgrader }

func (brokenUpgrader) UpgradeGatedMaListener(transport.Transport, transport.GatedMaListener) transport.Listener {
	return brokenListener{}
}

// TestEndOfListener holds that what a listener says after it was closed is its end, and what it says before is a fault.
func TestEndOfListener(t *testing.T) {
	t.Parallel()
	l := tracedUpgrader{brokenUpgrader{}}.UpgradeGatedMaListener(nil, nil)
	if _, err := l.Accept(); !errors.Is(err, errBroken) || errors.Is(err, transport.ErrListenerClosed) {
		t.Errorf("before it is closed: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, transport.ErrListenerClosed) {
		t.Errorf("after it is closed: %v", err)
	}
}
