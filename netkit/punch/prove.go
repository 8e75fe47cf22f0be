package punch

import (
	"context"
	"errors"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/ping"

	"github.com/libp2p/go-libp2p/core/network"
)

const (
	// proofTimeout is how long the direct connection may take to carry something.
	proofTimeout = 3 * time.Second
	// pingTimeout is how long one try of it may take, and pingPause the time between two.
	pingTimeout = time.Second
	pingPause   = 20 * time.Millisecond
	// settle is how long both ends have to move to the direct connection before the
	// relayed one is closed, and how often one that still carries streams is looked
	// at again.
	settle = 200 * time.Millisecond
	// shortly is how long the proof waits for the relayed connection to be free.
	shortly = 5 * settle
	// patience is how long it is waited for after that. Its own limits end it, too.
	patience = 2 * time.Minute
)

// errLost means that the direct connection was gone before it carried anything.
var errLost = errors.New("direct connection lost")

// prove sends something over the direct connection, closes the relayed one once it
// has come back, and shows that the direct one does without.
func (s *Service) prove(r *run) error {
	pings, err := s.ping(r)
	c, ok := s.direct(r.peer)
	if !ok {
		return errors.Join(errLost, err)
	}
	r.directNow(c)
	if errors.Is(err, ping.ErrUnsupported) {
		r.proved(pings, false) // there is nothing to send, so the relayed one stays
		return nil
	}
	if err != nil {
		return err
	}
	r.proved(pings, r.relayed == nil)
	if r.relayed == nil || s.cfg.KeepRelayed {
		return nil
	}
	if !s.retire(r.relayed, shortly) {
		s.goRun(func() { s.retire(r.relayed, patience) })
		return nil
	}
	if pings, err = s.ping(r); err != nil {
		return err
	}
	r.proved(pings, true)
	return nil
}

// ping sends a ping over the direct connection, and again where that fails: when both
// ends dialled, each may hang up on the connection that the other one saw first. A dial
// that is given up as it succeeds leaves the other end a connection of which nobody
// knows: where there are two, the one that does not answer goes.
func (s *Service) ping(r *run) (pings ping.Result, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, proofTimeout)
	defer cancel()
	for {
		direct, conns := false, s.n.Conns(r.peer)
		pings, err = ping.Do(ctx, s.n, r.peer, ping.Config{Timeout: pingTimeout, On: func(p ping.Pong) {
			direct = p.Path == addr.PathDirect && p.RTTms != nil
		}})
		if direct || errors.Is(err, ping.ErrUnsupported) {
			return pings, err
		}
		if len(conns) > 1 && !addr.IsRelayed(conns[1].RemoteMultiaddr()) {
			_ = conns[0].Close() // dead either way
		}
		host.Pause(ctx, pingPause)
		if ctx.Err() != nil {
			return pings, errors.Join(errLost, err, s.ctx.Err())
		}
	}
}

// retire closes a relayed connection once nothing is carried on it any more: new
// streams go over the direct one. It reports whether it is closed within the given
// time.
func (s *Service) retire(c network.Conn, within time.Duration) bool {
	for until := time.Now().Add(within); !c.IsClosed(); {
		if s.ctx.Err() != nil || !time.Now().Before(until) {
			return false
		}
		host.Pause(s.ctx, settle)
		if _, ok := s.direct(c.RemotePeer()); !ok {
			return false // it is needed again
		}
		if len(c.GetStreams()) == 0 {
			_ = c.Close() // gone either way
		}
	}
	return true
}
