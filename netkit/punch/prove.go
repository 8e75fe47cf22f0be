package punch

import (
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
	// settle is how long both ends have to notice the direct connection before the
	// relayed one is closed, and how often one that still carries streams is looked
	// at again.
	settle = time.Second
	// patience is how long streams on the relayed connection are waited for. Its
	// own limits end it after that.
	patience = 2 * time.Minute
)

// errLost means that the direct connection was gone before it carried anything.
var errLost = errors.New("direct connection lost")

// prove sends something over the direct connection, and closes the relayed one once
// it has come back.
func (s *Service) prove(r *run) error {
	c, ok := s.direct(r.peer)
	if !ok {
		return errLost
	}
	r.directNow(c)
	pings, err := ping.Do(s.ctx, s.n, r.peer, ping.Config{Timeout: proofTimeout, On: func(p ping.Pong) {
		if p.Path != addr.PathDirect {
			ok = false
		}
	}})
	if err != nil && !errors.Is(err, ping.ErrUnsupported) {
		return errors.Join(errLost, err)
	}
	if err == nil && (!ok || pings.Received == 0) {
		return errLost
	}
	r.proved(pings)
	if !s.cfg.KeepRelayed && err == nil {
		s.goRun(func() { s.retire(r.relayed) })
	}
	return nil
}

// retire closes a relayed connection once nothing is carried on it any more: new
// streams go over the direct one.
func (s *Service) retire(c network.Conn) {
	for until := time.Now().Add(patience); time.Now().Before(until) && s.ctx.Err() == nil; {
		host.Pause(s.ctx, settle)
		if c.IsClosed() || s.ctx.Err() != nil {
			return
		}
		if _, ok := s.direct(c.RemotePeer()); !ok {
			return // it is needed again
		}
		if len(c.GetStreams()) == 0 {
			_ = c.Close() // gone either way
			return
		}
	}
}
