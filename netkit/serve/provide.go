package serve

import (
	"context"
	"errors"
	"sync"
	"time"

	"dibber/netkit/route"

	"github.com/ipfs/go-cid"
)

const (
	// provideEvery is how often the network of the hash table is told what the node has: entries expire after two days at most, and
	// the nodes that keep them come and go.
	provideEvery = 12 * time.Hour
	// provideAgain is how long after a failure it is tried again.
	provideAgain = 30 * time.Second
)

// ErrNoDHT means that the node takes part in no hash table that keeps providers.
var ErrNoDHT = errors.New("the node takes no part in a distributed hash table that keeps providers")

// ProvideEvent is a CID that the network of the hash table was told of.
type ProvideEvent struct {
	CID cid.Cid
	// Kept is how many peers keep it.
	Kept int
	Err  error
}

// provider tells the network of the hash table under which CIDs the node has blocks.
type provider struct {
	s      *Server
	wake   chan struct{} // the network was joined
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// startProviding provides what the store of blocks has roots of, now and then.
func (s *Server) startProviding() error {
	if s.blocks == nil || s.route == nil || s.cfg.Route.NoRecords {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &provider{s: s, wake: make(chan struct{}, 1), cancel: cancel}
	s.provider.Store(p)
	p.done.Go(func() { p.run(ctx) })
	s.forUs = append(s.forUs, func() error {
		p.cancel()
		p.done.Wait()
		return nil
	})
	return nil
}

func (p *provider) run(ctx context.Context) {
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-due.C:
		case <-p.wake:
		case <-ctx.Done():
			return
		}
		if p.all(ctx) {
			due.Reset(provideEvery)
		} else {
			due.Reset(provideAgain)
		}
	}
}

// all provides every root, and reports whether each is kept by somebody.
func (p *provider) all(ctx context.Context) bool {
	roots, err := p.s.cfg.Blocks.Store.Roots()
	if err != nil {
		p.s.tell(Event{Provided: &ProvideEvent{Err: err}})
		return false
	}
	ok := true
	for _, c := range roots {
		if _, err := p.s.provide(ctx, c); err != nil {
			ok = false
		}
		if ctx.Err() != nil {
			break
		}
	}
	return ok
}

// provide tells the network of one CID.
func (s *Server) provide(ctx context.Context, c cid.Cid) (kept int, err error) {
	k, _, err := s.route.Provide(ctx, c, nil)
	if ctx.Err() == nil {
		s.tell(Event{Provided: &ProvideEvent{CID: c, Kept: k.Kept, Err: err}})
	}
	return k.Kept, err
}

// Provide tells the network of the hash table of a CID under which others are to find the blocks of the node. It returns how many
// peers keep that, and fails with [ErrNoDHT] where there is no such network. Roots of the store are told of again by themselves.
func (s *Server) Provide(ctx context.Context, c cid.Cid) (kept int, err error) {
	if s.provider.Load() == nil {
		return 0, ErrNoDHT
	}
	return s.provide(ctx, c)
}

// routed hands on what happened in the network, and has the roots provided when it was joined.
func (s *Server) routed(e route.Event) {
	if p := s.provider.Load(); p != nil && e.Kind == route.Joined {
		poke(p.wake)
	}
	s.tell(Event{Routed: &e})
}
