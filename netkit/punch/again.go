package punch

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
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
	// doublings is how often: a connection that stays relayed for days is tried once in a
	// quarter of an hour, since what the peer's network becomes does not show at this end.
	doublings = 4
)

// initiateUntilDirect punches for the relayed connection c, which came in, and again
// with growing pauses while it stays relayed: the way between the two may have been cut
// at the time, or one of them has moved since. A move of this end begins with the first
// pause again.
func (s *Service) initiateUntilDirect(c network.Conn) {
	changed, stop := s.n.Changes(c.RemotePeer())
	defer stop()
	defer func() {
		if st := s.expectNone(c); st != nil {
			_ = st.Reset() // there was no need of it
		}
	}()
	for n := 0; ; n++ {
		where, began := s.whereabouts(), time.Now()
		if !s.initiate(c) {
			return
		}
		pause := firstPause << min(n, doublings)
		if !s.staysRelayed(c, pause+rand.N(pause/4), changed, func() bool { // not all at once that lost the same way
			return !slices.Equal(where, s.whereabouts()) && time.Since(began) > firstPause
		}) {
			return
		}
		if !slices.Equal(where, s.whereabouts()) {
			n = -1
		}
	}
}

// whereabouts are the host's own addresses and those at which others see it.
func (s *Service) whereabouts() []netip.Addr {
	ips := s.home()
	for _, o := range s.n.Observations() {
		if ip, ok := addr.IP(o.Addr); ok && addr.ScopeOf(o.Addr) == addr.ScopePublic {
			ips = append(ips, ip)
		}
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	return slices.Compact(ips)
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

// lookAgain is the time between two looks whether this host has moved.
const lookAgain = 10 * time.Second

// staysRelayed waits for so long, or until this host has moved, and reports whether c is
// still the only way to its peer. changed is that of [host.Node.Changes].
func (s *Service) staysRelayed(c network.Conn, most time.Duration, changed <-chan struct{}, moved func() bool) bool {
	due := time.NewTimer(most)
	defer due.Stop()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		if _, direct := s.direct(c.RemotePeer()); direct || c.IsClosed() {
			return false
		}
		select {
		case <-due.C:
			return true
		case <-again.C:
			if moved() {
				return true
			}
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
