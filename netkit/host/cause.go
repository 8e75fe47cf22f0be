package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-yamux/v5"
	"github.com/quic-go/quic-go"
)

// Why a connection ended, where that is known.
var (
	// ErrSilent means that the peer did not answer, and KeepAlive closed.
	ErrSilent = fmt.Errorf("peer did not answer within %s", aliveTimeout)
	// ErrMoved means that the address of this machine has changed, and KeepAlive
	// closed.
	ErrMoved = errors.New("own address changed")
	// ErrPeerClosed means that the peer closed it.
	ErrPeerClosed = errors.New("peer closed the connection")
	// ErrPeerForgot means that the peer knew nothing of it any more, as after a
	// restart (RFC 9000 section 10.3).
	ErrPeerForgot = errors.New("peer knew nothing of the connection any more")
	// ErrCircuitEnded means that the relay of a relayed connection ended the circuit.
	ErrCircuitEnded = errors.New("the relay ended the circuit")
)

// LossCause tells why closed connections ended: the reason of the first of which it
// is known. Nil means that it is not, as when this host closed them for reasons of its
// own.
func (n *Node) LossCause(conns ...network.Conn) error {
	for _, c := range conns {
		if why := n.lossCause(c); why != nil {
			return why
		}
	}
	return nil
}

func (n *Node) lossCause(c network.Conn) error {
	if why := n.watches.why(c); why != nil {
		return why // it may be closing still
	}
	ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(context.Background(), "cause"), time.Second)
	defer cancel()
	for !c.IsClosed() {
		if ctx.Err() != nil || slices.Contains(n.Network().ConnsToPeer(c.RemotePeer()), c) {
			return nil
		}
		Pause(ctx, time.Millisecond) // the host has it no longer: it is closing
	}
	// A closed connection refuses a stream at once, and says why it was closed.
	st, err := c.NewStream(ctx)
	if err == nil {
		_ = st.Reset() // it cannot be: c is closed
		return nil
	}
	var by *network.ConnError
	var below *network.StreamError // of the circuit under a relayed connection
	switch {
	case errors.As(err, &below) && below.Remote && addr.IsRelayed(c.RemoteMultiaddr()):
		return circuitCause(below.ErrorCode)
	case errors.As(err, &by) && by.Remote && by.ErrorCode != network.ConnNoError:
		return fmt.Errorf("%w with code %#x", ErrPeerClosed, uint32(by.ErrorCode))
	case errors.As(err, &by) && by.Remote, errors.Is(err, io.EOF):
		return ErrPeerClosed
	case errors.As(err, new(*quic.StatelessResetError)):
		return ErrPeerForgot
	case by != nil, errors.Is(err, yamux.ErrSessionShutdown), errors.Is(err, swarm.ErrConnClosed),
		errors.Is(err, context.DeadlineExceeded):
		return nil // closed here, or nobody knows
	default:
		return err
	}
}

// circuitCause tells why a relay ended a circuit, as far as the code tells (libp2p/specs
// error-codes).
func circuitCause(code network.StreamErrorCode) error {
	switch code {
	case network.StreamNoError:
		return ErrCircuitEnded // the other peer is gone, or a relay that gives no codes
	case network.StreamResourceLimitExceeded:
		return fmt.Errorf("%w: a limit is reached", ErrCircuitEnded)
	case network.StreamShutdown:
		return fmt.Errorf("%w: it shuts down", ErrCircuitEnded)
	case network.StreamGated:
		return fmt.Errorf("%w: its operator has cut it", ErrCircuitEnded)
	default:
		return fmt.Errorf("%w with code %#x", ErrCircuitEnded, uint32(code))
	}
}

// why is why a watch closed c; nil if none did.
func (all *watches) why(c network.Conn) error {
	all.mu.Lock()
	defer all.mu.Unlock()
	if w := all.of[c.RemotePeer()]; w != nil {
		return w.closed[c]
	}
	return nil
}
