package punch

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// firstPause is the time until a punch that failed is tried again, doubled from
	// try to try: peers take one a minute.
	firstPause = time.Minute
	// retries is how often that is done: the last is half an hour after the first.
	retries = 5
)

// initiateUntilDirect punches for the relayed connection c, which came in, and again
// with growing pauses while it stays relayed: the way between the two may have been cut
// at the time, or one of them has moved since.
func (s *Service) initiateUntilDirect(c network.Conn) {
	changed, stop := s.n.Changes(c.RemotePeer())
	defer stop()
	for n := range retries + 1 {
		if !s.initiate(c) || n == retries {
			return
		}
		pause := firstPause << n
		if !s.staysRelayed(c, pause+rand.N(pause/4), changed) { // not all at once that lost the same way
			return
		}
	}
}

// beginAfter begins a run for the relayed connection c, which came in, after the one that
// is under way with its peer: where a direct connection is lost before it was proved, it
// takes this end seconds to notice, and the other calls again. It is false where that run
// led to a direct connection after all.
func (s *Service) beginAfter(c network.Conn) (*run, bool) {
	for {
		r, ok := s.beginRelayed(c, Initiator)
		if ok {
			return r, true
		}
		select {
		case <-r.ended:
		case <-s.ctx.Done():
			return r, false
		}
		if r.shown() || r.own().Outcome != Failed || c.IsClosed() {
			return r, false
		}
	}
}

// staysRelayed waits for so long and reports whether c is still the only way to its
// peer. changed is that of [host.Node.Changes].
func (s *Service) staysRelayed(c network.Conn, most time.Duration, changed <-chan struct{}) bool {
	due := time.NewTimer(most)
	defer due.Stop()
	for {
		if _, direct := s.direct(c.RemotePeer()); direct || c.IsClosed() {
			return false
		}
		select {
		case <-due.C:
			return true
		case <-changed:
		case <-s.ctx.Done():
			return false
		}
	}
}

// standsDirect is a direct connection to p on which it answers, if there is one. A
// peer that calls through a relay has mostly lost the direct ones, of which this end
// may not know yet; those are closed.
func (s *Service) standsDirect(p peer.ID) (network.Conn, bool) {
	ctx, cancel := context.WithTimeout(s.ctx, proofTimeout)
	defer cancel()
	var asked sync.WaitGroup
	for _, c := range s.n.Conns(p) {
		if addr.IsRelayed(c.RemoteMultiaddr()) {
			continue
		}
		asked.Go(func() {
			if err := s.n.Responds(ctx, c); err != nil && s.ctx.Err() == nil {
				_ = c.Close() // it is gone either way
			}
		})
	}
	asked.Wait()
	return s.direct(p)
}
