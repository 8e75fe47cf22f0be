package replicate

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

const (
	// settle is how long a peer waits for others of its kind that changed or appeared at the same moment.
	settle = 100 * time.Millisecond
	// sessionTime bounds a session that nobody waits for.
	sessionTime = time.Hour
)

// follower begins sessions: with each peer that appears, with all when entries came, and with one of them now and then, since what is
// told once may be lost.
type follower struct {
	s      *Service
	events event.Subscription
	due    map[peer.ID]bool // peers to begin a session with
	busy   map[peer.ID]bool
	ended  chan peer.ID
	begin  *time.Timer
	armed  bool // begin will fire
}

// follow runs until the service ends.
func (s *Service) follow(every time.Duration) error {
	sub, err := s.n.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerProtocolsUpdated),
	}, eventbus.Name("replicate"), eventbus.BufSize(256))
	if err != nil {
		return err
	}
	f := &follower{s: s, events: sub, due: make(map[peer.ID]bool), busy: make(map[peer.ID]bool), ended: make(chan peer.ID)}
	s.running.Go(func() { f.run(every) })
	return nil
}

func (f *follower) run(every time.Duration) {
	defer f.events.Close() // returns nil always
	var sessions sync.WaitGroup
	defer sessions.Wait()
	round := time.NewTimer(spread(every))
	defer round.Stop()
	f.begin = time.NewTimer(settle)
	f.armed = true
	defer f.begin.Stop()
	behind, spreading := f.gossip()
	for {
		select {
		case <-f.s.ctx.Done():
			return
		case e := <-f.events.Out():
			if p, ok := f.appeared(e); ok {
				f.want(p)
			}
		case <-f.s.replica.changes():
			f.want(f.fit()...)
		case p := <-behind:
			f.want(p)
		case <-spreading:
			f.want(f.unreached()...)
		case <-round.C:
			if fit := f.fit(); len(fit) > 0 {
				f.want(fit[rand.IntN(len(fit))])
			}
			round.Reset(spread(every))
		case <-f.begin.C:
			f.armed = false
			for p := range f.due {
				if f.busy[p] {
					continue
				}
				delete(f.due, p)
				f.busy[p] = true
				sessions.Go(func() {
					f.s.sync(p)
					select {
					case f.ended <- p:
					case <-f.s.ctx.Done():
					}
				})
			}
		case p := <-f.ended:
			delete(f.busy, p)
			if f.due[p] {
				f.want(p)
			}
		}
	}
}

// want has sessions held soon. What is wanted meanwhile does not put them off.
func (f *follower) want(peers ...peer.ID) {
	for _, p := range peers {
		f.due[p] = true
	}
	if !f.armed && len(peers) > 0 {
		f.armed = true
		f.begin.Reset(settle)
	}
}

// gossip returns what live messages call for; nil without them.
func (f *follower) gossip() (behind <-chan peer.ID, spread <-chan struct{}) {
	if f.s.live == nil {
		return nil, nil
	}
	return f.s.live.behind, f.s.live.spread
}

// unreached are the peers that take part and get no live messages.
func (f *follower) unreached() (out []peer.ID) {
	reached := f.s.live.reaches()
	for _, p := range f.fit() {
		if !reached[p] {
			out = append(out, p)
		}
	}
	return out
}

// spread is a time between two thirds and four thirds of d.
func spread(d time.Duration) time.Duration { return d*2/3 + rand.N(d*2/3) }

// appeared returns the peer of an event if it takes part.
func (f *follower) appeared(e any) (peer.ID, bool) {
	switch e := e.(type) {
	case event.EvtPeerIdentificationCompleted:
		return e.Peer, slices.Contains(e.Protocols, Protocol)
	case event.EvtPeerProtocolsUpdated:
		return e.Peer, slices.Contains(e.Added, Protocol)
	}
	return "", false
}

// fit are the connected peers that take part.
func (f *follower) fit() (out []peer.ID) {
	for _, p := range f.s.n.Network().Peers() {
		if speaks, err := f.s.n.Peerstore().SupportsProtocols(p, Protocol); err == nil && len(speaks) > 0 {
			out = append(out, p)
		}
	}
	return out
}

// sync is one session that this side begins.
func (s *Service) sync(p peer.ID) {
	conns := s.n.Conns(p)
	if len(conns) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, sessionTime)
	defer cancel()
	e := Event{Peer: p, Began: true, Path: pathOf(conns[0])}
	listed := s.sessions.begin(p, true, e.Path)
	e.Result, e.Err = Do(ctx, s.n, p, s.replica, SyncConfig{SessionConfig: SessionConfig{Idle: s.cfg.Idle, On: listed.came}, OnPath: listed.moved})
	listed.done()
	if s.cfg.On != nil && s.ctx.Err() == nil {
		s.cfg.On(e)
	}
}
