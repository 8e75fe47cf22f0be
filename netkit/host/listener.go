package host

import (
	"fmt"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/transport"
)

// UpgradeGatedMaListener returns a listener that says why it ended in the way the swarm expects.
func (u tracedUpgrader) UpgradeGatedMaListener(t transport.Transport, l transport.GatedMaListener) transport.Listener {
	return &endingListener{Listener: u.Upgrader.UpgradeGatedMaListener(t, l)}
}

// endingListener tells its own end from a fault. libp2p's listener does not where it is closed before it came to accept for the
// first time, and the swarm then logs an error each time a host is closed soon after its start.
type endingListener struct {
	transport.Listener
	closed atomic.Bool
}

func (l *endingListener) Close() error {
	l.closed.Store(true)
	return l.Listener.Close()
}

func (l *endingListener) Accept() (transport.CapableConn, error) {
	c, err := l.Listener.Accept()
	if err != nil && l.closed.Load() {
		err = fmt.Errorf("%w: %w", transport.ErrListenerClosed, err)
	}
	return c, err
}
