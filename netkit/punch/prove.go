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
	c, ok := s.direct(r.peer)
	if !ok {
		return errLost
	}
	r.directNow(c)
	pings, err := s.ping(r)
	if errors.Is(err, ping.ErrUnsupported) {
		r.proved(pings, false) // there is nothing to send, so the relayed one stays
		return nil
	}
	if err != nil {
		return err
	}
	r.proved(pings, false)
	if s.cfg.KeepRelayed {
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

// ping sends one ping over the direct connection.
func (s *Service) ping(r *run) (ping.Result, error) {
	direct := true
	pings, err := ping.Do(s.ctx, s.n, r.peer, ping.Config{Timeout: proofTimeout, On: func(p ping.Pong) {
		direct = p.Path == addr.PathDirect
	}})
	switch {
	case errors.Is(err, ping.ErrUnsupported):
		return pings, err
	case err != nil:
		return pings, errors.Join(errLost, err)
	case !direct || pings.Received == 0:
		return pings, errLost
	}
	return pings, nil
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
