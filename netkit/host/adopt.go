package host

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
)

// DialBeside connects to p over exactly one resolved address, also when p is
// connected already, and makes the connection one of the host's. libp2p itself keeps
// to the connection it has; but each transport's address as others see it is only to
// be learned over that transport.
//
// The connection counts as inbound, since it comes to the swarm by a listener: there
// is no other way in.
func (n *Node) DialBeside(ctx context.Context, p peer.ID, a ma.Multiaddr) error {
	c, err := n.DialAddr(ctx, p, a)
	if err != nil {
		return err
	}
	if err := n.adoption.put(ctx, c); err != nil {
		_ = c.CloseWithError(network.ConnShutdown) // the first error is the one to tell
		return fmt.Errorf("dial %s: %w", a, err)
	}
	return nil
}

// adoption brings connections that the host dialled past the swarm into it.
type adoption struct {
	conns chan transport.CapableConn
	ended chan struct{} // closed when nobody takes them any more
	end   func()
}

func newAdoption() *adoption {
	a := &adoption{conns: make(chan transport.CapableConn), ended: make(chan struct{})}
	a.end = sync.OnceFunc(func() { close(a.ended) })
	return a
}

func (a *adoption) put(ctx context.Context, c transport.CapableConn) error {
	select {
	case a.conns <- c:
		return nil
	case <-a.ended:
		return transport.ErrListenerClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// adoptingTransport is the circuit transport, whose listener every host has.
type adoptingTransport struct {
	tracedTransport
	adoption *adoption
}

// Listen implements transport.Transport.
func (t adoptingTransport) Listen(at ma.Multiaddr) (transport.Listener, error) {
	inner, err := t.tracedTransport.Listen(at)
	if err != nil {
		return nil, err
	}
	l := &adoptingListener{Listener: inner, adoption: t.adoption, accepted: make(chan accepted)}
	l.pump.Go(l.accept)
	return l, nil
}

// adoptingListener accepts what the listener in it does, and what is adopted.
type adoptingListener struct {
	transport.Listener
	adoption *adoption
	accepted chan accepted
	pump     sync.WaitGroup
}

// accepted is what an Accept gave.
type accepted struct {
	c   transport.CapableConn
	err error
}

// accept hands on what comes in until the listener ends.
func (l *adoptingListener) accept() {
	for {
		c, err := l.Listener.Accept()
		select {
		case l.accepted <- accepted{c, err}:
		case <-l.adoption.ended:
			if c != nil {
				_ = c.Close() // nobody wants it any more
			}
		}
		if err != nil {
			return
		}
	}
}

// Accept implements transport.Listener.
func (l *adoptingListener) Accept() (transport.CapableConn, error) {
	select {
	case got := <-l.accepted:
		return got.c, got.err
	case c := <-l.adoption.conns:
		return c, nil
	case <-l.adoption.ended:
		return nil, transport.ErrListenerClosed
	}
}

// Close implements transport.Listener.
func (l *adoptingListener) Close() error {
	l.adoption.end()
	err := l.Listener.Close()
	l.pump.Wait()
	if errors.Is(err, transport.ErrListenerClosed) {
		return nil
	}
	return err
}
